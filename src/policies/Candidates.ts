import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { floats, ints } from "../structures/grow.ts"
import type { Rng } from "../structures/Rng.ts"
import { isEligible } from "./eligibility.ts"

/** Of those compared, at most this share is there for what it holds of the prefix. */
const HOLDERS_SHARE = 1 / 8

/**
 * The workers that are compared for a request: all that are eligible, or of more than `max` those that hold most of its prefix and, for
 * the rest, a run of others in the order of their keys, from a place that is drawn each time. So a decision costs O(max) in a pool
 * of any size. Memory: 8 bytes a worker.
 */
export class Candidates {
  /** Only `count` elements count. Valid until the next call. */
  slots: Int32Array
  count = 0
  private readonly drawn: Int32Array
  private readonly rng: Rng
  /** By worker: the draw that it was in last. As floats, for draws are counted for ever. */
  private draws = floats(0)
  private draw = 0

  constructor(max: number, rng: Rng) {
    this.slots = this.drawn = ints(max)
    this.rng = rng
  }

  /** Chooses them. O(max + log N). */
  choose(request: RequestView, pool: PoolView): this {
    const { eligible, eligibleCount, workers: columns } = pool
    const { drawn } = this
    const max = drawn.length
    if (eligibleCount <= max) return this.chosen(pool)
    if (this.draws.length < columns.inFlight.length) this.draws = floats(columns.inFlight.length)
    const draw = ++this.draw
    const { draws } = this
    const { count, workers } = pool.match(request)
    const holders = Math.min(count, max * HOLDERS_SHARE)
    let chosen = 0
    for (let i = 0; i < holders; i++) {
      const worker = workers[i]!
      if (!isEligible(pool, worker)) continue
      draws[worker] = draw
      drawn[chosen++] = worker
    }
    for (let at = this.rng.int(eligibleCount); chosen < max; at = at + 1 < eligibleCount ? at + 1 : 0) {
      const worker = eligible[at]!
      if (draws[worker] === draw) continue
      draws[worker] = draw
      drawn[chosen++] = worker
    }
    this.slots = drawn
    this.count = max
    return this
  }

  /** Those that were chosen last; all, where the pool has no more than `max`. */
  chosen({ eligible, eligibleCount }: PoolView): this {
    if (eligibleCount <= this.drawn.length) {
      this.slots = eligible
      this.count = eligibleCount
    }
    return this
  }

  /** Whether `worker`, which is eligible, is one of them. */
  has(worker: number): boolean {
    return this.slots !== this.drawn || this.draws[worker] === this.draw
  }
}
