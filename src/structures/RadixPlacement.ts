import { BatchPlacement, type BatchRequests, type BatchWorkers } from "./BatchPlacement.ts"
import { grow, ints } from "./grow.ts"
import { type Chained, RadixOrder } from "./RadixOrder.ts"

/** Requests with prompts that may begin alike. */
export interface ChainedRequests extends BatchRequests {
  /** Request i of the batch; at least `count`. */
  readonly requests: ReadonlyArray<Chained>
  /** Work that one block of a prompt means, whole; `cost[i]` holds it for every block of the chain of request i. */
  readonly blockCost: number
}

/**
 * Places requests that share prefixes side by side: the scan of `BatchPlacement` in the order of the radix tree, where a request costs
 * what the one before it has not computed already. Over all workers at most (workers − 1)·(longest chain) blocks are computed more than
 * once, at the beginnings of segments, while headroom displaces nobody.
 * Scratch grows by doubling; nothing else is allocated.
 */
export class RadixPlacement {
  private readonly radix = new RadixOrder()
  private readonly batch = new BatchPlacement()
  /** What is dealt out, in the order of the tree, and to whom. */
  private readonly dealt = { count: 0, cost: new Float64Array(0) }
  private dealtTo = new Int32Array(0)

  /**
   * As `BatchPlacement.place`. Admitted are the first requests whose distinct work fits into all headrooms together. Headroom is counted
   * like cost: a worker computes the longest chain more, for the beginning of its segment and for each displaced request it takes, at most.
   */
  place(batch: ChainedRequests, workers: BatchWorkers, placed: Int32Array): number {
    const { blockCost, cost, count } = batch
    const { dealt, radix } = this
    if (count > this.dealtTo.length) {
      this.dealtTo = grow(this.dealtTo, count - 1, ints)
      dealt.cost = new Float64Array(this.dealtTo.length)
    }
    radix.sort(batch.requests, count)
    radix.admit(cost, blockCost, roomOf(workers))
    dealt.count = radix.count
    for (let k = 0; k < dealt.count; k++)
      dealt.cost[k] = cost[radix.order[k]!]! - blockCost * radix.shared[k]!
    const placedCount = this.batch.place(dealt, workers, this.dealtTo)
    placed.fill(-1, 0, count)
    for (let k = 0; k < dealt.count; k++) placed[radix.order[k]!] = this.dealtTo[k]!
    return placedCount
  }
}

const roomOf = ({ count, headroom, order }: BatchWorkers): number => {
  let room = 0
  for (let k = 0; k < count; k++) room += headroom[order[k]!]!
  return room
}
