import { assert } from "./assert.ts"
import { nearestRank } from "./nearestRank.ts"

/** Buckets per doubling. The middle of a bucket is at most 1/128 away from any value in it, relative to that value. */
const SUBBUCKET_BITS = 6
const SUBBUCKETS = 1 << SUBBUCKET_BITS
/** Values are resolved from 2⁻¹⁰ (a microsecond, in ms) to 2³² (seven weeks, in ms). */
const EXPONENT_MIN = -10
const EXPONENT_MAX = 32
const BUCKETS = (EXPONENT_MAX - EXPONENT_MIN) * SUBBUCKETS
const EXPONENT_BIAS = 1023
const FIRST = (EXPONENT_BIAS + EXPONENT_MIN) << SUBBUCKET_BITS

const asNumber = new Float64Array(1)
const asWords = new Uint32Array(asNumber.buffer)

/** Exponent and leading mantissa bits of a double, counted from the smallest resolved value. */
const bucketOf = (value: number): number => {
  asNumber[0] = value
  const bucket = (asWords[1]! >>> (20 - SUBBUCKET_BITS)) - FIRST
  return bucket < 0 ? 0 : bucket < BUCKETS ? bucket : BUCKETS - 1
}

const lowerBound = (bucket: number): number =>
  2 ** (EXPONENT_MIN + Math.floor(bucket / SUBBUCKETS)) * (1 + (bucket % SUBBUCKETS) / SUBBUCKETS)

/**
 * Counts of values ≥ 0 in logarithmic buckets: quantiles within 1 % of the exact ones between 0.001 and 4·10⁹. Smaller values are
 * off by at most 0.001, larger ones count as 4·10⁹; `min` and `max` are always exact. Merging loses nothing. 21 KiB.
 *
 * `record` allocates nothing and costs some nanoseconds. The buckets depend on the bits of a double alone, so the same values
 * give the same bytes on every machine.
 * Source: the bucket layout of HdrHistogram, over floating point exponents.
 */
export class Histogram {
  private readonly counts = new Float64Array(BUCKETS)
  private total = 0
  private added = 0
  private least = Number.POSITIVE_INFINITY
  private most = Number.NEGATIVE_INFINITY

  record(value: number): void {
    assert(value >= 0, "a recorded value is a number and not negative")
    this.counts[bucketOf(value)]!++
    this.total++
    this.added += value
    if (value < this.least) this.least = value
    if (value > this.most) this.most = value
  }

  /** Values recorded. */
  get count(): number {
    return this.total
  }

  get sum(): number {
    return this.added
  }

  /** NaN while empty, as `min`, `max` and `quantile` are. */
  get mean(): number {
    return this.added / this.total
  }

  /** Exact. */
  get min(): number {
    return this.total === 0 ? Number.NaN : this.least
  }

  /** Exact. */
  get max(): number {
    return this.total === 0 ? Number.NaN : this.most
  }

  /** The smallest value that at least the share `q` in [0, 1] of all values does not exceed (nearest rank). */
  quantile(q: number): number {
    if (this.total === 0) return Number.NaN
    const rank = nearestRank(q, this.total)
    if (rank >= this.total) return this.most
    let seen = 0
    let bucket = -1
    while (seen < rank) seen += this.counts[++bucket]!
    const middle = (lowerBound(bucket) + lowerBound(bucket + 1)) / 2
    return Math.min(Math.max(middle, this.least), this.most)
  }

  /** How many values are at most `value`, counting the whole bucket in which `value` lies. Cost O(buckets). */
  countAtMost(value: number): number {
    const last = bucketOf(value)
    let count = 0
    for (let bucket = 0; bucket <= last; bucket++) count += this.counts[bucket]!
    return count
  }

  /** Takes over all values of another histogram. */
  add(other: Histogram): void {
    for (let bucket = 0; bucket < BUCKETS; bucket++) this.counts[bucket]! += other.counts[bucket]!
    this.total += other.total
    this.added += other.added
    this.least = Math.min(this.least, other.least)
    this.most = Math.max(this.most, other.most)
  }

  clear(): void {
    this.counts.fill(0)
    this.total = 0
    this.added = 0
    this.least = Number.POSITIVE_INFINITY
    this.most = Number.NEGATIVE_INFINITY
  }
}
