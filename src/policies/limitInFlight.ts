import { Reason } from "../domain/Outcome.ts"
import { bytes, grow } from "../structures/grow.ts"
import type { Rng } from "../structures/Rng.ts"
import type { Admission } from "./Admission.ts"
import { ceilingRule } from "./ceilings.ts"
import type { ConcurrencyLimit } from "./estimators/ConcurrencyLimit.ts"
import type { OptionSpecs } from "./Policy.ts"
import { retryAfterMs } from "./retryAfter.ts"

export const limitOptions = {
  initial: {
    kind: "integer",
    default: 32,
    minimum: 1,
    maximum: 65_536,
    unit: "requests",
    summary:
      "Limit to begin with, for each ready worker; held between min and max. Too small makes the first minutes slow."
  },
  min: {
    kind: "integer",
    default: 4,
    minimum: 1,
    maximum: 65_536,
    unit: "requests",
    summary: "The limit is never below, for each ready worker. Larger keeps more work going in bad times."
  },
  max: {
    kind: "integer",
    default: 1024,
    minimum: 1,
    maximum: 65_536,
    unit: "requests",
    summary:
      "The limit is never above, nor below min, for each ready worker. Smaller keeps a wrong measurement from doing harm."
  },
  window: {
    kind: "duration",
    default: 1000,
    minimum: 10,
    unit: "ms",
    summary:
      "The limit changes at most once in this time, when ten requests or one drop were seen. Larger is slower and steadier."
  }
} as const satisfies OptionSpecs

/** The range that the options give, whatever their order. */
export const limitRange = ({ initial, min, max }: { initial: number; min: number; max: number }) => {
  const maximum = Math.max(min, max)
  return { minimum: min, maximum, initial: Math.min(Math.max(initial, min), maximum) }
}

/** The rule that both limits share, for definitions. */
export const limitRule =
  "Rejects with concurrency_limit when as many requests are in the pool, waiting or placed, as the limit allows each ready worker. " +
  `${ceilingRule} One request is always let in. Retry-after is the expected wait or, where that is longer, the usual time in which as many ` +
  "requests end as are too many"

/** Requests of which a time per token is told, so that one odd request is no trend. */
const SAMPLES_MIN = 10

export interface LimitedOptions {
  readonly limit: ConcurrencyLimit
  readonly windowMs: number
  /** A first token later than this after arrival is a drop. */
  readonly timeoutMs: number
}

/** Lets in as many requests as a limit says, and tells it what comes of that. */
export const limitInFlight = ({ limit, windowMs, timeoutMs }: LimitedOptions, rng: Rng): Admission => {
  let inFlight = 0
  let ready = new Uint8Array(0)
  let readyCount = 0
  /** Time between two ends, in the last window in which the limit bound; 0 before any. */
  let gapMs = 0
  const window = new Window()

  const workersOf = (eligibleCount: number): number => Math.max(1, readyCount, eligibleCount)

  const close = (workers: number, nowMs: number): void => {
    limit.update({
      msPerToken: window.samples >= SAMPLES_MIN ? window.busyMs / window.tokens : Number.NaN,
      inFlight: window.inFlight / workers,
      limited: window.limited,
      dropped: window.dropped
    })
    if (window.limited) gapMs = (nowMs - window.beganMs) / window.ends
    window.begin(inFlight, nowMs)
  }

  return {
    decide: (request, { eligibleCount }, queue) => {
      const allowed = limit.limit * workersOf(eligibleCount) * queue.ceiling(request)
      if (inFlight < allowed) return null
      window.limited = true
      const untilMs = Math.max(queue.expectedWaitMs, (inFlight - allowed + 1) * gapMs)
      return { reason: Reason.concurrencyLimit, retryAfterMs: retryAfterMs(untilMs, rng) }
    },
    admitted: (_request, _pool, nowMs) => {
      if (Number.isNaN(window.beganMs)) window.beganMs = nowMs
      window.inFlight = Math.max(window.inFlight, ++inFlight)
    },
    timed: ({ arrivedMs }, _worker, _pool, nowMs) => {
      if (nowMs - arrivedMs > timeoutMs) window.dropped = true
    },
    ended: ({ arrivedMs, outputTokens }, reason, { eligibleCount }, nowMs) => {
      inFlight--
      window.ends++
      if (reason === Reason.expired || reason === Reason.workerRefused) window.dropped = true
      if (reason === Reason.none && outputTokens > 0) {
        window.samples++
        window.busyMs += nowMs - arrivedMs
        window.tokens += outputTokens
      }
      const enough = window.dropped || window.samples >= SAMPLES_MIN
      if (enough && nowMs - window.beganMs >= windowMs) close(workersOf(eligibleCount), nowMs)
    },
    changed: (worker, isReady) => {
      if (worker >= ready.length) ready = grow(ready, worker, bytes)
      readyCount += (isReady ? 1 : 0) - ready[worker]!
      ready[worker] = isReady ? 1 : 0
    }
  }
}

/** What was seen since the limit changed last. */
class Window {
  /** NaN before the first request. */
  beganMs = Number.NaN
  ends = 0
  /** Of requests that were done: how many, from arrival to end, and what they produced. */
  samples = 0
  busyMs = 0
  tokens = 0
  inFlight = 0
  limited = false
  dropped = false

  begin(inFlight: number, nowMs: number): void {
    this.beganMs = nowMs
    this.ends = 0
    this.samples = 0
    this.busyMs = 0
    this.tokens = 0
    this.inFlight = inFlight
    this.limited = false
    this.dropped = false
  }
}
