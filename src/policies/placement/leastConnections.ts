import { mix } from "../../structures/hash.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Join the shortest queue, with queues measured in requests. It reads the balancer's own count, which includes what was sent since
 * the last heartbeat, so a burst spreads evenly and nothing herds onto one worker.
 */
export const leastConnections = definePlacement(
  {
    name: "least-connections",
    summary: "The worker with the fewest requests in flight for its speed.",
    definition:
      "Least inFlight / speed over all eligible workers. Ties go to the highest rendezvous score of (request id, worker key): " +
      "spread evenly over requests, and the same for one request wherever it is decided. " +
      "A request counts the same whatever its length, so unequal prompts are its weakness.",
    cost: "O(N)",
    source:
      "join the shortest queue; Winston, Optimality of the shortest line discipline, J. Appl. Prob. 14, 1977",
    stability: "stable",
    family: "argmin"
  },
  {},
  () => ({
    pick: ({ idHigh, idLow }, { workers: { inFlight, speed, keyHigh, keyLow }, eligible, eligibleCount }) => {
      if (eligibleCount === 0) return -1
      const requestState = mix(0, idHigh, idLow)
      let best = -1
      let bestLoad = Number.POSITIVE_INFINITY
      let bestScore = -1
      for (let i = 0; i < eligibleCount; i++) {
        const slot = eligible[i]!
        const load = inFlight[slot]! / speed[slot]!
        if (load > bestLoad) continue
        const score = mix(requestState, keyHigh[slot]!, keyLow[slot]!)
        if (load === bestLoad && score <= bestScore) continue
        best = slot
        bestLoad = load
        bestScore = score
      }
      return best
    }
  })
)
