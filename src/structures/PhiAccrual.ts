import { assert } from "./assert.ts"

/** What suspicion is measured against. Milliseconds. */
export interface PhiAccrualOptions {
  /** The interval expected before anything was learned. */
  readonly intervalMs: number
  /** Silence always forgiven on top of the mean: a garbage collection, a busy event loop. */
  readonly pauseMs: number
  /** Least standard deviation, so that clockwork heartbeats do not make the detector nervous. */
  readonly deviationMinMs: number
  /** Intervals remembered. */
  readonly samplesMax: number
}

/**
 * How implausible a silence is, given the intervals seen before: φ = −log₁₀ P(an interval lasts longer), for normally distributed
 * intervals. A threshold of φ = 8 is wrong about once in 10⁸ intervals.
 *
 * The normal tail is the logistic approximation 1/(1 + exp(x)), x = y(1.5976 + 0.070566 y²), y = (silence − mean − pause)/σ, so
 * φ = log₁₀(1 + exp(x)): computed as a softplus, it neither overflows nor loses the small values.
 * Starts from two made-up samples, `intervalMs` ± a quarter. `learn` costs O(1) amortised, `phi` O(1).
 * Source: Hayashibara et al., "The φ accrual failure detector" (2004); akka/PhiAccrualFailureDetector.scala.
 */
export class PhiAccrual {
  private readonly pauseMs: number
  private readonly deviationMinMs: number
  private readonly samplesMs: Float64Array
  private count = 0
  private next = 0
  private sum = 0
  private squares = 0

  constructor(options: PhiAccrualOptions) {
    assert(options.samplesMax >= 2, "a φ accrual detector remembers at least two intervals")
    assert(options.deviationMinMs > 0, "the least standard deviation is positive")
    assert(options.pauseMs >= 0, "a forgiven pause is not negative")
    this.pauseMs = options.pauseMs
    this.deviationMinMs = options.deviationMinMs
    this.samplesMs = new Float64Array(options.samplesMax)
    this.learn(options.intervalMs * 0.75)
    this.learn(options.intervalMs * 1.25)
  }

  /** Remembers one interval between two heartbeats and forgets the oldest when there are too many. */
  learn(intervalMs: number): void {
    const { samplesMs } = this
    if (this.count === samplesMs.length) this.add(samplesMs[this.next]!, -1)
    else this.count++
    samplesMs[this.next] = intervalMs
    this.add(intervalMs, 1)
    this.next = (this.next + 1) % samplesMs.length
    if (this.next === 0) this.recount()
  }

  /** Suspicion after `silenceMs` without a heartbeat: ≥ 0, never decreasing in `silenceMs`, infinite only when the silence is. */
  phi(silenceMs: number): number {
    const mean = this.sum / this.count
    const variance = this.squares / this.count - mean * mean
    const deviation = Math.max(this.deviationMinMs, Math.sqrt(Math.max(0, variance)))
    const y = (silenceMs - mean - this.pauseMs) / deviation
    const x = y * (1.5976 + 0.070566 * y * y)
    return (Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))) * Math.LOG10E
  }

  private add(sampleMs: number, sign: 1 | -1): void {
    this.sum += sign * sampleMs
    this.squares += sign * sampleMs * sampleMs
  }

  /** Once a round, so that rounding errors of the running sums cannot pile up. */
  private recount(): void {
    this.sum = 0
    this.squares = 0
    for (let index = 0; index < this.count; index++) this.add(this.samplesMs[index]!, 1)
  }
}
