import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/** A share of the prompt against a share of the mean load: two figures without a common unit. */
export const productionStackLoadAware = definePlacement(
  {
    name: "production-stack-load-aware",
    rival: "vLLM production-stack's loadaware",
    summary:
      "What vLLM's production-stack does: the matched share of the prompt, less how far the worker is above the mean load.",
    definition:
      "Most matched / prompt − `beta` · (load − mean) / max(1, mean), with requests in flight as load. Ties go to the highest rendezvous " +
      "score of (request id, worker key).",
    cost: "O(N)",
    source: "vllm-project/production-stack src/vllm_router, loadaware, read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "score",
    uses: ["prefixes"]
  },
  {
    beta: {
      kind: "number",
      default: 1,
      minimum: 0,
      summary: "Weight of the load. Higher gives up prefixes sooner."
    }
  },
  ({ beta }) => {
    const least = new LeastCost()
    return {
      pick: (request, pool) => {
        const { eligible, eligibleCount, workers } = pool
        const { inFlight } = workers
        const cached = pool.cachedTokens(request)
        let sum = 0
        for (let i = 0; i < eligibleCount; i++) sum += inFlight[eligible[i]!]!
        const mean = sum / eligibleCount
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const share = cached[worker]! / Math.max(1, request.promptTokens)
          least.offer(workers, worker, (beta * (inFlight[worker]! - mean)) / Math.max(1, mean) - share)
        }
        return least.worker
      }
    }
  }
)
