import { isRetryable, Reason } from "../domain/Outcome.ts"
import { Role } from "../domain/PoolView.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { Flag } from "../protocol/Header.ts"
import { assert } from "../structures/assert.ts"
import type { Pipeline } from "../policies/pipelines.ts"
import type { PlacedView, RescueActions } from "../policies/Rescue.ts"
import type { PrefixIndex } from "../structures/PrefixIndex.ts"
import { BalancerPool } from "./BalancerPool.ts"
import { Attempt, Charges } from "./Charges.ts"
import { Act, type DecisionLog } from "./DecisionLog.ts"
import { byArrival, Phase, type Request, type RequestTable } from "./RequestTable.ts"
import { Progress, State } from "./Progress.ts"
import type { Stopwatches } from "./Stopwatch.ts"
import { countDone, countFailed, countFirst, countRejected, type Totals } from "./Totals.ts"
import type { WorkerTable } from "./WorkerTable.ts"

/** What the core asks of the world. Calls happen inside the methods of `BalancerState`, in order; none calls back into the core. */
export interface BalancerEffects {
  readonly accept: (slot: number) => void
  /** Refuses a request that was not accepted. */
  readonly reject: (slot: number, reason: Reason, retryAfterMs: number) => void
  /**
   * Sends the request as a new attempt, tied to its live one where it has one: the first token or DONE of either calls the other off, and
   * the failure of one leaves the other. `untied` tells the core of both. `part`, a `Role`, says what of the request it does: of a split
   * one first `prefill`, of whose end `read` tells the core, then `decode`. False when the worker is gone, drains, or serves the model
   * no more: nothing was sent.
   */
  readonly assign: (slot: number, worker: number, part: number, nowMs: number) => boolean
  /** Ends an attempt. Of a split request no KV cache is kept any more. */
  readonly cancelAttempt: (slot: number, worker: number) => void
  /** Ends an accepted request with an error. */
  readonly fail: (slot: number, reason: Reason, retryAfterMs: number) => void
}

export interface BalancerStateOptions {
  readonly table: RequestTable
  readonly workers: WorkerTable
  readonly totals: Totals
  readonly effects: BalancerEffects
  /** Asks for `settle` once all that has happened at this moment was told. */
  readonly settleSoon: () => void
  /** Asks for `tick` at `atMs` or soon after, besides the usual ones. */
  readonly wakeAt: (atMs: number) => void
  /** The policies of a new pool, and what is known of its workers' prefix caches, in blocks of so many tokens. */
  readonly pipeline: (model: number) => Pipeline
  readonly prefixes: (model: number) => PrefixIndex
  readonly blockTokens: number
  /** Attempts per request, the first included. */
  readonly attemptsMax: number
  /** Retries per accepted request that copies and failures answered by a worker may cost (workers that are lost or leave cost none). */
  readonly retryBudget: number
  /** Who keeps account of what is decided, and why. It changes nothing. */
  readonly decisions?: DecisionLog | undefined
  /** Who takes the time of decisions. They change nothing. */
  readonly stopwatches?: Stopwatches | undefined
  readonly nowMs: number
}

/** As live, and in a replay. */
export const RETRY_BUDGET = 0.1

/** What a client waits before it asks again when no worker is ready, or the balancer is about to stop. */
export const NO_WORKER_RETRY_MS = 1_000
const FAILED_RETRY_MS = 100
/** How often policies are told of tokens that came: each time all requests are looked at, and fairness over seconds does not mind. */
const TELL_MS = 100

/**
 * The decisions of one balancer, as a state machine over the facts in `RequestTable`: life of a request from admission to its one
 * terminal, load accounting, retries, deadlines. Pure: no IO, no clock; `nowMs` comes in and never decreases; what is to be done goes out
 * through `effects`. The live balancer actor and the replay drive this same object.
 *
 * Laws: each attempt is charged before `assign` and released exactly once, and a request has one, or two that are tied, or one that
 * reads its prompt and a place for its answer; every accepted slot gets exactly one terminal; after all requests ended every count is 0.
 * Cost per request: O(1) plus the policies'; no allocation, but for copies and split requests.
 */
