import type { Forecast } from "../domain/PoolView.ts"
import { RecentQuantile } from "./RecentQuantile.ts"

/** Predictions below this are not worth a ratio. */
const PREDICTED_MS_MIN = 10

/**
 * Which requests are late against the time to first token that was predicted when they were placed: later than 95 % of the last one to
 * two thousand were against theirs. A long wait that was foreseen is not late. Nobody is before a hundred have started.
 */
export class Lateness {
  private readonly ratios = new RecentQuantile(0.95)

  started(slot: number, forecast: Forecast, nowMs: number): void {
    this.ratios.record((nowMs - forecast.placedMs(slot)) / this.predicted(slot, forecast))
  }

  /** From its placement to its first token. */
  predicted(slot: number, forecast: Forecast): number {
    return Math.max(PREDICTED_MS_MIN, forecast.placedTtftMs(slot))
  }

  isLate(slot: number, forecast: Forecast, waitedMs: number): boolean {
    return waitedMs > this.ratios.value * this.predicted(slot, forecast)
  }
}
