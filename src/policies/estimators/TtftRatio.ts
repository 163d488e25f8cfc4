import { assert } from "../../structures/assert.ts"
import { DecayingHistograms } from "../../structures/DecayingHistograms.ts"

/** Requests with a prediction that came true, which stand beside the real ones whatever time it is. */
const PRIOR_REQUESTS = 10
/** A ratio further off says that something else is wrong, which no factor mends. */
const RATIO_MAX = 16
const [OBSERVED, PRIOR] = [0, 1]
/** Middle of the bucket that begins at 1, so that predictions that come true have the ratio 1. */
const ONE = 1 + 1 / 32

export interface TtftRatioOptions {
  /** Share of the requests whose first token came within `value` times the predicted time. */
  readonly quantile?: number
  /** After this time an observation counts half. */
  readonly halfLifeMs?: number
  /** How long `value` stays as it is, so that decisions made together are made alike. */
  readonly windowMs?: number
}

/**
 * How far predicted times to the first token are off: the quantile of actual / predicted, over the requests of the last half-lives and
 * ten whose prediction came true. So it begins at 1, needs some evidence to leave it, and goes back when nothing is heard: a pool that
 * refused everyone would never learn otherwise. Within 1/16 of the exact quantile; between 1/16 and 16.
 */
export class TtftRatio {
  private readonly histograms: DecayingHistograms
  private readonly quantile: number
  private readonly windowMs: number
  /** The window under way: they follow each other from time 0 on, whoever comes and whoever is silent. */
  private window = Number.NEGATIVE_INFINITY
  private recordedMs = Number.NEGATIVE_INFINITY
  /** Changes at `review` alone. */
  value = 1

  constructor({ quantile = 0.9, halfLifeMs = 30_000, windowMs = 1_000 }: TtftRatioOptions = {}) {
    this.quantile = quantile
    this.windowMs = windowMs
    this.histograms = new DecayingHistograms(2, halfLifeMs)
  }

  /** A first token came `actualMs` after its attempt was placed; `predictedMs` was said then. A prediction of 0 teaches nothing. */
  record(predictedMs: number, actualMs: number, nowMs: number): void {
    assert(predictedMs >= 0 && actualMs >= 0, "times are not negative")
    if (predictedMs === 0 || !Number.isFinite(predictedMs)) return
    this.recordedMs = nowMs
    this.histograms.advance(nowMs)
    this.histograms.record(OBSERVED, Math.min(Math.max(actualMs / predictedMs, 1 / RATIO_MAX), RATIO_MAX))
  }

  /** Brings `value` up to the beginning of a window, once in it. Call it whether or not anything was recorded. */
  review(nowMs: number): void {
    const window = Math.floor(nowMs / this.windowMs)
    if (window === this.window) return
    this.window = window
    this.histograms.advance(Math.max(window * this.windowMs, this.recordedMs))
    this.histograms.clear(PRIOR)
    this.histograms.record(PRIOR, 1)
    this.value = this.histograms.quantile(OBSERVED, this.quantile, PRIOR, PRIOR_REQUESTS) / ONE
  }
}
