import { requestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/** Its code and its description give different numbers; both sets are here. */
export const aibrixPrefix = definePlacement(
  {
    name: "aibrix-prefix",
    rival: "AIBrix's prefix-cache",
    summary:
      "What AIBrix does: the longest match among workers that are not much busier than the mean, unless loads differ too much.",
    definition:
      "With running requests as load: where max − min > `gap`, the least loaded worker. Else the one that holds most of the prompt among " +
      "those with a load of at most mean + `sigma` standard deviations, and of those that hold as much the least loaded. `defaults` code: " +
      "gap 8, sigma 1; readme: 16, 2. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "vllm-project/aibrix pkg/plugins/gateway/algorithms/prefix_cache.go and prefix_cache_readme.md, read 2026-08",
    stability: "stable",
    family: "filtered",
    unit: "score",
    uses: ["prefixes"]
  },
  {
    defaults: {
      kind: "choice",
      default: "code",
      choices: ["code", "readme"],
      summary: "Which of the two published sets of thresholds. `readme` follows prefixes to busier workers."
    }
  },
  ({ defaults }) => {
    const [gap, sigma] = defaults === "code" ? [8, 1] : [16, 2]
    const least = new LeastCost()
    const matching = new LeastCost()
    return {
      pick: (request, pool) => {
        const { eligible, eligibleCount, workers } = pool
        const { inFlight } = workers
        const cached = pool.cachedTokens(request)
        const key = requestState(request)
        let min = Number.POSITIVE_INFINITY
        let max = 0
        let sum = 0
        let squares = 0
        for (let i = 0; i < eligibleCount; i++) {
          const load = inFlight[eligible[i]!]!
          min = Math.min(min, load)
          max = Math.max(max, load)
          sum += load
          squares += load * load
        }
        const mean = sum / eligibleCount
        const ceiling = mean + sigma * Math.sqrt(Math.max(0, squares / eligibleCount - mean * mean))
        least.start(key)
        matching.start(key)
        let longest = 0
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          const load = inFlight[worker]!
          least.offer(workers, worker, load)
          if (load > ceiling || cached[worker]! < longest) continue
          if (cached[worker]! > longest) matching.start(key)
          longest = cached[worker]!
          matching.offer(workers, worker, load)
        }
        return max - min > gap || matching.worker < 0 ? least.worker : matching.worker
      }
    }
  }
)
