import type { WorkerColumns } from "../../domain/PoolView.ts"
import { Ewma } from "../../structures/Ewma.ts"
import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Its own requests this balancer knows to the last one; what others put on a worker it knows from heartbeats only, late and in jumps. So the
 * first are counted as they are and only the rest is smoothed: a heartbeat never hides what was sent since.
 */
export const leastLoaded = definePlacement(
  {
    name: "least-loaded",
    summary: "The worker with the fewest requests for its speed, those of other balancers included.",
    definition:
      "Least (inFlight + others) / speed over all eligible workers. With every heartbeat others is averaged over " +
      "max(0, running + waiting − inFlight), what came before weighing e^(−Δ/smoothing) after Δ; it is 0 before the first. " +
      "Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "Dahlin, Interpreting stale load information, IEEE TPDS 11(10), 2000; last report plus own dispatches since it",
    stability: "stable",
    family: "argmin",
    unit: "requests"
  },
  {
    smoothing: {
      kind: "duration",
      default: 1000,
      minimum: 1,
      maximum: 60_000,
      unit: "ms",
      summary:
        "Time in which a heartbeat loses most of its weight. Larger values follow the load of other balancers more slowly, and keep balancers " +
        "from all running to the worker that was reported idle."
    }
  },
  ({ smoothing }) => {
    const others = new Ewma(smoothing)
    const least = new LeastCost()
    return {
      pick: (request, { workers, eligible, eligibleCount }) => {
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const requests = workers.inFlight[worker]! + others.at(worker)
          least.offer(workers, worker, requests / workers.speed[worker]!)
        }
        return least.worker
      },
      terms: (_request, worker, { workers: { inFlight, speed } }) => ({
        inFlight: inFlight[worker]! / speed[worker]!,
        others: others.at(worker) / speed[worker]!
      }),
      observed: (worker, { workers }, nowMs) =>
        others.record(worker, reportedByOthers(workers, worker), nowMs),
      changed: (worker) => others.reset(worker)
    }
  }
)

/** Requests that a worker's heartbeat tells of beyond those of this balancer. */
const reportedByOthers = ({ running, waiting, inFlight }: WorkerColumns, worker: number): number =>
  Math.max(0, running[worker]! + waiting[worker]! - inFlight[worker]!)
