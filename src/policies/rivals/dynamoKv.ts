import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/** Both of its forms: the linear score it ships with, and the product that it calls lmetric. */
export const dynamoKv = definePlacement(
  {
    name: "dynamo-kv",
    rival: "NVIDIA Dynamo's KV router",
    summary: "What Dynamo's KV router does: least blocks to prefill plus blocks in use, or their product.",
    definition:
      "With P the prompt blocks pending at a worker plus those of the request that it does not hold, and D the blocks its requests hold: " +
      "linear takes the least P + D + the request's blocks, lmetric the least P · (requests that decode there + 1). Temperature 0, " +
      "overlap credit 1. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "ai-dynamo/dynamo docs/components/router/router-concepts.md and lib/kv-router/src/scheduling/selector/default.rs, read 2026-08",
    stability: "stable",
    family: "argmin",
    unit: "score",
    uses: ["prefixes"]
  },
  {
    form: {
      kind: "choice",
      default: "linear",
      choices: ["linear", "lmetric"],
      summary: "Sum or product; the product is LMetric's (arXiv 2603.15202)."
    }
  },
  ({ form }) => {
    const least = new LeastCost()
    return {
      pick: (request, pool) => {
        const { blockTokens, eligible, eligibleCount, workers } = pool
        const { contextTokens, inFlight, pendingPrefillTokens, prefilling } = workers
        const cached = pool.cachedTokens(request)
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const prefill =
            (pendingPrefillTokens[worker]! + request.promptTokens - cached[worker]!) / blockTokens
          const cost =
            form === "linear"
              ? prefill + (contextTokens[worker]! + request.promptTokens) / blockTokens
              : prefill * (inFlight[worker]! - prefilling[worker]! + 1)
          least.offer(workers, worker, cost)
        }
        return least.worker
      }
    }
  }
)
