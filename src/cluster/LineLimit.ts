import type { Timers } from "../protocol/Timers.ts"

/** Within one period, of one name and of all together. */
const PERIOD_MS = 10_000
const LINES_OF_ONE_MAX = 5
const LINES_MAX = 100

/**
 * Bounds what is written about peers, who come and go as often as they like: one of them does not hide the others, and all of them do not
 * fill a log. How many lines were left out is told at the end of each period. Memory: at most 100 names.
 */
export class LineLimit {
  private readonly timers: Timers
  private readonly leftOut: (lines: number) => void
  private readonly linesOf = new Map<string, number>()
  private lines = 0
  private omitted = 0
  private sinceMs = Number.NEGATIVE_INFINITY

  constructor(timers: Timers, leftOut: (lines: number) => void) {
    this.timers = timers
    this.leftOut = leftOut
  }

  /** Whether one more line about `name` is to be written. */
  allows(name: string): boolean {
    const nowMs = this.timers.nowMs()
    if (nowMs - this.sinceMs >= PERIOD_MS) {
      this.sinceMs = nowMs
      this.lines = 0
      this.linesOf.clear()
    }
    const ofOne = this.linesOf.get(name) ?? 0
    if (ofOne < LINES_OF_ONE_MAX && this.lines < LINES_MAX) {
      this.linesOf.set(name, ofOne + 1)
      this.lines++
      return true
    }
    if (this.omitted++ === 0) this.timers.after(this.sinceMs + PERIOD_MS - nowMs, this.tell)
    return false
  }

  private readonly tell = (): void => {
    const { omitted } = this
    this.omitted = 0
    this.leftOut(omitted)
  }
}
