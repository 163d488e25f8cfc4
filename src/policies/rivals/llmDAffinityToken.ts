import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/** "Sticky until saturated": the default of llm-d since August 2026. */
export const llmDAffinityToken = definePlacement(
  {
    name: "llm-d-affinity-token",
    rival: "llm-d's prefix-cache-affinity-filter with token-load-scorer",
    summary:
      "What llm-d does: among workers that hold most of the prompt the one with the fewest tokens, unless they are too far behind.",
    definition:
      "Sticky are the workers that hold at least `match` of the prompt, and some of it. Where there are some, and the one of them with the fewest tokens in " +
      "flight has at most `penalty` more to prefill than the least of all workers (at `throughput`), only these count; else all do. Of those " +
      "that count, the least tokens in flight (prompts and outputs). Ties go to the highest rendezvous score of (request id, worker key). " +
      "No exploration.",
    cost: "O(N)",
    source:
      "llm-d/llm-d-router pkg/epp/framework/plugins/scheduling/filter/prefixcacheaffinity/README.md and token-load-scorer, read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "tokens",
    uses: ["prefixes"]
  },
  {
    match: {
      kind: "number",
      default: 0.8,
      minimum: 0,
      maximum: 1,
      summary: "Share of the prompt that a sticky worker holds. Lower makes more workers sticky."
    },
    penalty: {
      kind: "duration",
      default: 18_000,
      minimum: 0,
      unit: "ms",
      summary: "Prefill time that sticking may cost. Lower gives up affinity sooner."
    },
    throughput: {
      kind: "number",
      default: 15_928,
      minimum: 1,
      unit: "tokens/s",
      summary: "Prompt tokens a worker computes in a second at its peak. Higher gives up affinity later."
    }
  },
  ({ match, penalty, throughput }) => {
    const sticky = new LeastCost()
    const any = new LeastCost()
    return {
      pick: (request, pool) => {
        const { eligible, eligibleCount, workers } = pool
        const { contextTokens, pendingPrefillTokens } = workers
        const cached = pool.cachedTokens(request)
        const key = requestState(request)
        let leastPending = Number.POSITIVE_INFINITY
        sticky.start(key)
        any.start(key)
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          leastPending = Math.min(leastPending, pendingPrefillTokens[worker]!)
          any.offer(workers, worker, contextTokens[worker]!)
          if (cached[worker]! > 0 && cached[worker]! >= match * request.promptTokens)
            sticky.offer(workers, worker, contextTokens[worker]!)
        }
        if (sticky.worker < 0) return any.worker
        const behindMs = ((pendingPrefillTokens[sticky.worker]! - leastPending) / throughput) * 1000
        return behindMs <= penalty ? sticky.worker : any.worker
      }
    }
  }
)
