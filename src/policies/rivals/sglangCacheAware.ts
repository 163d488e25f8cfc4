import { floats, grow } from "../../structures/grow.ts"
import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * The router of SGLang, today SMG, as it decides with KV events. Its two sets of defaults are both in use: that of the library, and that
 * of the command line. Two things differ on purpose: the index is exact where theirs may be a tree that forgets by age, and ties are not
 * broken by index, which would be its known fault of piling misses onto the first worker.
 */
export const sglangCacheAware = definePlacement(
  {
    name: "sglang-cache-aware",
    rival: "SGLang's and SMG's cache_aware",
    summary:
      "What SGLang's router does: the longest match if it is long enough, the least busy worker when loads drift apart.",
    definition:
      "With in-flight requests as load: where max − min > `gap` and max > `ratio` · min, the least loaded worker. Else the worker with the " +
      "longest matching prefix if that is more than `match` of the prompt, else the one that holds the fewest blocks; here: the least " +
      "pending prompt tokens given to it so far, which is what fills its tree. `defaults` library: match 0.5, gap 32, ratio 1.1; command: " +
      "0.3, 64, 1.5. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source: "lightseekorg/smg model_gateway/src/policies/cache_aware.rs, read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "score",
    uses: ["prefixes"]
  },
  {
    defaults: {
      kind: "choice",
      default: "library",
      choices: ["library", "command"],
      summary:
        "Which of the two published sets of thresholds. `command` follows shorter matches, and lets loads drift further apart."
    }
  },
  ({ defaults }) => {
    const [match, gap, ratio] = defaults === "library" ? [0.5, 32, 1.1] : [0.3, 64, 1.5]
    const least = new LeastCost()
    /** By worker: prompt tokens that were sent there and not found, since it joined. */
    let filled = new Float64Array(0)
    return {
      pick: (request, pool) => {
        const { eligible, eligibleCount, workers } = pool
        const { inFlight } = workers
        if (filled.length < inFlight.length) filled = grow(filled, inFlight.length - 1, floats)
        let min = Number.POSITIVE_INFINITY
        let max = 0
        for (let i = 0; i < eligibleCount; i++) {
          const load = inFlight[eligible[i]!]!
          min = Math.min(min, load)
          max = Math.max(max, load)
        }
        const imbalanced = max - min > gap && max > ratio * min
        const cached = pool.cachedTokens(request)
        let longest = 0
        for (let i = 0; i < eligibleCount; i++) longest = Math.max(longest, cached[eligible[i]!]!)
        const byMatch = longest > match * request.promptTokens
        least.start(requestState(request))
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const cost = imbalanced ? inFlight[worker]! : byMatch ? -cached[worker]! : filled[worker]!
          least.offer(workers, worker, cost)
        }
        return least.worker
      },
      placed: ({ uncachedTokens }, worker) => {
        if (worker < filled.length) filled[worker]! += uncachedTokens
      },
      changed: (worker, ready) => {
        if (!ready && worker < filled.length) filled[worker] = 0
      }
    }
  }
)