export class BalancerState {
  private readonly options: BalancerStateOptions
  private readonly table: RequestTable
  private readonly workers: WorkerTable
  private readonly effects: BalancerEffects
  private readonly totals: Totals
  private readonly pools: Array<BalancerPool | undefined> = []
  private readonly charges: Charges
  /** By slot. */
  private readonly progress: Array<Progress> = []
  private nowMs: number
  /** Of one batch. */
  private picked = new Int32Array(16)
  /** The pool whose rescues are at work, and which of them is. */
  private reviewed: BalancerPool | undefined
  private rescuer = -1
  /** When policies are told of tokens again. */
  private tellMs = 0
  /** No deadline is earlier. */
  private earliestMs = Number.POSITIVE_INFINITY
  /** The earliest `tick` that was asked for and has not come. */
  private wakeMs = Number.POSITIVE_INFINITY
  /** New requests are refused: the process is about to stop. */
  draining = false

  constructor(options: BalancerStateOptions) {
    this.options = options
    this.table = options.table
    this.workers = options.workers
    this.charges = new Charges(options.workers)
    this.effects = options.effects
    this.totals = options.totals
    this.nowMs = options.nowMs
  }

  /** A new request: admits and places it, queues it, or refuses it. */
  submit(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const request = this.table.at(slot)
    const pool = this.poolOf(request.model)
    if (this.draining) return this.reject(slot, Reason.draining, NO_WORKER_RETRY_MS)
    if (!pool.isServed) return this.reject(slot, Reason.noWorker, NO_WORKER_RETRY_MS)
    request.uncachedTokens = request.promptTokens
    pool.unmatch()
    const refusal = pool.refusal(request, nowMs)
    if (refusal !== null) return this.reject(slot, refusal.reason, refusal.retryAfterMs, pool.refusedBy)
    this.admit(request, pool)
    if (pool.hasRoom && pool.queuedCount === 0 && !pool.policies.joint) return this.place(request, pool)
    this.queue(request, pool)
    pool.policies.ordering.enqueue(request, pool, nowMs)
    if (pool.policies.joint && !pool.waiting) {
      pool.waiting = true
      this.options.settleSoon()
    }
  }

  /** All that happened at this moment was told: places what waited for it. */
  settle(nowMs: number): void {
    this.nowMs = nowMs
    for (const pool of this.pools) {
      if (pool === undefined || !pool.waiting) continue
      pool.waiting = false
      this.serve(pool)
    }
  }

  /** The first token of the live attempt was relayed. */
  first(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const progress = this.progressOf(slot)
    if (progress.state === State.placed) this.start(this.table.at(slot), progress)
  }

  /** DONE was relayed: the request is over. */
  done(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const progress = this.progressOf(slot)
    if (progress.state === State.placed) this.first(slot, nowMs)
    assert(progress.state === State.streaming, "a request that is done was placed")
    const request = this.table.at(slot)
    countDone(this.totals, request, this.poolOf(request.model).policies.targets, nowMs)
    this.discharge(request, Reason.none)
    this.end(request, Reason.none)
  }

  /** One of two tied attempts is over, the other is the live one: releases the first, and lets policies hear of a copy that lives on. */
  untied(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const progress = this.progressOf(slot)
    const { copy, worker } = progress
    if (copy === undefined) return
    const request = this.table.at(slot)
    const pool = this.poolOf(request.model)
    // The copy was sent last, and nothing since.
    if (request.live < request.attempts) {
      this.totals.hedges.lost++
      return this.dropCopy(pool, progress)
    }
    this.totals.hedges.won++
    this.uncharge(request, pool, request.tiedFailure)
    progress.become(copy)
    progress.copy = undefined
    this.placed(request, pool, progress)
    this.vacated(worker)
  }

