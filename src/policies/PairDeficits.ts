import { floats, grow } from "../structures/grow.ts"

/** Pairs that are remembered: one beyond that takes the place of the one charged first, which has its quantum again. */
const PAIRS_MAX = 65_536
const WORKERS_MAX = 65_536

/**
 * Deficits of tenants at workers, refilled by rounds up to a quantum `full`. A pair that was never charged has its quantum. Each operation
 * O(1); 24 bytes a pair and its entry in a map.
 */
export class PairDeficits {
  private readonly rows = new Map<number, number>()
  private oldest = 0
  private pair = new Float64Array(0)
  private deficit = new Float64Array(0)
  private filledIn = new Float64Array(0)

  at(tenant: number, worker: number, round: number, full: number): number {
    const row = this.rows.get(tenant * WORKERS_MAX + worker)
    return row === undefined ? full : this.refilled(row, round, full)
  }

  charge(tenant: number, worker: number, round: number, full: number, cost: number): void {
    const pair = tenant * WORKERS_MAX + worker
    const row = this.rows.get(pair) ?? this.remember(pair, round, full)
    this.deficit[row] = this.refilled(row, round, full) - cost
  }

  private refilled(row: number, round: number, full: number): number {
    const filled = Math.min(full, this.deficit[row]! + (round - this.filledIn[row]!) * full)
    this.deficit[row] = filled
    this.filledIn[row] = round
    return filled
  }

  private remember(pair: number, round: number, full: number): number {
    let row = this.rows.size
    if (row === PAIRS_MAX) {
      row = this.oldest
      this.oldest = (row + 1) % PAIRS_MAX
      this.rows.delete(this.pair[row]!)
    } else if (row >= this.pair.length) {
      this.pair = grow(this.pair, row, floats)
      this.deficit = grow(this.deficit, row, floats)
      this.filledIn = grow(this.filledIn, row, floats)
    }
    this.rows.set(pair, row)
    this.pair[row] = pair
    this.deficit[row] = full
    this.filledIn[row] = round
    return row
  }
}
