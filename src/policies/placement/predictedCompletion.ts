import { sessionOrRequestState } from "../affinity.ts"
import { CompletionCosts } from "../CompletionCosts.ts"
import { CHUNK_TOKENS } from "../costs.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Everything a choice of worker changes, in one unit: what the request itself waits for, and what those wait for whom it joins. A prefix
 * that is held somewhere, a long prompt ahead in the queue, a slow worker and a full KV cache thus outweigh each other by what they cost.
 *
 * Speeds enter through the step costs fitted to each worker alone. Dividing by `speed` too would count them twice.
 */
export const predictedCompletion = definePlacement(
  {
    name: "predicted-completion",
    summary:
      "The worker where the first token is predicted soonest, counting the delay inflicted on those already there.",
    definition:
      "Least TTFT + externality·E over all eligible workers, with step costs fitted to each worker. TTFT = prefill of the prompts pending there + prefill of " +
      "the prompt's uncached tokens + ⌈(pending + uncached tokens) / chunkTokens⌉ decode steps, at least one + the wait until prompt and " +
      "expected answer fit into the KV cache. E = requests in flight × (own prefill + what the expected answer adds to their steps), so an idle " +
      "worker is charged its own step and no more. Cached are blocks the worker reported or was sent before; the expected answer is " +
      "the tenant's mean. Ties go to the highest rendezvous score of (session or, without one, request id; worker key).",
    cost: "O(N)",
    source:
      "completion-time placement with marginal delay; reduces to the product of LMetric (arXiv 2603.15202) where nothing waits",
    stability: "stable",
    family: "argmin",
    unit: "seconds",
    uses: ["prefixes", "forecast"]
  },
  {
    externality: {
      kind: "number",
      default: 0.25,
      minimum: 0,
      maximum: 1,
      summary:
        "Weight of the delay inflicted on others. At 0 each request goes where its own first token comes soonest; larger values keep " +
        "long prompts away from busy workers, which pays under overload and delays first tokens otherwise."
    },
    chunkTokens: {
      kind: "integer",
      default: CHUNK_TOKENS,
      minimum: 16,
      maximum: 1_048_576,
      unit: "tokens",
      summary:
        "Prompt tokens that the engines compute in one step. Smaller values charge more steps for the same prompts, and so weigh the " +
        "sequences that decode there more."
    }
  },
  ({ externality, chunkTokens }) => {
    const least = new LeastCost()
    const costs = new CompletionCosts(chunkTokens, externality)
    return {
      pick: (request, pool) => {
        const { workers, eligible, eligibleCount, forecast } = pool
        const costMs = costs.of(request, pool, eligible, eligibleCount, forecast.meanOutputTokens(request))
        least.start(sessionOrRequestState(request))
        for (let i = 0; i < eligibleCount; i++) least.offer(workers, eligible[i]!, costMs[eligible[i]!]!)
        return least.worker
      },
      terms: (request, worker, pool) =>
        costs.terms(request, pool, worker, pool.forecast.meanOutputTokens(request))
    }
  }
)
