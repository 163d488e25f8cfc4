import type { WorkerColumns } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { bytes, grow } from "../../structures/grow.ts"
import { comparePlaced } from "../comparePlaced.ts"
import { LeastCost } from "../LeastCost.ts"
import { defineRescue } from "../Rescue.ts"

/**
 * Evens out what streams, where engines can hand a sequence with its KV cache to another worker. Where they cannot, the action is refused and
 * nothing happens.
 */
export const migrate = defineRescue(
  {
    name: "migrate",
    summary:
      "Moves a streaming request from the worker whose KV cache is fullest to the emptiest, where engines can: none can yet.",
    definition:
      "Load is the KV tokens of what was placed at a worker, as a share of its cache. The fullest of those with streaming requests, if above " +
      "`above`, is paired with the emptiest eligible worker. Of its streaming requests the largest one is moved, by prompt and tokens so " +
      "far, that leaves the difference of the two smaller than before and above 0, and the emptiest at `above` at most. One move a review, " +
      "each request once. Workers whose cache is of unknown size are left out. Ties go to the highest rendezvous score of the worker's " +
      "key, and to the request placed first.",
    action: "migrate",
    cost: "O(N)",
    source: "Sun et al., Llumnix, OSDI 2024 (pairing of most and least loaded instances)",
    stability: "experimental"
  },
  {
    above: {
      kind: "number",
      default: 0.8,
      minimum: 0,
      maximum: 1,
      summary: "Share of a KV cache in use from which its worker is relieved. Lower moves sooner."
    }
  },
  ({ above }) => {
    const fullest = new LeastCost()
    const emptiest = new LeastCost()
    /** By slot: whether the request was moved once. */
    let moved = new Uint8Array(0)
    return {
      admitted: ({ slot }) => {
        if (slot >= moved.length) moved = grow(moved, slot, bytes)
        moved[slot] = 0
      },
      review: (pool, placed, { migrate }) => {
        const { eligible, eligibleCount, workers } = pool
        const { kvCapacityTokens } = workers
        fullest.start(0)
        placed.streaming((_request, worker) => {
          if (kvCapacityTokens[worker]! > 0) fullest.offer(workers, worker, -shareOf(workers, worker))
        })
        const fromShare = -fullest.cost
        if (fromShare <= above) return
        emptiest.start(0)
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          if (kvCapacityTokens[worker]! > 0) emptiest.offer(workers, worker, shareOf(workers, worker))
        }
        const [from, to] = [fullest.worker, emptiest.worker]
        if (to < 0 || to === from) return
        const toShare = emptiest.cost
        let best: RequestView | undefined
        let bestTokens = 0
        let bestMs = 0
        placed.streaming((request, worker, placedMs) => {
          if (worker !== from || moved[request.slot] === 1) return
          const tokens = request.promptTokens + request.outputTokens
          const afterwards = toShare + tokens / kvCapacityTokens[to]!
          const difference = fromShare - tokens / kvCapacityTokens[from]! - afterwards
          if (difference <= 0 || afterwards > above) return
          if ((bestTokens - tokens || comparePlaced(request, placedMs, best!, bestMs)) > 0) return
          best = request
          bestTokens = tokens
          bestMs = placedMs
        })
        if (best !== undefined && migrate(best.slot, to)) moved[best.slot] = 1
      }
    }
  }
)

const shareOf = ({ contextTokens, kvCapacityTokens }: WorkerColumns, worker: number): number =>
  contextTokens[worker]! / kvCapacityTokens[worker]!
