import { grow, ints } from "./grow.ts"
import type { Vessels } from "./WaterLevel.ts"

const NOBODY = -1

/**
 * Gives each cost to the worker that finishes it first, among those with headroom for it; of several to the first in order. Scratch grows
 * by doubling; nothing else is allocated.
 */
export class EarliestFinish {
  private vessels: Vessels = {
    count: 0,
    backlog: new Float64Array(0),
    speed: new Int32Array(0),
    headroom: new Float64Array(0)
  }
  /** When each worker is free. */
  private free = new Float64Array(0)
  /** A binary heap of workers: each is free later than the one above it, or at the same time and comes after it. */
  private heap = new Int32Array(0)
  private fastest = 1
  /** The best worker found so far, its node and its finish. */
  private best = NOBODY
  private bestNode = 0
  private bestFinish = Number.POSITIVE_INFINITY

  /** Starts with these workers; `take` keeps their backlog and headroom up to date. O(count). */
  start(vessels: Vessels): void {
    const { backlog, count, speed } = vessels
    if (count > this.heap.length) {
      this.heap = grow(this.heap, count - 1, ints)
      this.free = new Float64Array(this.heap.length)
    }
    this.vessels = vessels
    this.fastest = 1
    for (let k = 0; k < count; k++) {
      this.heap[k] = k
      this.free[k] = backlog[k]! / speed[k]!
      this.fastest = Math.max(this.fastest, speed[k]!)
    }
    for (let node = (count >> 1) - 1; node >= 0; node--) this.siftDown(node)
  }

  /** The worker that `cost` goes to, or -1 when none has headroom. O(log count) while speeds are equal and headroom is ample; O(count) at most. */
  take(cost: number): number {
    const { backlog, headroom, speed } = this.vessels
    this.best = NOBODY
    this.bestFinish = Number.POSITIVE_INFINITY
    this.search(0, cost)
    const worker = this.best
    if (worker === NOBODY) return -1
    backlog[worker]! += cost
    headroom[worker]! -= cost
    this.free[worker] = backlog[worker]! / speed[worker]!
    this.siftDown(this.bestNode)
    return worker
  }

  /** Looks at a node and those below it, unless even the fastest worker could not finish there before the best so far. */
  private search(node: number, cost: number): void {
    const { count, headroom, speed } = this.vessels
    if (node >= count) return
    const worker = this.heap[node]!
    const free = this.free[worker]!
    if (!this.improves(worker, free + cost / this.fastest)) return
    const finish = free + cost / speed[worker]!
    if (headroom[worker]! >= cost && this.improves(worker, finish)) {
      this.best = worker
      this.bestNode = node
      this.bestFinish = finish
    }
    this.search(2 * node + 1, cost)
    this.search(2 * node + 2, cost)
  }

  private improves(worker: number, finish: number): boolean {
    return finish < this.bestFinish || (finish === this.bestFinish && worker < this.best)
  }

  private siftDown(start: number): void {
    const { count } = this.vessels
    const { heap } = this
    const moved = heap[start]!
    let node = start
    for (let child = 2 * node + 1; child < count; child = 2 * node + 1) {
      if (child + 1 < count && this.freeBefore(heap[child + 1]!, heap[child]!)) child++
      if (!this.freeBefore(heap[child]!, moved)) break
      heap[node] = heap[child]!
      node = child
    }
    heap[node] = moved
  }

  private freeBefore(a: number, b: number): boolean {
    return this.free[a]! < this.free[b]! || (this.free[a] === this.free[b] && a < b)
  }
}
