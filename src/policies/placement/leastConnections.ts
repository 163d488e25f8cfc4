import type { WorkerColumns } from "../../domain/PoolView.ts"
import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
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
    family: "argmin",
    unit: "requests"
  },
  {},
  () => {
    const least = new LeastCost()
    return {
      pick: (request, { workers, eligible, eligibleCount }) => {
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++)
          least.offer(workers, eligible[i]!, requestsForSpeed(workers, eligible[i]!))
        return least.worker
      },
      terms: (_request, worker, { workers }) => ({ inFlight: requestsForSpeed(workers, worker) })
    }
  }
)

const requestsForSpeed = ({ inFlight, speed }: WorkerColumns, worker: number): number =>
  inFlight[worker]! / speed[worker]!
