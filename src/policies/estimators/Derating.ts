import { assert } from "../../structures/assert.ts"
import { bytes, floats, grow } from "../../structures/grow.ts"

export interface DeratingOptions {
  readonly windowMs?: number
  /** Windows in a row that begin a derating, and that end it. */
  readonly windows?: number
  /** Times the fleet's median above which a worker is slow. */
  readonly threshold?: number
  /** Times the fleet's median below which it has recovered. */
  readonly recovery?: number
  readonly minimum?: number
}

/** Of the way to its target, on a scale of ratios, that a factor goes in a window. */
const APPROACH = 0.5
/** A factor grows by this in a window without work, so that a derated worker is tried again. */
const IDLE_GROWTH = 1.05
/** Above this a factor is 1. */
const WHOLE = 0.99

/**
 * Finds workers whose steps take longer than those of the others, whatever they compute, and says by how much to lower their speeds.
 *
 * In each window a worker's ratio is its actual over its expected time, over the lower median of the fleet's. Above `threshold` in
 * `windows` windows in a row it is derated, until it was below `recovery` as often. While it is derated its factor goes to 1 / ratio,
 * half of the way in each window, then back to 1. A window without work counts neither way. Memory: 34 bytes a worker.
 */
export class Derating {
  private readonly windowMs: number
  private readonly windows: number
  private readonly threshold: number
  private readonly recovery: number
  private readonly minimum: number
  /** The window under way: they follow each other from time 0 on. */
  private window = Number.NEGATIVE_INFINITY
  /** After so many windows without work nobody is derated any more. */
  private readonly forgivenAfter: number
  /** Slots below this were written. */
  private slots = 0
  /** Of the window under way. */
  private actualMs = new Float64Array(0)
  private expectedMs = new Float64Array(0)
  /** Of the window before; NaN without work. */
  private ratios = new Float64Array(0)
  private factors = new Float64Array(0)
  private sorted = new Float64Array(0)
  /** Slow windows in a row; negative: windows in a row in which it had recovered. */
  private runs = new Int8Array(0)
  private slow = new Uint8Array(0)

  constructor({
    windowMs = 1_000,
    windows = 3,
    threshold = 2,
    recovery = 1.5,
    minimum = 0.05
  }: DeratingOptions = {}) {
    assert(windows >= 1 && windows < 128, "a run of windows has a length")
    assert(recovery >= 1 && recovery <= threshold, "who has recovered is not slow")
    assert(minimum > 0 && minimum <= 1, "a derated worker keeps some of its speed")
    this.windowMs = windowMs
    this.windows = windows
    this.threshold = threshold
    this.recovery = recovery
    this.minimum = minimum
    this.forgivenAfter = Math.ceil(Math.log(WHOLE / minimum) / Math.log(IDLE_GROWTH)) + 1
  }

  /** `worker` did in `actualMs` what one like it does in `expectedMs` > 0. */
  record(worker: number, actualMs: number, expectedMs: number): void {
    if (worker >= this.factors.length) this.growTo(worker)
    this.slots = Math.max(this.slots, worker + 1)
    this.actualMs[worker]! += actualMs
    this.expectedMs[worker]! += expectedMs
  }

  /** Ends the windows whose time is over; whether there were any, and factors may have changed. Cost O(N log N) then. */
  review(nowMs: number): boolean {
    const window = Math.floor(nowMs / this.windowMs)
    const ended = window - this.window
    if (ended < 1) return false
    this.window = window
    // Nobody has said anything of those behind the first.
    for (let i = Math.min(ended, 1 + this.forgivenAfter); i > 0; i--) this.close()
    return true
  }

  private close(): void {
    const { slots, ratios, sorted } = this
    let count = 0
    for (let worker = 0; worker < slots; worker++) {
      const ratio = this.actualMs[worker]! / this.expectedMs[worker]!
      ratios[worker] = ratio
      if (ratio > 0) sorted[count++] = ratio
    }
    this.actualMs.fill(0, 0, slots)
    this.expectedMs.fill(0, 0, slots)
    sorted.subarray(0, count).sort()
    const median = sorted[(count - 1) >> 1]!
    for (let worker = 0; worker < slots; worker++) this.judge(worker, (ratios[worker]! /= median))
  }

  /** Above 0, at most 1. */
  factor(worker: number): number {
    return this.factors[worker] ?? 1
  }

  /** Times the fleet's median that its steps took in the window before; NaN when it had no work. */
  ratio(worker: number): number {
    return this.ratios[worker] ?? Number.NaN
  }

  left(worker: number): void {
    if (worker >= this.slots) return
    this.actualMs[worker] = 0
    this.expectedMs[worker] = 0
    this.ratios[worker] = Number.NaN
    this.factors[worker] = 1
    this.runs[worker] = 0
    this.slow[worker] = 0
  }

  private judge(worker: number, ratio: number): void {
    const { factors, runs, slow, windows } = this
    const factor = factors[worker]!
    if (Number.isNaN(ratio)) {
      if (factor < 1) factors[worker] = whole(factor * IDLE_GROWTH)
      return
    }
    const run = runs[worker]!
    if (ratio > this.threshold) runs[worker] = Math.min(windows, Math.max(run, 0) + 1)
    else if (ratio < this.recovery) runs[worker] = Math.max(-windows, Math.min(run, 0) - 1)
    else runs[worker] = 0
    if (runs[worker] === windows) slow[worker] = 1
    else if (runs[worker] === -windows) slow[worker] = 0
    const target = slow[worker] === 1 ? Math.min(1, Math.max(this.minimum, 1 / ratio)) : 1
    factors[worker] = whole(factor * (target / factor) ** APPROACH)
  }

  private growTo(worker: number): void {
    const { length } = this.factors
    this.actualMs = grow(this.actualMs, worker, floats)
    this.expectedMs = grow(this.expectedMs, worker, floats)
    this.ratios = grow(this.ratios, worker, floats)
    this.factors = grow(this.factors, worker, floats)
    this.sorted = grow(this.sorted, worker, floats)
    this.runs = grow(this.runs, worker, (size) => new Int8Array(size))
    this.slow = grow(this.slow, worker, bytes)
    this.factors.fill(1, length)
    this.ratios.fill(Number.NaN, length)
  }
}

const whole = (factor: number): number => (factor > WHOLE ? 1 : factor)
