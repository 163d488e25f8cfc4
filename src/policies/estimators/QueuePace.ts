/** Share of the past that the next departure leaves, at the least; and the time after which half of it is left, where more come. */
const KEPT_LEAST = 0.95
const HALF_LIFE_MS = 2_000
/** After so long without a queue the gaps count half. */
const QUIET_MS = 60_000

/**
 * How fast a queue moves: the mean gap between departures while requests wait, over about the last twenty of them or three seconds,
 * whichever is longer. Engines end requests in batches, so that twenty alone can be one moment. While nobody waits it halves every minute:
 * who is refused for what was measured in bad times does not wait, and nothing would be measured again. O(1).
 */
export class QueuePace {
  /** Sum and number of the gaps, the earlier ones for less. */
  private spanMs = 0
  private gaps = 0
  /** The last departure, where requests waited then; -1 else. */
  private departedMs = -1
  /** The last departure for which requests waited, or for whose want the gaps were halved. */
  private soundMs = 0

  /** 0 before any. */
  get gapMs(): number {
    return this.gaps === 0 ? 0 : this.spanMs / this.gaps
  }

  departed(nowMs: number, waiting: boolean): void {
    if (waiting && this.departedMs >= 0) {
      const gapMs = nowMs - this.departedMs
      const kept = Math.max(KEPT_LEAST, 2 ** (-gapMs / HALF_LIFE_MS))
      this.spanMs = kept * this.spanMs + gapMs
      this.gaps = kept * this.gaps + 1
    }
    this.departedMs = waiting ? nowMs : -1
    if (!waiting && nowMs - this.soundMs < QUIET_MS) return
    if (!waiting) this.spanMs /= 2
    this.soundMs = nowMs
  }
}
