import { assert } from "./assert.ts"
import { floats, grow } from "./grow.ts"

/** Buckets per doubling. The middle of a bucket is at most 1/32 away from any value in it, relative to that value. */
const SUBBUCKET_BITS = 4
// Shifted, for a power is a double to the compiler: indices made of one cost twenty times as much.
const SUBBUCKETS = 1 << SUBBUCKET_BITS
/** Values are resolved from 2⁻⁵ to 2²⁰; smaller and larger ones count in the bucket at the end. */
const EXPONENT_MIN = -5
const OCTAVES = 25
const BUCKETS = OCTAVES * SUBBUCKETS
const EXPONENT_BIAS = 1023
const FIRST = (EXPONENT_BIAS + EXPONENT_MIN) << SUBBUCKET_BITS
/** Half-lives after which all weights are scaled down, far from the end of a double's range. */
const HALVINGS_MAX = 512
/** Taken off a rank, relative to it, so that the rounding of sums does not carry it past the last value. */
const ROUNDING = 1e-9

const asNumber = new Float64Array(1)
const asWords = new Uint32Array(asNumber.buffer)

/** Exponent and leading mantissa bits of a double, counted from the smallest resolved value. */
const bucketOf = (value: number): number => {
  asNumber[0] = value
  const bucket = (asWords[1]! >>> (20 - SUBBUCKET_BITS)) - FIRST
  return bucket < 0 ? 0 : bucket < BUCKETS ? bucket : BUCKETS - 1
}

/**
 * Histograms in rows, whose counts halve every `halfLifeMs` (Infinity: never): quantiles within 1/32 of the exact ones between 0.04 and
 * 10⁶. Memory: 3.4 KB for each of `rows`. Time is told once for all rows by `advance` and never decreases.
 *
 * What is recorded weighs 2^(age of the table in half-lives), so that nothing is touched as time passes. Reading mixes a row with a
 * prior: few values of its own change little.
 * Source: Cormode, Shkapenyuk, Srivastava, Xu, Forward Decay, ICDE 2009; buckets as of HdrHistogram.
 */
export class DecayingHistograms {
  private readonly halfLifeMs: number
  private counts = new Float64Array(0)
  /** Sums of the counts of each doubling, so that a quantile is found in two short walks. */
  private octaves = new Float64Array(0)
  private readonly totals: Float64Array
  private readonly sums: Float64Array
  private originMs = Number.NaN
  /** What a value recorded at this moment weighs. */
  private unit = 1
  private nowMs = Number.NaN

  constructor(rows: number, halfLifeMs: number) {
    assert(halfLifeMs > 0, "a half-life is positive")
    this.halfLifeMs = halfLifeMs
    this.totals = floats(rows)
    this.sums = floats(rows)
  }

  /** Sets the time. The first call says when everything before it was recorded. */
  advance(nowMs: number): void {
    // Many requests are heard of at one moment, and a power takes longer than the rest of it.
    if (nowMs === this.nowMs) return
    this.nowMs = nowMs
    if (Number.isNaN(this.originMs)) this.originMs = nowMs
    const halvings = (nowMs - this.originMs) / this.halfLifeMs
    this.unit = 2 ** halvings
    if (halvings <= HALVINGS_MAX) return
    for (const column of [this.counts, this.octaves, this.totals, this.sums])
      for (let i = 0; i < column.length; i++) column[i]! *= 2 ** -halvings
    this.originMs = nowMs
    this.unit = 1
  }

  record(row: number, value: number): void {
    assert(value >= 0, "a recorded value is a number and not negative")
    if ((row + 1) * BUCKETS > this.counts.length) {
      this.counts = grow(this.counts, (row + 1) * BUCKETS - 1, floats)
      this.octaves = grow(this.octaves, (row + 1) * OCTAVES - 1, floats)
    }
    const bucket = bucketOf(value)
    this.counts[row * BUCKETS + bucket]! += this.unit
    this.octaves[row * OCTAVES + (bucket >> SUBBUCKET_BITS)]! += this.unit
    this.totals[row]! += this.unit
    this.sums[row]! += this.unit * value
  }

  /** Values the row holds, in values of this moment. */
  weight(row: number): number {
    return this.totals[row]! / this.unit
  }

  /** Mean over a row and `priorWeight` > 0 values spread as those of `prior`, a row that is not empty. */
  mean(row: number, prior: number, priorWeight: number): number {
    const { sums, totals } = this
    const scale = (priorWeight * this.unit) / totals[prior]!
    return (sums[row]! + scale * sums[prior]!) / (totals[row]! + scale * totals[prior]!)
  }

  /**
   * The middle of the bucket in which lies the value that a share `q` in [0, 1] does not exceed, over the same values as `mean`. Cost
   * O(doublings + buckets of one).
   */
  quantile(row: number, q: number, prior: number, priorWeight: number): number {
    const { counts, octaves, totals } = this
    // A row nothing was recorded in may not be there yet: the prior's, for a share of nothing.
    const own = totals[row]! > 0 ? row : prior
    const scale = (priorWeight * this.unit) / totals[prior]!
    const weight = own === row ? 1 : 0
    let left = q * (totals[row]! + scale * totals[prior]!) * (1 - ROUNDING)

    let octave = 0
    for (; octave < OCTAVES - 1; octave++) {
      const inside = weight * octaves[own * OCTAVES + octave]! + scale * octaves[prior * OCTAVES + octave]!
      if (inside > 0 && inside >= left) break
      left -= inside
    }
    const first = octave * SUBBUCKETS
    let bucket = 0
    for (; bucket < SUBBUCKETS - 1; bucket++) {
      const at = first + bucket
      const inside = weight * counts[own * BUCKETS + at]! + scale * counts[prior * BUCKETS + at]!
      if (inside > 0 && inside >= left) break
      left -= inside
    }
    return 2 ** (EXPONENT_MIN + octave) * (1 + (bucket + 0.5) / SUBBUCKETS)
  }

  /** Empties a row. */
  clear(row: number): void {
    this.counts.fill(0, row * BUCKETS, (row + 1) * BUCKETS)
    this.octaves.fill(0, row * OCTAVES, (row + 1) * OCTAVES)
    this.totals[row] = 0
    this.sums[row] = 0
  }
}
