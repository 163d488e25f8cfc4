import type { WorkerColumns } from "../../domain/PoolView.ts"
import { Ewma } from "../../structures/Ewma.ts"
import { requestState } from "../affinity.ts"
import { LeastEligible } from "../LeastEligible.ts"
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
      "Ties go to the first of them in the order of keys, round the end, from the eligible worker on that the hash of the request id draws.",
    cost: "O(log N)",
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
    const requestsForSpeed = ({ inFlight, speed }: WorkerColumns, worker: number): number =>
      (inFlight[worker]! + others.at(worker)) / speed[worker]!
    const least = new LeastEligible(requestsForSpeed)
    return {
      pick: (request, pool) => least.pick(pool, requestState(request)),
      touched: (worker, eligible, pool) => least.touched(worker, eligible, pool),
      terms: (_request, worker, { workers: { inFlight, speed } }) => ({
        inFlight: inFlight[worker]! / speed[worker]!,
        others: others.at(worker) / speed[worker]!
      }),
      observed: (worker, { workers }, nowMs) =>
        others.record(worker, reportedByOthers(workers, worker), nowMs),
      changed: (worker, ready) => {
        others.reset(worker)
        least.changed(worker, ready)
      }
    }
  }
)

/** Requests that a worker's heartbeat tells of beyond those of this balancer. */
const reportedByOthers = ({ running, waiting, inFlight }: WorkerColumns, worker: number): number =>
  Math.max(0, running[worker]! + waiting[worker]! - inFlight[worker]!)