  /** The prompt of a split request was read: the reader is released, and the answer produced where a place was kept for it. */
  read(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const progress = this.progressOf(slot)
    const { producer, worker } = progress
    const request = this.table.at(slot)
    // The KV cache may have been let go since, and the request be read anew.
    if (producer === undefined || request.kept === 0) return
    const pool = this.poolOf(request.model)
    const isReady = pool.isReady(producer.worker)
    if (isReady && this.send(slot, producer.worker, Role.decode, "handed_over")) {
      this.charges.started(progress, nowMs)
      this.charges.release(progress, pool, nowMs)
      progress.become(producer)
      progress.producer = undefined
      progress.moves++
      pool.tellHandedOver(request, worker, producer.worker, nowMs)
      this.vacated(worker)
    } else {
      this.effects.cancelAttempt(slot, worker)
      this.retry(request, Reason.workerLost)
    }
  }

  /** The live attempt is over without DONE, for its `failure`: retries it where that is allowed, or ends the request. */
  failed(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const { state } = this.progressOf(slot)
    const request = this.table.at(slot)
    const reason = request.failure
    // After a restart the failure may have been seen to already: then another attempt goes on.
    if (reason === Reason.none || (state !== State.placed && state !== State.streaming)) return
    this.retry(request, reason)
  }

  /** Releases the attempt, which is over, and tries the request again where that is allowed; else it fails. */
  private retry(request: Request, reason: Reason): void {
    const progress = this.progressOf(request.slot)
    const { state, worker } = progress
    this.discharge(request, reason)
    if (state === State.placed && this.mayRetry(request, reason)) {
      this.totals.retries++
      progress.avoided = worker
      this.requeue(request)
    } else this.fail(request, reason)
  }

  /** The client gave the request up, or is gone. */
  cancel(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const request = this.table.at(slot)
    if (this.isLive(request)) this.stop(request, Reason.cancelled)
  }

  /**
   * Ends what is past its deadline, closes batches, tells policies of tokens, and lets them rescue. Call it every few milliseconds, and
   * when `wakeAt` asked for it.
   */
  tick(nowMs: number): void {
    this.nowMs = nowMs
    if (nowMs >= this.wakeMs) this.wakeMs = Number.POSITIVE_INFINITY
    this.expire(nowMs)
    const isToTell = nowMs >= this.tellMs
    if (isToTell) this.tellMs = (Math.floor(nowMs / TELL_MS) + 1) * TELL_MS
    for (const pool of this.pools) {
      if (pool === undefined) continue
      pool.prefixes?.expire(nowMs)
      if (isToTell && pool.listensToTokens) this.tellTokens(pool)
      if (pool.policies.rescues.length > 0 && pool.placed > 0) this.review(pool)
      if (!pool.waiting) this.serve(pool)
    }
  }

  /**
   * Only when the earliest deadline it knows of has passed does it look at every slot, about 5 ns each: at any rate of requests that is
   * less than the price of a timer for each.
   */
  private expire(nowMs: number): void {
    if (nowMs < this.earliestMs) return
    this.earliestMs = Number.POSITIVE_INFINITY
    const { table } = this
    const due: Array<Request> = []
    for (let slot = 0; slot < table.capacity; slot++) {
      const request = table.at(slot)
      if (!this.isLive(request)) continue
      if (request.deadlineMs <= nowMs) due.push(request)
      else this.expect(request)
    }
    this.stopAll(due.toSorted(byArrival), Reason.expired)
  }

  /** Ends every request there is: who drains has waited long enough. */
  giveUp(nowMs: number): void {
    this.nowMs = nowMs
    this.stopAll(this.table.all(), Reason.draining)
  }

  /** The end of one may be that of another, which gets its place and is overdue. */
  private stopAll(requests: ReadonlyArray<Request>, reason: Reason): void {
    for (const request of requests) if (this.isLive(request)) this.stop(request, reason)
  }

  /** `worker` serves `model` and may get work for it (`ready`), or may not (late, draining, lost). */
  member(model: number, worker: number, ready: boolean, nowMs: number): void {
    this.nowMs = nowMs
    const pool = this.poolOf(model)
    this.charges.join(worker, pool)
    pool.setReady(worker, ready, nowMs)
    this.serve(pool)
  }

  /** The place of `worker`, which is gone, is about to be another's: nobody may list it under its key any more. */
  vacate(worker: number, nowMs: number): void {
    for (const pool of this.charges.poolsOf(worker)) pool.setReady(worker, false, nowMs)
  }

