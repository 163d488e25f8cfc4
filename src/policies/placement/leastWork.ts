import type { WorkerColumns } from "../../domain/PoolView.ts"
import { requestState } from "../affinity.ts"
import { pendingMs, prefillMs } from "../costs.ts"
import { kvBarrierMs } from "../barriers.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Requests differ by a factor of a thousand in what they cost, so their tokens are counted in place of their number, and at what a token costs
 * on this worker. Where the engines serve in order of arrival, the worker with the least to do is the one that answers first.
 */
export const leastWork = definePlacement(
  {
    name: "least-work",
    summary: "The worker that will have computed the prompts given to it, this one included, soonest.",
    definition:
      "Least pending + own + kvBarrier·k / (1 − k) over all eligible workers: the time to compute the prompts that are pending there, and this one with " +
      "nothing cached, at the step costs fitted to the worker; k is the share of its KV cache that this prompt and the larger of what it reported and what " +
      "was sent there fill, at most 0.99, and 0 where the size is unknown. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "least work left; the barrier of SMG, model_gateway/src/policies/least_load.rs, here on work in place of a count over a rate",
    stability: "stable",
    family: "argmin",
    unit: "seconds",
    uses: ["forecast"]
  },
  {
    kvBarrier: {
      kind: "duration",
      default: 150,
      minimum: 0,
      maximum: 60_000,
      unit: "ms",
      summary:
        "What a half full KV cache costs; one nine tenths full costs nine times as much. Larger values move requests away from full caches earlier."
    }
  },
  ({ kvBarrier }) => {
    const least = new LeastCost()
    return {
      pick: (request, { workers, eligible, eligibleCount }) => {
        const { promptTokens } = request
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++)
          least.offer(workers, eligible[i]!, costMs(workers, eligible[i]!, promptTokens, kvBarrier))
        return least.worker
      },
      terms: ({ promptTokens }, worker, { workers }) => ({
        pending: pendingMs(workers, worker) / 1000,
        own: prefillMs(workers, worker, promptTokens, 0) / 1000,
        kv: kvBarrierMs(workers, worker, promptTokens, kvBarrier) / 1000
      })
    }
  }
)

const costMs = (workers: WorkerColumns, worker: number, promptTokens: number, kvBarrier: number): number =>
  pendingMs(workers, worker) +
  prefillMs(workers, worker, promptTokens, 0) +
  kvBarrierMs(workers, worker, promptTokens, kvBarrier)
