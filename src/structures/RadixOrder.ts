import { grow, ints } from "./grow.ts"
import type { PrefixChain } from "./PrefixChain.ts"
import { stableSort } from "./stableSort.ts"

/** Whatever has a prompt. */
export interface Chained {
  readonly chain: PrefixChain
}

const NONE = -1
const noRequests: ReadonlyArray<Chained> = []

/**
 * Requests in the depth-first order of the radix tree of their prefix chains: those that share a prefix are neighbours. Equal chains keep
 * their order. Scratch grows by doubling; nothing else is allocated.
 */
export class RadixOrder {
  count = 0
  /** order[0 .. count) are the requests in depth-first order. */
  order = new Int32Array(0)
  /**
   * shared[k] is how many leading blocks order[k] has in common with order[k − 1]; 0 for the first. It has more with none before it, so
   * that the blocks beyond add up to the distinct blocks of all.
   */
  shared = new Int32Array(0)
  private requests = noRequests
  private scratch = new Int32Array(0)
  /** While requests are dropped: the place of each in `order`, and for each place the places before and after it that are left. */
  private place = new Int32Array(0)
  private before = new Int32Array(0)
  private after = new Int32Array(0)
  private readonly comesBefore = (a: number, b: number): boolean =>
    compareChains(this.requests[a]!.chain, this.requests[b]!.chain) < 0

  /** Sorts the first `count` requests: count·log count comparisons of O(log blocks). */
  sort(requests: ReadonlyArray<Chained>, count: number): void {
    this.reserve(count)
    const { order, shared } = this
    this.count = count
    this.requests = requests
    for (let i = 0; i < count; i++) order[i] = i
    stableSort(order, count, this.scratch, this.comesBefore)
    // Requests are the caller's: no reference to them is kept.
    this.requests = noRequests
    for (let k = 0; k < count; k++)
      shared[k] = k === 0 ? 0 : sharedBlocks(requests[order[k - 1]!]!.chain, requests[order[k]!]!.chain)
  }

  /**
   * Drops requests, the last in their own order first, until what the others cost is at most `room`, where a block that several share
   * costs `blockCost` once. Whole and exact numbers give an exact answer. O(count).
   */
  admit(cost: Float64Array, blockCost: number, room: number): void {
    const { count, order, shared } = this
    let total = 0
    for (let k = 0; k < count; k++) total += cost[order[k]!]! - blockCost * shared[k]!
    if (total <= room) return
    this.link()
    for (let last = count - 1; last >= 0 && total > room; last--)
      total -= cost[last]! - blockCost * this.drop(last)
    let kept = 0
    for (let k = 0; k < count; k++) {
      if (order[k] === NONE) continue
      order[kept] = order[k]!
      shared[kept++] = shared[k]!
    }
    this.count = kept
  }

  private link(): void {
    for (let k = 0; k < this.count; k++) {
      this.place[this.order[k]!] = k
      this.before[k] = k - 1
      this.after[k] = k + 1
    }
  }

  /** Drops one, and returns how many of its blocks others share. */
  private drop(request: number): number {
    const { after, before, shared } = this
    const place = this.place[request]!
    const left = before[place]!
    const right = after[place]!
    const withLeft = shared[place]!
    const withRight = right < this.count ? shared[right]! : 0
    this.order[place] = NONE
    if (left >= 0) after[left] = right
    if (right < this.count) {
      before[right] = left
      shared[right] = Math.min(withLeft, withRight)
    }
    return Math.max(withLeft, withRight)
  }

  private reserve(count: number): void {
    if (count <= this.order.length) return
    this.order = grow(this.order, count - 1, ints)
    const { length } = this.order
    this.shared = ints(length)
    this.scratch = ints(length)
    this.place = ints(length)
    this.before = ints(length)
    this.after = ints(length)
  }
}

/** How many leading blocks two chains have in common. O(log blocks), because an equal hash means equal blocks before it too. */
export const sharedBlocks = (a: PrefixChain, b: PrefixChain): number => {
  let low = 0
  let high = Math.min(a.count, b.count)
  while (low < high) {
    const middle = (low + high) >>> 1
    if (a.low[middle] === b.low[middle] && a.high[middle] === b.high[middle]) low = middle + 1
    else high = middle
  }
  return low
}

/** By the first hash that differs; a chain comes before its continuations. */
const compareChains = (a: PrefixChain, b: PrefixChain): number => {
  const shared = sharedBlocks(a, b)
  if (shared === a.count || shared === b.count) return a.count - b.count
  return a.high[shared]! - b.high[shared]! || a.low[shared]! - b.low[shared]!
}
