import { Histogram } from "../structures/Histogram.ts"

/** By decision, who takes its time. */
export interface Stopwatches {
  readonly admission: Stopwatch
  readonly placement: Stopwatch
}

/** A prime, so that it keeps no step with batches. Reading the clock costs as much as a simple decision. */
const EVERY = 61

/** Takes the time of one in 61 of what it is told begins and ends. Cost otherwise about 1 ns. */
export class Stopwatch {
  readonly ms = new Histogram()
  private readonly nowMs: () => number
  /** How many begin until one is timed, that one included. */
  private left = EVERY
  private beganMs = 0

  constructor(nowMs: () => number) {
    this.nowMs = nowMs
  }

  begin(): void {
    if (--this.left <= 0) this.beganMs = this.nowMs()
  }

  /** What does not end, because it threw, leaves it to the next. */
  end(): void {
    if (this.left > 0) return
    this.ms.record(this.nowMs() - this.beganMs)
    this.left = EVERY
  }
}
