import { Histogram } from "../structures/Histogram.ts"

/** Fewer values than this say nothing of a tail. */
const COUNT_MIN = 100
const COUNT_MAX = 1000

/**
 * A quantile of the last one to two thousand values, looked up anew with every hundredth. Each value goes into two histograms; the one
 * that was begun first is asked, and begins anew when the other has a thousand. 43 KiB; O(1) to record.
 */
export class RecentQuantile {
  private readonly quantile: number
  private first = new Histogram()
  private second = new Histogram()
  private untilKnown = COUNT_MIN
  /** Infinity before the first hundred values. */
  value = Number.POSITIVE_INFINITY

  constructor(quantile: number) {
    this.quantile = quantile
  }

  record(value: number): void {
    this.first.record(value)
    this.second.record(value)
    if (--this.untilKnown === 0) {
      this.value = this.first.quantile(this.quantile)
      this.untilKnown = COUNT_MIN
    }
    if (this.second.count < COUNT_MAX) return
    const { first } = this
    first.clear()
    this.first = this.second
    this.second = first
  }
}
