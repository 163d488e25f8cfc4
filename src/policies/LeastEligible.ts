import type { PoolView, WorkerColumns } from "../domain/PoolView.ts"
import { floats, grow, nones } from "../structures/grow.ts"
import { LeastTree } from "../structures/LeastTree.ts"

const NONE = -1

/**
 * Finds the eligible worker of least cost, where that depends on its speed and on what is in flight there, not on the request: kept in an
 * index, which follows what it is told by `touched` and `changed`. A pick costs O(log N), and O(N) after a worker came or went. Nothing is
 * allocated but for growth. Costs are not NaN.
 */
export class LeastEligible {
  private readonly costOf: (workers: WorkerColumns, worker: number) => number
  /** By place. Who is not eligible costs more than anybody. */
  private readonly tree = new LeastTree()
  /** By place: the workers that are ready and have been eligible, in the order of their keys. */
  private order = new Int32Array(0)
  private count = 0
  /** By worker: its place, or -1. */
  private places = new Int32Array(0)
  private pool: PoolView | undefined
  /** Whether an eligible worker has no place. */
  private isStale = true
  /** The order before, to be overwritten by the next; and the costs of that. */
  private spare = new Int32Array(0)
  private costs = new Float64Array(0)

  constructor(costOf: (workers: WorkerColumns, worker: number) => number) {
    this.costOf = costOf
  }

  /** The first of the workers of least cost, in the order of keys, from the eligible worker on that the hash `state` draws; -1 without any. */
  pick(pool: PoolView, state: number): number {
    const { eligible, eligibleCount } = pool
    if (eligibleCount === 0) return NONE
    const drawn = eligible[Math.floor((state / 2 ** 32) * eligibleCount)]!
    if (this.isStale || this.pool !== pool || this.placeOf(drawn) === NONE) this.fill(pool)
    return this.order[this.tree.firstFrom(this.placeOf(drawn))]!
  }

  touched(worker: number, eligible: boolean, { workers }: PoolView): void {
    const place = this.placeOf(worker)
    if (place === NONE) this.isStale ||= eligible
    else this.tree.set(place, eligible ? this.costOf(workers, worker) : Number.POSITIVE_INFINITY)
  }

  /** Who is no longer ready may come back with another key. */
  changed(worker: number, ready: boolean): void {
    if (ready || this.placeOf(worker) === NONE) return
    this.places[worker] = NONE
    this.isStale = true
  }

  private placeOf(worker: number): number {
    return this.places[worker] ?? NONE
  }

  /** Gives every eligible worker a place among those that have one. */
  private fill(pool: PoolView): void {
    const { eligible, eligibleCount, workers } = pool
    const { order, places } = this
    const count = this.pool === pool ? this.count : 0
    const length = count + eligibleCount
    if (length > this.spare.length) this.spare = grow(this.spare, length - 1, nones)
    if (length > this.costs.length) this.costs = grow(this.costs, length - 1, floats)
    const { costs, spare } = this
    let next = 0
    let at = 0
    for (let i = 0; i <= eligibleCount; i++) {
      const worker = i < eligibleCount ? eligible[i]! : NONE
      for (; at < count; at++) {
        const other = order[at]!
        if (other === worker || places[other] === NONE) continue
        if (worker !== NONE && !isBefore(workers, other, worker)) break
        costs[next] = Number.POSITIVE_INFINITY
        spare[next++] = other
      }
      if (worker === NONE) break
      costs[next] = this.costOf(workers, worker)
      spare[next++] = worker
    }
    this.spare = order
    this.order = spare
    this.count = next
    this.tree.fill(costs, next)
    this.settle()
    this.pool = pool
    this.isStale = false
  }

  /** Writes down the place of each worker of the order. */
  private settle(): void {
    const { count, order } = this
    this.places.fill(NONE)
    for (let place = 0; place < count; place++) {
      const worker = order[place]!
      if (worker >= this.places.length) this.places = grow(this.places, worker, nones)
      this.places[worker] = place
    }
  }
}

const isBefore = ({ keyHigh, keyLow }: WorkerColumns, one: number, other: number): boolean =>
  keyHigh[one]! < keyHigh[other]! || (keyHigh[one] === keyHigh[other] && keyLow[one]! < keyLow[other]!)
