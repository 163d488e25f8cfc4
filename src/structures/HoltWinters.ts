import { assert } from "./assert.ts"
import { mean } from "./mean.ts"

/** Longest season: half a mebibyte while its beginning is remembered. */
export const SEASON_STEPS_MAX = 32_768

/** How much of each new observation is taken over, 0 to 1. */
export interface Smoothing {
  readonly level: number
  readonly trend: number
  readonly season: number
}

/**
 * Forecasts a series of equally spaced observations by exponential smoothing: of its level and trend (Holt), and with `seasonSteps` ≥ 2
 * also of what repeats after so many steps (Holt and Winters, additive). The first two observations give the first trend, the first two
 * seasons the first shape of a season; until then there is none. So what is linear, or linear plus a season, is forecast exactly from
 * then on. A missing observation (NaN) counts as the one that was forecast. `observe` and `forecast` cost O(1), once O(season).
 *
 * Source: Holt (1957), Winters (1960); Hyndman and Athanasopoulos, "Forecasting: principles and practice", component form.
 */
export class HoltWinters {
  private readonly smoothing: Smoothing
  private readonly seasonSteps: number
  private level = 0
  private trend = 0
  /** By step of the season, once two have passed. */
  private shape: Float64Array | undefined
  /** The first two seasons, until they have passed. */
  private beginning: Array<number> | undefined
  private count = 0

  constructor(smoothing: Smoothing, seasonSteps: number) {
    assert(seasonSteps <= SEASON_STEPS_MAX, "a season has a bounded number of steps")
    this.smoothing = smoothing
    this.seasonSteps = seasonSteps
    if (seasonSteps >= 2) this.beginning = []
  }

  observe(observation: number): void {
    if (Number.isNaN(observation) && this.count === 0) return
    const value = Number.isNaN(observation) ? this.forecast(1) : observation
    this.smooth(value)
    this.count++
    if (this.beginning === undefined) return
    this.beginning.push(value)
    if (this.beginning.length === 2 * this.seasonSteps) this.begin(this.beginning)
  }

  /** What is expected `steps` ≥ 1 after the last observation; NaN before the first. */
  forecast(steps: number): number {
    if (this.count === 0) return Number.NaN
    const { shape, seasonSteps } = this
    const seasonal = shape === undefined ? 0 : shape[(this.count + steps - 1) % seasonSteps]!
    return this.level + steps * this.trend + seasonal
  }

  private smooth(value: number): void {
    const { count, level, trend, shape, smoothing } = this
    if (count === 0) this.level = value
    else if (count === 1) {
      this.trend = value - level
      this.level = value
    } else {
      const step = count % this.seasonSteps
      const expected = level + trend
      const seasonal = shape === undefined ? 0 : shape[step]!
      this.level = expected + smoothing.level * (value - seasonal - expected)
      this.trend = trend + smoothing.trend * (this.level - level - trend)
      if (shape !== undefined) shape[step] = seasonal + smoothing.season * (value - expected - seasonal)
    }
  }

  /** Takes level, trend and shape from two whole seasons: the line through their means, and what lies beside it on average. */
  private begin(values: ReadonlyArray<number>): void {
    const { seasonSteps } = this
    const first = mean(values.slice(0, seasonSteps))
    this.trend = (mean(values.slice(seasonSteps)) - first) / seasonSteps
    const line = (at: number): number => first + this.trend * (at - (seasonSteps - 1) / 2)
    this.level = line(2 * seasonSteps - 1)
    this.shape = Float64Array.from({ length: seasonSteps }, (_, i) => {
      const later = i + seasonSteps
      return (values[i]! - line(i) + values[later]! - line(later)) / 2
    })
    this.beginning = undefined
  }
}
