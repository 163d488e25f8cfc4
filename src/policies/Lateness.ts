import type { WorkerColumns } from "../domain/PoolView.ts"
import { grow } from "../structures/grow.ts"
import { chargedTtftMs } from "./costs.ts"
import { RecentQuantile } from "./RecentQuantile.ts"

/** Predictions below this are not worth a ratio. */
const PREDICTED_MS_MIN = 10

/**
 * Which requests are late against the time to first token that was predicted when they were placed: later than 95 % of the last one to
 * two thousand were against theirs. A long wait that was foreseen is not late. Nobody is before a hundred have started. 16 bytes a slot.
 */
export class Lateness {
  private readonly ratios = new RecentQuantile(0.95)
  private predictedMs = new Float64Array(0)
  private placedMs = new Float64Array(0)

  /** The columns count the request already. */
  placed(slot: number, worker: number, workers: WorkerColumns, nowMs: number): void {
    if (slot >= this.placedMs.length) {
      this.predictedMs = grow(this.predictedMs, slot, (length) => new Float64Array(length))
      this.placedMs = grow(this.placedMs, slot, (length) => new Float64Array(length))
    }
    this.placedMs[slot] = nowMs
    this.predictedMs[slot] = Math.max(PREDICTED_MS_MIN, chargedTtftMs(workers, worker, nowMs))
  }

  started(slot: number, nowMs: number): void {
    this.ratios.record((nowMs - this.placedMs[slot]!) / this.predictedMs[slot]!)
  }

  /** From its placement to its first token. */
  predicted(slot: number): number {
    return this.predictedMs[slot]!
  }

  isLate(slot: number, waitedMs: number): boolean {
    return waitedMs > this.ratios.value * this.predictedMs[slot]!
  }
}
