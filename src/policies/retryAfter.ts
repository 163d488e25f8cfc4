import type { Rng } from "../structures/Rng.ts"

/** Below this a refused client would be back before anything has changed. */
const RETRY_AFTER_MS_MIN = 100
/** A prediction further away than this is not worth repeating to a client. */
const RETRY_AFTER_MS_MAX = 60_000

/**
 * What a refused client is told to wait: `predictedMs`, held between 100 ms and a minute, and a uniform random share of the same, so
 * that those who are refused together do not come back together. A whole number; grows with `predictedMs`.
 * Source: full jitter, Brooker, Exponential Backoff And Jitter, AWS, 2015.
 */
export const retryAfterMs = (predictedMs: number, rng: Rng): number =>
  Math.ceil(Math.min(Math.max(predictedMs, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX) * (1 + rng.next()))

/** The rule, for definitions. */
export const retryAfterRule =
  "held between 100 ms and a minute, plus a uniform random share of the same, so that refused clients do not come back together"