  /** A heartbeat. */
  observe(worker: number, load: WorkerLoad, nowMs: number): void {
    this.workers.observe(worker, load, nowMs)
    for (const pool of this.charges.poolsOf(worker)) pool.tellObserved(worker, nowMs)
  }

  /**
   * Takes over a request that an earlier core had: `worker` is the one that holds its live attempt, `tied` the one with the attempt tied
   * to that, -1 for none. All workers must have been announced before; and prompts that are read been given up, for where the answer was
   * to be produced is not known any more.
   */
  announce(slot: number, worker: number, tied: number, nowMs: number): void {
    this.nowMs = nowMs
    const { table } = this
    const request = table.at(slot)
    if (request.phase === Phase.ended) {
      // Unless the earlier core crashed over its end, its DONE was relayed and the word of it lost with that core. Where that of the
      // first token was too, TPOT is not known.
      if (!request.counted) {
        countDone(this.totals, request, this.poolOf(request.model).policies.targets, nowMs)
        countFirst(this.totals, request, this.nowMs)
      }
      return table.release(slot)
    }
    if (request.accepted) this.takeOver(request, worker, tied)
    else this.submit(slot, nowMs)
    // Word of that was lost too. The request may be over by now.
    if (request.cancelled) this.cancel(slot, nowMs)
  }

  /** Requests waiting for a worker. */
  get queued(): number {
    return this.pools.reduce((sum, pool) => sum + (pool?.queuedCount ?? 0), 0)
  }

  /** Requests that are placed. */
  get inFlight(): number {
    return this.pools.reduce((sum, pool) => sum + (pool?.placed ?? 0), 0)
  }

  /** Requests waiting for a worker of `model`. */
  queuedOf(model: number): number {
    return this.pools[model]?.queuedCount ?? 0
  }

  /** Looks at every request that waits for a worker. Cost O(slots). */
  eachQueued(visit: (request: Request) => void): void {
    for (const [slot, progress] of this.progress.entries())
      if (progress?.state === State.queued) visit(this.table.at(slot))
  }

  /** Requests of `model` that are placed. */
  inFlightOf(model: number): number {
    return this.pools[model]?.placed ?? 0
  }

  /** Whether this core has the request, and its terminal was not written. */
  private isLive({ phase, slot }: Request): boolean {
    return phase === Phase.open && this.progressOf(slot).state !== State.none
  }

  private progressOf(slot: number): Progress {
    return (this.progress[slot] ??= new Progress())
  }

  private admit(request: Request, pool: BalancerPool): void {
    this.totals.accepted++
    request.accepted = true
    pool.saveRetry(this.options.retryBudget)
    this.expect(request)
    this.effects.accept(request.slot)
    pool.tellAdmitted(request, this.nowMs)
  }

  /** Goes on with a request that was accepted, or ends it. */
  private takeOver(request: Request, worker: number, tied: number): void {
    this.expect(request)
    const streaming = request.nextIndex > 0
    const pool = this.poolOf(request.model)
    pool.unmatch()
    pool.tellAdmitted(request, this.nowMs)
    if (worker >= 0) {
      const progress = this.progressOf(request.slot)
      this.charge(request, pool, worker, request.part)
      progress.inherited = true
      if (tied >= 0) progress.copy = this.chargeAnew(request, pool, tied, Role.both)
      if (streaming) {
        this.start(request, progress)
        // Or they would be taken for tokens that come from now on.
        if (pool.listensToTokens) this.tellTokensOf(request, pool, progress)
      }
    } else {
      const reason = lossOf(request)
      if (request.attempts === 0 || (!streaming && this.mayRetry(request, reason))) this.requeue(request)
      else this.fail(request, reason)
    }
  }

  /** Has `tick` look at the deadline of a request that was taken on. */
  private expect({ deadlineMs }: Request): void {
    if (deadlineMs < this.earliestMs) this.earliestMs = deadlineMs
  }

  private queue(request: Request, pool: BalancerPool): void {
    if (pool.queuedCount === 0) pool.sinceMs = this.nowMs
    this.progressOf(request.slot).state = State.queued
    pool.queuedPromptTokens += request.promptTokens
  }

