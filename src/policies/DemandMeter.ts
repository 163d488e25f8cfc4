import type { Reason } from "../domain/Outcome.ts"
import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { floats, grow } from "../structures/grow.ts"
import { Histogram } from "../structures/Histogram.ts"
import type { PrefixIndex } from "../structures/PrefixIndex.ts"
import type { Admission } from "./Admission.ts"
import type { DemandView } from "./Scaling.ts"

export interface Demand extends DemandView {
  /** Prompt tokens of the requests that are queued. */
  readonly queuedPromptTokens: number
}

/** Requests whose prompts are remembered, and after how many others one counts half. */
const PROMPTS_MAX = 4096
const HALF_LIFE = 1024
const LATE_QUANTILE = 0.95

/**
 * Measures what is asked of one pool. It stands first among the pool's admissions, lets everyone in, and so sees those too whom others
 * refuse. It outlives the pool: after `restarted` it is told anew of the requests there are. 29 KiB and 8 bytes for each slot up to the
 * largest seen; O(1) for each event.
 */
export class DemandMeter implements Admission {
  private sinceMs: number
  private arrivals = 0
  /** Attempts that ended, and how long they were at their workers in total. */
  private served = 0
  private servedMs = 0
  private readonly ttftMs = new Histogram()
  /** Requests that are here, those of them at workers, and the same in prompt tokens. */
  private live = 0
  private placedCount = 0
  private liveTokens = 0
  private placedTokens = 0
  /** Σ requests at workers × time, up to `countedMs`. */
  private busyMs = 0
  private countedMs: number
  /** By request slot: when its attempt was placed. */
  private placedMs = new Float64Array(0)
  /** The last blocks of the prompts placed, the newest before `next`. Both words are 0 where there is none. */
  private readonly high = new Uint32Array(PROMPTS_MAX)
  private readonly low = new Uint32Array(PROMPTS_MAX)
  private next = 0

  constructor(nowMs: number) {
    this.sinceMs = this.countedMs = nowMs
  }

  /** The pool is a new one, and knows of no request yet. */
  restarted(nowMs: number): void {
    this.count(nowMs)
    this.live = this.placedCount = this.liveTokens = this.placedTokens = 0
  }

  /** What was asked since the last call. */
  take(nowMs: number): Demand {
    this.count(nowMs)
    const periodMs = nowMs - this.sinceMs
    const demand: Demand = {
      periodMs,
      arrivalsPerSecond: (this.arrivals * 1000) / periodMs,
      serviceMs: this.servedMs / this.served,
      ttftMsP95: this.ttftMs.quantile(LATE_QUANTILE),
      inFlight: this.busyMs / periodMs,
      queued: this.live - this.placedCount,
      queuedPromptTokens: this.liveTokens - this.placedTokens
    }
    this.sinceMs = nowMs
    this.arrivals = this.served = this.servedMs = this.busyMs = 0
    this.ttftMs.clear()
    return demand
  }

  /**
   * Adds to `values`, by worker slot, the prompt blocks that would be found there if the requests of late came again, each weighted by how
   * long ago it came.
   */
  addCachedValue(index: PrefixIndex, values: Float64Array): void {
    for (let age = 0; age < PROMPTS_MAX; age++) {
      const at = (this.next - 1 - age + PROMPTS_MAX) % PROMPTS_MAX
      const [high, low] = [this.high[at]!, this.low[at]!]
      if (high === 0 && low === 0) return
      const weight = 2 ** (-age / HALF_LIFE)
      const { count, workers, blocks } = index.matchEnding(high, low)
      for (let i = 0; i < count; i++) values[workers[i]!]! += weight * blocks[i]!
    }
  }

  readonly decide = (): null => {
    this.arrivals++
    return null
  }

  readonly admitted = ({ promptTokens }: RequestView): void => {
    this.live++
    this.liveTokens += promptTokens
  }

  readonly placed = (request: RequestView, _worker: number, _pool: PoolView, nowMs: number): void => {
    const { chain, promptTokens, slot } = request
    this.count(nowMs)
    this.placedCount++
    this.placedTokens += promptTokens
    if (slot >= this.placedMs.length) this.placedMs = grow(this.placedMs, slot, floats)
    this.placedMs[slot] = nowMs
    if (chain.count === 0) return
    this.high[this.next] = chain.high[chain.count - 1]!
    this.low[this.next] = chain.low[chain.count - 1]!
    this.next = (this.next + 1) % PROMPTS_MAX
  }

  readonly timed = ({ arrivedMs }: RequestView, _worker: number, _pool: PoolView, nowMs: number): void =>
    this.ttftMs.record(Math.max(0, nowMs - arrivedMs))

  readonly released = (
    { promptTokens, slot }: RequestView,
    _worker: number,
    _reason: Reason,
    _pool: PoolView,
    nowMs: number
  ): void => {
    this.count(nowMs)
    this.placedCount--
    this.placedTokens -= promptTokens
    this.served++
    this.servedMs += nowMs - this.placedMs[slot]!
  }

  readonly ended = ({ promptTokens }: RequestView): void => {
    this.live--
    this.liveTokens -= promptTokens
  }

  private count(nowMs: number): void {
    if (nowMs <= this.countedMs) return
    this.busyMs += this.placedCount * (nowMs - this.countedMs)
    this.countedMs = nowMs
  }
}
