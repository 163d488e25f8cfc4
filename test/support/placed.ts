import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { chargedTtftMs } from "../../src/policies/costs.ts"
import { Estimates } from "../../src/policies/estimators/Estimates.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import { charge, foreseen, oneRequest, prefilled, release } from "./pools.ts"

interface Placed {
  readonly request: RequestView
  readonly worker: number
  readonly sinceMs: number
  isStreaming: boolean
}

/** Requests placed in a pool, for one rescue, which hears of them; what it asks for is written down, and done to nobody. */
export class PlacedRequests {
  readonly asked: Array<string> = []
  private readonly rescue: Rescue
  private readonly pool: PoolView
  private readonly estimates = new Estimates()
  private readonly all: Array<Placed> = []
  private readonly isRefused: boolean

  constructor(rescue: Rescue, pool: PoolView, isRefused = false) {
    this.rescue = rescue
    this.pool = Object.assign(pool, { forecast: foreseen(this.estimates) })
    this.isRefused = isRefused
    for (const worker of pool.eligible) rescue.changed?.(worker, true, pool, 0)
  }

  /** A request that waits. */
  queue(facts: Partial<RequestView>): RequestView {
    const request = { ...oneRequest, slot: this.all.length, idLow: this.all.length, ...facts }
    this.rescue.admitted?.(request, this.pool, 0)
    return request
  }

  place(worker: number, sinceMs: number, facts: Partial<RequestView> = {}): RequestView {
    const request = charge(this.pool, worker, this.queue(facts), sinceMs)
    this.all.push({ request, worker, sinceMs, isStreaming: false })
    this.estimates.placed(request, worker, this.pool, sinceMs)
    this.rescue.placed?.(request, worker, this.pool, sinceMs)
    return request
  }

  /** `count` requests of 3,200 tokens came and went whose first token came when it was predicted. */
  foresee(count: number, worker: number): void {
    for (let i = 0; i < count; i++) {
      const request = charge(this.pool, worker, this.queue({ slot: 1000, promptTokens: 3200 }))
      const predictedMs = chargedTtftMs(this.pool.workers, worker, 0)
      this.estimates.placed(request, worker, this.pool, 0)
      this.rescue.placed?.(request, worker, this.pool, 0)
      prefilled(this.pool, worker, request)
      this.rescue.timed?.(request, worker, this.pool, predictedMs)
      release(this.pool, worker, request)
      this.rescue.released?.(request, worker, Reason.none, this.pool, predictedMs)
      this.rescue.ended?.(request, Reason.none, this.pool, predictedMs)
    }
  }

  stream(worker: number, sinceMs: number, facts: Partial<RequestView> = {}): RequestView {
    const request = this.place(worker, sinceMs, facts)
    prefilled(this.pool, worker, request)
    this.all.at(-1)!.isStreaming = true
    this.rescue.timed?.(request, worker, this.pool, sinceMs)
    return request
  }

  /** What is asked for in one review. */
  review(nowMs: number): ReadonlyArray<string> {
    const ask =
      (kind: string) =>
      (slot: number, to?: number): boolean => {
        this.asked.push([kind, slot, ...(to === undefined ? [] : [to])].join(" "))
        return !this.isRefused
      }
    const visit =
      (isStreaming: boolean) =>
      (see: (request: RequestView, worker: number, placedMs: number) => void): void => {
        for (const one of this.all)
          if (one.isStreaming === isStreaming) see(one.request, one.worker, one.sinceMs)
      }
    this.asked.length = 0
    this.rescue.review(
      this.pool,
      { unstarted: visit(false), streaming: visit(true) },
      { hedge: ask("hedge"), move: ask("move"), requeue: ask("requeue"), migrate: ask("migrate") },
      nowMs
    )
    return [...this.asked]
  }
}