  private requeue(request: Request): void {
    const pool = this.poolOf(request.model)
    this.putBack(request, pool)
    this.serve(pool)
  }

  private putBack(request: Request, pool: BalancerPool): void {
    this.queue(request, pool)
    pool.policies.ordering.requeue(request, pool, this.nowMs)
  }

  private dequeued(request: Request, pool: BalancerPool): void {
    this.progressOf(request.slot).state = State.none
    pool.queuedPromptTokens -= request.promptTokens
  }

  /** Places queued requests while a worker has room and batching lets it. */
  private serve(pool: BalancerPool): void {
    const { batching, placement } = pool.policies
    while (pool.hasRoom && pool.queuedCount > 0) {
      const closesAtMs = batching.closesAtMs(pool, this.nowMs)
      if (closesAtMs > this.nowMs) return this.wakeAt(closesAtMs)
      const size = Math.min(batching.sizeMax(), pool.queuedCount)
      if (size > 1 && placement.pickBatch !== undefined) {
        if (!this.placeTogether(pool, size)) return
      } else this.placeEach(pool, size)
      pool.sinceMs = this.nowMs
    }
  }

  /** A `tick` that comes earlier asks again: else each request that waits would add one for as long as others do. */
  private wakeAt(atMs: number): void {
    if (atMs >= this.wakeMs) return
    this.wakeMs = atMs
    this.options.wakeAt(atMs)
  }

  /** The next request that is worth placing; undefined when there is none. */
  private takeNext(pool: BalancerPool): Request | undefined {
    while (pool.queuedCount > 0) {
      const slot = pool.policies.ordering.next(pool, this.nowMs)
      assert(slot >= 0, "an ordering gives out what it holds")
      const request = this.table.at(slot)
      this.dequeued(request, pool)
      if (!pool.isOverdue(request, this.nowMs)) return request
      this.fail(request, Reason.shed)
    }
    return undefined
  }

  /** Places the next `size` requests one after the other, while a worker has room. */
  private placeEach(pool: BalancerPool, size: number): void {
    for (let left = size; left > 0 && pool.hasRoom; left--) {
      const request = this.takeNext(pool)
      if (request === undefined) return
      this.place(request, pool)
    }
  }

  /** Places the next `size` requests with one decision. False when it placed none of them. */
  private placeTogether(pool: BalancerPool, size: number): boolean {
    const batch: Array<Request> = []
    for (let next = this.takeNext(pool); next !== undefined; next = this.takeNext(pool)) {
      batch.push(next)
      if (batch.length === size) break
    }
    if (this.picked.length < size) this.picked = new Int32Array(size)
    const { picked } = this
    pool.pickTogether(batch, picked, this.nowMs)
    let placed = 0
    for (const [i, request] of batch.entries()) {
      const worker = picked[i]!
      pool.unmatch()
      if (worker < 0) {
        this.putBack(request, pool)
        continue
      }
      const fits = this.workers.hasRoom(worker) && worker !== this.progressOf(request.slot).avoided
      if (!fits || !this.attempt(request, pool, worker)) this.place(request, pool)
      placed++
    }
    return placed > 0
  }

  /** A worker found gone is taken off the list, so this ends after as many tries as there are workers. */
  private place(request: Request, pool: BalancerPool): void {
    const { avoided } = this.progressOf(request.slot)
    while (pool.hasRoom) {
      const worker = pool.pick(request, avoided, this.nowMs)
      assert(worker >= 0, "a policy picks while there is someone to pick")
      if (this.attempt(request, pool, worker, pool.producer)) return
    }
    this.putBack(request, pool)
  }

  /**
   * Sends the request to `worker`; its prompt alone, where `producer` is to go on with it. False when `worker` is gone: it is not ready any
   * more, and the request is where it was. `why` is as `WorkerTable.assigned` has it.
   */
  private attempt(
    request: Request,
    pool: BalancerPool,
    worker: number,
    producer = -1,
    why = request.attempt === 1 ? "first" : "retry"
  ): boolean {
    const { attempt, slot } = request
    const part = producer < 0 ? Role.both : Role.prefill
    this.charge(request, pool, worker, part)
    if (producer >= 0) this.progressOf(slot).producer = this.chargeAnew(request, pool, producer, Role.decode)
    if (this.send(slot, worker, part, why)) {
      if (attempt === 1) this.totals.queueMs.record(this.nowMs - request.arrivedMs)
      return true
    }
    this.uncharge(request, pool, Reason.workerLost)
    return false
  }

