import { mix } from "../../structures/hash.ts"
import { sessionState } from "../affinity.ts"
import { definePlacement } from "../Placement.ts"
import { powerOfTwo } from "./powerOfTwo.ts"

/**
 * Keeps no table: the hash alone finds the worker again, in every balancer and after a restart. When the home of a session is not
 * eligible (full, draining, lost) its requests go to the second-best score and return later.
 */
export const sessionAffinity = definePlacement(
  {
    name: "session-affinity",
    summary: "The same worker for all requests of a session, so that it finds its prefix cache again.",
    definition:
      "The highest rendezvous score of (session, worker key) over the eligible workers. Removing a worker moves its own sessions " +
      "only; a worker that joins takes 1/(N+1) of the sessions, evenly. Load is not looked at. " +
      "A request without a session goes to the less loaded of two random workers.",
    cost: "O(N)",
    source:
      "Thaler and Ravishankar, Using name-based mappings to increase hit rates, IEEE/ACM ToN 6(1), 1998",
    stability: "stable",
    family: "sticky"
  },
  {},
  (_, rng) => {
    const withoutSession = powerOfTwo.make({}, rng)
    return {
      pick: (request, pool, nowMs) => {
        const session = sessionState(request)
        if (session < 0) return withoutSession.pick(request, pool, nowMs)
        const { keyHigh, keyLow } = pool.workers
        let best = -1
        let bestScore = -1
        for (let i = 0; i < pool.eligibleCount; i++) {
          const slot = pool.eligible[i]!
          const score = mix(session, keyHigh[slot]!, keyLow[slot]!)
          if (score > bestScore) {
            best = slot
            bestScore = score
          }
        }
        return best
      }
    }
  }
)
