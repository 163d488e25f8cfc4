import { assert } from "./assert.ts"

/**
 * Counts restarts and says when a supervisor has to give up.
 *
 * Allows `intensity` restarts within any `periodMs`, both ends included; an intensity of 0 allows none.
 * Memory O(intensity). Source: Erlang/OTP `supervisor`, maximum restart intensity.
 */
export class RestartWindow {
  private readonly periodMs: number
  /** The last `intensity` restarts, as a ring: the oldest lies at `oldest`. */
  private readonly timesMs: Float64Array
  private oldest = 0

  constructor(intensity: number, periodMs: number) {
    assert(Number.isInteger(intensity) && intensity >= 0, "a restart intensity is a whole number, 0 or more")
    assert(periodMs > 0 && periodMs < Infinity, "a restart period is positive and finite")
    this.periodMs = periodMs
    this.timesMs = new Float64Array(intensity).fill(-Infinity)
  }

  /** Records a restart and answers true; or answers false and records nothing. `nowMs` never decreases. Cost O(1). */
  allow(nowMs: number): boolean {
    const { timesMs } = this
    if (timesMs.length === 0) return false
    if (nowMs - timesMs[this.oldest]! <= this.periodMs) return false
    timesMs[this.oldest] = nowMs
    this.oldest = (this.oldest + 1) % timesMs.length
    return true
  }
}
