import { assert } from "../../structures/assert.ts"

/** What happened to one pool in one window of time. */
export interface LimitWindow {
  /** Time of the requests that were done, from arrival to end, over the tokens they produced; NaN when there were none. */
  readonly msPerToken: number
  /** Most requests in flight at one time, for each worker. */
  readonly inFlight: number
  /** Whether a request was refused because of the limit. */
  readonly limited: boolean
  /** Whether a request ran into its deadline, or was refused by its worker. */
  readonly dropped: boolean
}

/** How many requests one worker should have, by what happened with so many. */
export interface ConcurrencyLimit {
  /** From `minimum` to `maximum`. */
  readonly limit: number
  readonly update: (window: LimitWindow) => void
}

export interface LimitRange {
  readonly initial: number
  readonly minimum: number
  readonly maximum: number
}

const assertRange = ({ initial, minimum, maximum }: LimitRange): void => {
  assert(minimum >= 1, "one request is always let in")
  assert(minimum <= maximum, "a limit has room between its ends")
  assert(initial >= minimum && initial <= maximum, "a limit begins between its ends")
}

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high)

/** What is left of a limit after a drop. */
const BACKOFF = 0.9

export interface GradientLimitOptions extends LimitRange {
  /** Times the long-term time per token that is taken for no queue yet. At least 1. */
  readonly tolerance: number
  /** Weight of a window's result. */
  readonly smoothing: number
  /** Requests beyond those in service that are wanted, so that the limit grows while nothing queues. */
  readonly queue: number
}

/** Windows that the long-term time per token looks back on. */
const LONG_WINDOWS = 600
const LONG_WEIGHT = 2 / (LONG_WINDOWS + 1)
/** Share of it while the limit binds: time that requests wait for each other is not what the work takes. */
const LIMITED_WEIGHT = 1 / 8
/** Above so many times the short-term time, the long-term one is that of a load that is over. */
const LONG_MAX = 2
const LONG_DECAY = 0.95
const GRADIENT_MIN = 0.5

/**
 * Follows the time per token: where it is above `tolerance` times its long-term mean requests queue, and the limit shrinks in
 * proportion; else it grows by `queue`. It does not grow while less than half of it is used.
 *
 * It differs from its source in three ways: times are per token and per window, for a long answer is no sign of a queue; a drop takes
 * off a tenth; and the long-term mean learns at an eighth of its rate while the limit binds, or it would take its own queue for usual.
 *
 * Source: Netflix/concurrency-limits, Gradient2Limit.java.
 */
export class GradientLimit implements ConcurrencyLimit {
  limit: number
  private readonly options: GradientLimitOptions
  private longMs = 0
  /** In which the limit did not bind. */
  private windows = 0

  constructor(options: GradientLimitOptions) {
    assertRange(options)
    this.options = options
    this.limit = options.initial
  }

  update({ msPerToken: shortMs, inFlight, limited, dropped }: LimitWindow): void {
    const { minimum, maximum, tolerance, smoothing, queue } = this.options
    if (dropped) this.limit = Math.max(minimum, this.limit * BACKOFF)
    if (!(shortMs > 0)) return
    this.learn(shortMs, limited)
    if (dropped || inFlight < this.limit / 2) return
    const gradient = clamp((tolerance * this.longMs) / shortMs, GRADIENT_MIN, 1)
    const wanted = this.limit * gradient + queue
    this.limit = clamp(this.limit + smoothing * (wanted - this.limit), minimum, maximum)
  }

  private learn(shortMs: number, limited: boolean): void {
    const first = this.longMs === 0
    if (!limited) this.windows++
    const weight = limited ? LONG_WEIGHT * LIMITED_WEIGHT : Math.max(1 / this.windows, LONG_WEIGHT)
    this.longMs += (first ? 1 : weight) * (shortMs - this.longMs)
    if (this.longMs > LONG_MAX * shortMs) this.longMs *= LONG_DECAY
  }
}

/**
 * One more after each window that used half of it, a tenth less after each with a drop.
 *
 * Source: Netflix/concurrency-limits, AIMDLimit.java; Chiu and Jain, 1989.
 */
export class AimdLimit implements ConcurrencyLimit {
  limit: number
  private readonly range: LimitRange

  constructor(range: LimitRange) {
    assertRange(range)
    this.range = range
    this.limit = range.initial
  }

  update({ inFlight, dropped }: LimitWindow): void {
    const { minimum, maximum } = this.range
    if (dropped) this.limit = Math.max(minimum, this.limit * BACKOFF)
    else if (inFlight >= this.limit / 2) this.limit = Math.min(maximum, this.limit + 1)
  }
}
