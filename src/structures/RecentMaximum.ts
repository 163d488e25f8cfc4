/**
 * The largest of the whole numbers put in within the last `windowMs`, both ends included. Times never decrease. Holds one entry for each
 * different value that can still become the largest. O(1) amortised.
 */
export class RecentMaximum {
  private readonly windowMs: number
  /** Values, ever smaller, with the time each was last put in, ever later. */
  private readonly values: Array<number> = []
  private readonly timesMs: Array<number> = []

  constructor(windowMs: number) {
    this.windowMs = windowMs
  }

  /** Puts a value in and returns the largest. */
  put(value: number, nowMs: number): number {
    const { values, timesMs } = this
    while (values.length > 0 && values.at(-1)! <= value) {
      values.pop()
      timesMs.pop()
    }
    values.push(value)
    timesMs.push(nowMs)
    while (timesMs[0]! < nowMs - this.windowMs) {
      values.shift()
      timesMs.shift()
    }
    return values[0]!
  }
}