  /** Sends an attempt to `worker`, which was charged with it. False when it takes none: it is not ready for this model any more. */
  private send(slot: number, worker: number, part: number, why: string): boolean {
    if (this.effects.assign(slot, worker, part, this.nowMs)) {
      this.workers.countAssigned(worker, why)
      return true
    }
    this.poolOf(this.table.at(slot).model).setReady(worker, false, this.nowMs)
    return false
  }

  private charge(request: Request, pool: BalancerPool, worker: number, part: number): void {
    const progress = this.progressOf(request.slot)
    progress.inherited = false
    this.charges.charge(progress, request, pool, worker, part, this.nowMs)
    this.placed(request, pool, progress)
  }

  private chargeAnew(request: Request, pool: BalancerPool, worker: number, part: number): Attempt {
    return this.charges.charge(new Attempt(), request, pool, worker, part, this.nowMs)
  }

  /** The attempt of `progress` is the one that counts. */
  private placed(request: Request, pool: BalancerPool, progress: Progress): void {
    const { placedMs, uncachedTokens, worker } = progress
    progress.state = State.placed
    // Who produces the answer of a split request computes nothing of its prompt: what the reader did stands.
    if (uncachedTokens > 0) request.uncachedTokens = uncachedTokens
    pool.placed++
    pool.reached(request.slot, State.placed)
    pool.tellPlaced(request, worker, placedMs)
  }

  private start(request: Request, progress: Progress): void {
    const { worker } = progress
    progress.state = State.streaming
    countFirst(this.totals, request, this.nowMs)
    this.charges.started(progress, this.nowMs)
    const pool = this.poolOf(request.model)
    pool.reached(request.slot, State.streaming)
    if (!progress.inherited) {
      this.comparePredicted(request, pool)
      pool.tellTimed(request, worker, this.nowMs)
    }
    pool.tellStarted(request, worker, this.nowMs)
    if (pool.policies.pendingTokensMax === Number.POSITIVE_INFINITY) return
    this.charges.refresh(worker)
    this.serve(pool)
  }

  private comparePredicted({ slot }: Request, { forecast, policies }: BalancerPool): void {
    if (!policies.usesForecast) return
    const predictedMs = forecast.placedTtftMs(slot)
    if (!(predictedMs > 0 && predictedMs < Number.POSITIVE_INFINITY)) return
    this.totals.ttftOverPredicted.record((this.nowMs - forecast.placedMs(slot)) / predictedMs)
  }

  private uncharge(request: Request, pool: BalancerPool, reason: Reason): void {
    const progress = this.progressOf(request.slot)
    if (pool.listensToTokens) this.tellTokensOf(request, pool, progress)
    this.charges.release(progress, pool, this.nowMs)
    this.dropPlace(pool, progress)
    progress.state = State.none
    pool.placed--
    pool.left(request.slot)
    pool.tellReleased(request, progress.worker, reason, this.nowMs)
  }

  /** The copy of a request is over. */
  private dropCopy(pool: BalancerPool, progress: Progress): void {
    const copy = progress.copy!
    progress.copy = undefined
    this.charges.release(copy, pool, this.nowMs)
    this.vacated(copy.worker)
  }

  /** Nothing comes of the place that was kept for the answer of a request. */
  private dropPlace(pool: BalancerPool, progress: Progress): void {
    const { producer } = progress
    if (producer === undefined) return
    progress.producer = undefined
    this.charges.release(producer, pool, this.nowMs)
  }

  /** Releases the worker and lets the next request have it. */
  private discharge(request: Request, reason: Reason): void {
    this.uncharge(request, this.poolOf(request.model), reason)
    this.vacated(this.progressOf(request.slot).worker)
  }

