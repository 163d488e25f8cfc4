import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { oneRequest } from "./pools.ts"

type Mutable<Type> = { -readonly [Key in keyof Type]: Type[Key] }

/** What a request brings along; the rest is as in `oneRequest`. */
export type Facts = Partial<Omit<RequestView, "slot">>

/** What lies in the object of a slot that is not in use: a policy that still reads it goes astray. */
export const rubbish: Facts = {
  tenant: 3,
  weight: 77,
  class: 9,
  promptTokens: 999_999,
  uncachedTokens: 999_999
}

/**
 * Tells an ordering what happens to requests as the balancer does: each call is one thing that happens, with the hooks in the balancer's
 * order. Slots are given by whoever calls; each has one object for all its requests.
 */
export class OrderingLife {
  /** Where the live requests are, in the order in which they came there. */
  readonly queued = new Set<number>()
  readonly taken = new Set<number>()
  readonly placed = new Set<number>()
  readonly streaming = new Set<number>()
  nowMs = 0
  pool: PoolView
  private readonly ordering: Ordering
  private readonly rubbish: Facts
  private readonly requests: Array<Mutable<RequestView>> = []

  constructor(ordering: Ordering, pool: PoolView, left = rubbish) {
    this.ordering = ordering
    this.pool = pool
    this.rubbish = left
  }

  at(slot: number): RequestView {
    return this.requests[slot]!
  }

  /** A request that has to wait. */
  arrive(slot: number, facts: Facts): void {
    const request = this.admit(slot, facts)
    this.ordering.enqueue(request, this.pool, this.nowMs)
    this.queued.add(slot)
  }

  /** A request that is placed as it comes: nobody waits. */
  arriveAtOnce(slot: number, facts: Facts, uncachedTokens?: number): void {
    this.admit(slot, facts)
    this.taken.add(slot)
    this.place(slot, uncachedTokens)
  }

  /** The answer of `next`; a queued one counts as taken. */
  take(): number {
    const slot = this.ordering.next(this.pool, this.nowMs)
    if (this.queued.delete(slot)) this.taken.add(slot)
    return slot
  }

  /** Nobody has room for a request that was taken. */
  putBack(slot: number): void {
    this.taken.delete(slot)
    this.ordering.requeue(this.at(slot), this.pool, this.nowMs)
    this.queued.add(slot)
  }

  /** A taken request is not worth placing any more. */
  drop(slot: number): void {
    this.taken.delete(slot)
    this.ordering.ended?.(this.at(slot), Reason.shed, this.pool, this.nowMs)
    Object.assign(this.at(slot), this.rubbish)
  }

  place(slot: number, uncachedTokens = this.at(slot).promptTokens, worker = 0): void {
    this.taken.delete(slot)
    this.placed.add(slot)
    this.requests[slot]!.uncachedTokens = uncachedTokens
    this.ordering.placed?.(this.at(slot), worker, this.pool, this.nowMs)
  }

  /** A second copy of a placed request. */
  hedge(slot: number, worker = 1): void {
    this.ordering.placed?.(this.at(slot), worker, this.pool, this.nowMs)
  }

  /** A split request whose prompt was read at worker 0 goes on at another one. */
  handOver(slot: number, worker: number): void {
    this.ordering.handedOver?.(this.at(slot), 0, worker, this.pool, this.nowMs)
  }

  /** The attempt of a placed request is lost; the request goes back into the queue. */
  lose(slot: number): void {
    this.placed.delete(slot)
    this.release(slot, Reason.workerLost)
    this.requests[slot]!.attempt++
    this.ordering.requeue(this.at(slot), this.pool, this.nowMs)
    this.queued.add(slot)
  }

  start(slot: number): void {
    this.placed.delete(slot)
    this.streaming.add(slot)
    this.ordering.timed?.(this.at(slot), 0, this.pool, this.nowMs)
    this.ordering.started?.(this.at(slot), 0, this.pool, this.nowMs)
  }

  produce(slot: number, tokens: number): void {
    this.requests[slot]!.outputTokens += tokens
    this.ordering.produced?.(this.at(slot), tokens, this.pool, this.nowMs)
  }

  /** The end of a request that is not taken. Says whether the ordering knew it as queued or not. */
  end(slot: number, reason: Reason): boolean {
    const queued = this.queued.delete(slot)
    const right = this.ordering.remove(slot) === queued
    if (!queued) this.release(slot, reason)
    this.placed.delete(slot)
    this.streaming.delete(slot)
    this.ordering.ended?.(this.at(slot), reason, this.pool, this.nowMs)
    Object.assign(this.at(slot), this.rubbish)
    return right
  }

  private release(slot: number, reason: Reason): void {
    this.ordering.released?.(this.at(slot), 0, reason, this.pool, this.nowMs)
  }

  private admit(slot: number, facts: Facts): RequestView {
    const request = (this.requests[slot] ??= { ...oneRequest })
    Object.assign(request, oneRequest, facts, { slot, arrivedMs: facts.arrivedMs ?? this.nowMs })
    request.uncachedTokens = request.promptTokens
    this.ordering.admitted?.(request, this.pool, this.nowMs)
    return request
  }
}
