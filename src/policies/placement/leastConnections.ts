import type { WorkerColumns } from "../../domain/PoolView.ts"
import { requestState } from "../affinity.ts"
import { LeastEligible } from "../LeastEligible.ts"
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
      "Least inFlight / speed over all eligible workers. Ties go to the first of them in the order of keys, round the end, from the eligible worker on " +
      "that the hash of the request id draws: spread evenly over requests, and the same for one request wherever it is decided. " +
      "A request counts the same whatever its length, so unequal prompts are its weakness.",
    cost: "O(log N)",
    source:
      "join the shortest queue; Winston, Optimality of the shortest line discipline, J. Appl. Prob. 14, 1977",
    stability: "stable",
    family: "argmin",
    unit: "requests"
  },
  {},
  () => {
    const least = new LeastEligible(requestsForSpeed)
    return {
      pick: (request, pool) => least.pick(pool, requestState(request)),
      touched: (worker, eligible, pool) => least.touched(worker, eligible, pool),
      changed: (worker, ready) => least.changed(worker, ready),
      terms: (_request, worker, { workers }) => ({ inFlight: requestsForSpeed(workers, worker) })
    }
  }
)

const requestsForSpeed = ({ inFlight, speed }: WorkerColumns, worker: number): number =>
  inFlight[worker]! / speed[worker]!
