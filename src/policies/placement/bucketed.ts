import type { WorkerColumns } from "../../domain/PoolView.ts"
import { requestState } from "../affinity.ts"
import { pendingMs, prefillMs } from "../costs.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Long prompts get workers of their own, so that short ones never stand behind them. How many follows from how much of the work they are: each
 * worker of either lane has the same share of it, and with prompts of one kind there is one lane.
 */
export const bucketed = definePlacement(
  {
    name: "bucketed",
    summary: "Long prompts go to workers of their own, so that short ones need not wait behind them.",
    definition:
      "Prompts of at least longTokens are long. The share of long ones in all uncached prompt tokens placed, each weighing e^(−Δ/window) after Δ, is the share " +
      "of the eligible workers that make the long lane, rounded: those with the smallest keys. The others are the short lane; where one " +
      "lane has no worker, the other takes all prompts. In its lane a request goes to the least time to compute the prompts pending " +
      "there and its own. Where prompts are pending at the worker found for a short one, it goes to one of the long lane that has none, if that is " +
      "sooner. Ties go to the highest rendezvous score of (request id, worker key).",
    cost: "O(N)",
    source:
      "size interval task assignment with equal load; Harchol-Balter, Crovella, Murta, JPDC 59(2), 1999",
    stability: "stable",
    family: "filtered",
    unit: "seconds",
    uses: ["forecast"]
  },
  {
    longTokens: {
      kind: "integer",
      default: 32_768,
      minimum: 1,
      maximum: 16_777_216,
      unit: "tokens",
      summary:
        "Prompts from this length on are long. Smaller values keep short prompts apart from more of the others, and make the long lane larger."
    },
    window: {
      kind: "duration",
      default: 60_000,
      minimum: 1,
      maximum: 86_400_000,
      unit: "ms",
      summary:
        "Time in which placed work loses most of its weight. Larger values let the lanes follow a change more slowly, and move workers between them less."
    }
  },
  ({ longTokens, window }) => {
    const least = new LeastCost()
    /** Uncached prompt tokens placed, as they weighed at `sinceMs`. */
    let longWork = 0
    let allWork = 0
    let sinceMs = 0
    return {
      pick: (request, { workers, eligible, eligibleCount }) => {
        const { promptTokens } = request
        const { pendingPrefillTokens } = workers
        const longShare = allWork === 0 ? 0 : longWork / allWork
        const longCount = Math.round(longShare * eligibleCount)
        const isOneLane = longCount === 0 || longCount === eligibleCount
        const isLong = promptTokens >= longTokens
        const from = isOneLane || isLong ? 0 : longCount
        const to = isOneLane || !isLong ? eligibleCount : longCount
        least.start(requestState(request))
        for (let i = from; i < to; i++)
          least.offer(workers, eligible[i]!, costMs(workers, eligible[i]!, promptTokens))
        if (from === 0 || pendingPrefillTokens[least.worker] === 0) return least.worker
        for (let i = 0; i < from; i++) {
          const worker = eligible[i]!
          if (pendingPrefillTokens[worker] === 0)
            least.offer(workers, worker, costMs(workers, worker, promptTokens))
        }
        return least.worker
      },
      placed: ({ promptTokens, uncachedTokens }, _worker, _pool, nowMs) => {
        // A copy that outlived the first attempt is told of late, as of when it was sent.
        const untilMs = Math.max(sinceMs, nowMs)
        const left = Math.exp((sinceMs - untilMs) / window)
        longWork = longWork * left + (promptTokens >= longTokens ? uncachedTokens : 0)
        allWork = allWork * left + uncachedTokens
        sinceMs = untilMs
      }
    }
  }
)

const costMs = (workers: WorkerColumns, worker: number, promptTokens: number): number =>
  pendingMs(workers, worker) + prefillMs(workers, worker, promptTokens, 0)