  /** A place at `worker` is free: the next request may have it. */
  private vacated(worker: number): void {
    const pools = this.charges.poolsOf(worker)
    for (let i = 0; i < pools.length; i++) {
      const pool = pools[i]!
      if (pool.departed(this.nowMs)) this.serve(pool)
    }
  }

  /** Tells the policies of the tokens that came since they were told last. */
  private tellTokens(pool: BalancerPool): void {
    pool.eachIn(State.streaming, (slot) =>
      this.tellTokensOf(this.table.at(slot), pool, this.progressOf(slot))
    )
  }

  private tellTokensOf(request: Request, pool: BalancerPool, progress: Progress): void {
    const tokens = request.outputTokens - progress.toldTokens
    if (tokens <= 0 || progress.state !== State.streaming) return
    progress.toldTokens += tokens
    pool.tellProduced(request, tokens, this.nowMs)
  }

  /** Lets the rescue policies of a pool act on what it placed. */
  private review(pool: BalancerPool): void {
    this.reviewed = pool
    const { rescues } = pool.policies
    for (let i = 0; i < rescues.length; i++) {
      this.rescuer = i
      rescues[i]!.review(pool, this.placedView, this.rescueActions, this.nowMs)
    }
  }

  private readonly placedView: PlacedView = {
    unstarted: (visit) => this.visit(State.placed, visit),
    streaming: (visit) => this.visit(State.streaming, visit)
  }

  private visit(state: number, visit: Parameters<PlacedView["unstarted"]>[0]): void {
    this.reviewed!.eachIn(state, (slot) => {
      const request = this.table.at(slot)
      const progress = this.progressOf(slot)
      const goesOn = request.phase === Phase.open && request.failure === Reason.none
      const mayAct = state === State.placed ? this.mayLeave(request, progress) : goesOn
      if (mayAct) visit(request, progress.worker, progress.placedMs)
    })
  }

  private readonly rescueActions: RescueActions = {
    hedge: (slot, worker) => {
      const request = this.table.at(slot)
      const progress = this.progressOf(slot)
      const pool = this.poolOf(request.model)
      const { avoided, moves } = progress
      if (!this.mayLeave(request, progress) || worker === progress.worker || worker === avoided) return false
      if (!pool.takes(worker) || !pool.hasRetry || request.attempts - moves >= this.options.attemptsMax)
        return false
      if (request.part !== Role.both) return false
      this.options.decisions?.rescued(Act.hedged, request, pool, worker, this.rescuer, this.nowMs)
      const copy = this.chargeAnew(request, pool, worker, Role.both)
      if (!this.send(slot, worker, Role.both, this.rescueName(pool))) {
        this.charges.release(copy, pool, this.nowMs)
        return false
      }
      progress.copy = copy
      this.countRescue(pool)
      pool.spendRetry()
      return true
    },
    move: (slot, worker) => {
      const from = this.takeBack(slot, worker)
      if (from < 0) return false
      const request = this.table.at(slot)
      const pool = this.poolOf(request.model)
      if (!this.attempt(request, pool, worker, -1, this.rescueName(pool))) this.putBack(request, pool)
      this.vacated(from)
      return true
    },
    requeue: (slot) => {
      const from = this.takeBack(slot, -1)
      if (from < 0) return false
      const request = this.table.at(slot)
      this.progressOf(slot).avoided = from
      this.requeue(request)
      this.vacated(from)
      return true
    },
    migrate: () => false
  }

  /**
   * Whether a request waits at its worker alone, and may be sent to another one. The facts may be ahead of what this core was told: a
   * token or a failure may be on record.
   */
  private mayLeave({ failure, flags, nextIndex, phase }: Request, { copy, state }: Progress): boolean {
    return (
      phase === Phase.open &&
      state === State.placed &&
      nextIndex === 0 &&
      failure === Reason.none &&
      copy === undefined &&
      (flags & Flag.sideEffects) === 0
    )
  }

  /** Ends the attempt of a request that has not started; -1 when that cannot be, or `to` (-1 for nobody) cannot take it. */
  private takeBack(slot: number, to: number): number {
    const request = this.table.at(slot)
    const progress = this.progressOf(slot)
    const pool = this.poolOf(request.model)
    const { worker } = progress
    if (!this.mayLeave(request, progress) || to === worker || (to >= 0 && !pool.takes(to))) return -1
    const act = to < 0 ? Act.requeued : Act.moved
    this.options.decisions?.rescued(act, request, pool, to, this.rescuer, this.nowMs)
    this.effects.cancelAttempt(slot, worker)
    this.uncharge(request, pool, Reason.cancelled)
    progress.moves++
    this.countRescue(pool)
    return worker
  }

  /** Of the rescue that is at work. */
  private rescueName({ policies }: BalancerPool): string {
    return policies.rescueNames[this.rescuer]!
  }

  private countRescue(pool: BalancerPool): void {
    const { rescues } = this.totals
    const name = this.rescueName(pool)
    rescues.set(name, (rescues.get(name) ?? 0) + 1)
  }

  private mayRetry({ attempts, deadlineMs, flags, model, slot }: Request, reason: Reason): boolean {
    if (!isRetryable(reason) || deadlineMs <= this.nowMs) return false
    if (attempts - this.progressOf(slot).moves >= this.options.attemptsMax) return false
    const isUntouched = reason === Reason.workerRefused || reason === Reason.draining
    if ((flags & Flag.sideEffects) !== 0 && !isUntouched) return false
    // That workers come and go says nothing of the health of the others.
    if (reason === Reason.workerLost || reason === Reason.draining) return true
    const pool = this.poolOf(model)
    if (!pool.hasRetry) return false
    pool.spendRetry()
    return true
  }

  /** Ends a queued or running request for a reason of ours. */
  private stop(request: Request, reason: Reason): void {
    const { slot } = request
    const progress = this.progressOf(slot)
    const { copy, state, worker } = progress
    const pool = this.poolOf(request.model)
    if (state === State.queued) {
      pool.policies.ordering.remove(slot)
      this.dequeued(request, pool)
    } else {
      this.effects.cancelAttempt(slot, worker)
      if (copy !== undefined) {
        this.effects.cancelAttempt(slot, copy.worker)
        this.totals.hedges.cancelled++
        this.dropCopy(pool, progress)
      }
      this.discharge(request, reason)
    }
    this.fail(request, reason)
  }

  private fail(request: Request, reason: Reason): void {
    countFailed(this.totals, request, reason)
    this.effects.fail(request.slot, reason, isRetryable(reason) ? FAILED_RETRY_MS : 0)
    this.end(request, reason)
  }

  /** `by` is the admission policy that refused, -1 for none. */
  private reject(slot: number, reason: Reason, retryAfterMs: number, by = -1): void {
    const request = this.table.at(slot)
    const pool = this.poolOf(request.model)
    this.options.decisions?.refused(request, pool, by, reason, retryAfterMs, this.nowMs)
    if (by >= 0) pool.tellRefused(request, this.nowMs)
    // From the last on: before those that were chosen there may be others.
    countRejected(this.totals, request, reason, by < 0 ? 0 : pool.policies.admissions.length - by)
    this.effects.reject(slot, reason, retryAfterMs)
    this.table.release(slot)
  }

  private end(request: Request, reason: Reason): void {
    const { slot } = request
    const progress = this.progressOf(slot)
    progress.state = State.none
    progress.avoided = -1
    progress.moves = 0
    progress.toldTokens = 0
    this.poolOf(request.model).tellEnded(request, reason, this.nowMs)
    this.table.release(slot)
  }

  private poolOf(model: number): BalancerPool {
    const known = this.pools[model]
    if (known !== undefined) return known
    const { blockTokens, decisions, pipeline, prefixes, stopwatches } = this.options
    const pool = new BalancerPool({
      workers: this.workers,
      policies: pipeline(model),
      prefixes: prefixes(model),
      blockTokens,
      decisions,
      stopwatches
    })
    this.pools[model] = pool
    return pool
  }
}

/** Why a request that nobody holds lost its last attempt: as is on record, unless that was given up by ourselves. */
const lossOf = ({ failure }: Request): Reason =>
  failure === Reason.none || failure === Reason.cancelled ? Reason.workerLost : failure
