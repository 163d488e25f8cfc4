import { isRetryable, Reason } from "../domain/Outcome.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { Flag } from "../protocol/Header.ts"
import { assert } from "../structures/assert.ts"
import { Histogram } from "../structures/Histogram.ts"
import { BalancerPool, type Pipeline } from "./BalancerPool.ts"
import { Phase, type Request, type RequestTable } from "./RequestTable.ts"
import type { WorkerTable } from "./WorkerTable.ts"

/** What the core asks of the world. Calls happen inside `step` methods, in order; none calls back into the core. */
export interface BalancerEffects {
  readonly accept: (slot: number) => void
  /** Refuses a request that was not accepted. */
  readonly reject: (slot: number, reason: Reason, retryAfterMs: number) => void
  /** Sends the request as a new attempt. False when the worker is gone: nothing was sent. */
  readonly assign: (slot: number, worker: number, nowMs: number) => boolean
  readonly cancelAttempt: (slot: number, worker: number) => void
  /** Ends an accepted request with an error. */
  readonly fail: (slot: number, reason: Reason, retryAfterMs: number) => void
}

/** Counts since the process started. They outlive the core, so that a restart loses none. */
export interface Totals {
  accepted: number
  rejected: number
  done: number
  failed: number
  cancelled: number
  expired: number
  retries: number
  outputTokens: number
  cachedTokens: number
  promptTokens: number
  /** By `Reason`, of rejections and failures. */
  readonly reasons: Float64Array
  readonly queueMs: Histogram
  readonly ttftMs: Histogram
  readonly e2eMs: Histogram
}

export const makeTotals = (): Totals => ({
  accepted: 0,
  rejected: 0,
  done: 0,
  failed: 0,
  cancelled: 0,
  expired: 0,
  retries: 0,
  outputTokens: 0,
  cachedTokens: 0,
  promptTokens: 0,
  reasons: new Float64Array(256),
  queueMs: new Histogram(),
  ttftMs: new Histogram(),
  e2eMs: new Histogram()
})

export interface BalancerStateOptions {
  readonly table: RequestTable
  readonly workers: WorkerTable
  readonly totals: Totals
  readonly effects: BalancerEffects
  /** The policies of a new pool. */
  readonly pipeline: (model: number) => Pipeline
  /** Attempts per request, the first included. */
  readonly attemptsMax: number
  /** Retries per accepted request that failures answered by a worker may cost (lost workers are not counted). */
  readonly retryBudget: number
  readonly nowMs: number
}

const State = { none: 0, queued: 1, placed: 2, streaming: 3 } as const

/** Where a request stands in this core. */
class Standing {
  state: number = State.none
  /** The worker charged with the live attempt, or with the last. */
  worker = -1
  /** The worker of the attempt before, to be avoided; -1 for none. */
  avoided = -1
}

/** A worker that holds a request need not have been announced: its pool manager may be new as well. */
const noPools: ReadonlyArray<BalancerPool> = []

/** What a client waits before it asks again when no worker is ready. */
const NO_WORKER_RETRY_MS = 1_000
const FAILED_RETRY_MS = 100
/** Retries that may be saved up while nothing fails, beyond which the budget does not grow; and what a new pool starts with. */
const RETRY_SAVINGS_MAX = 50
const RETRY_SAVINGS_START = 3

/**
 * The decisions of one balancer, as a state machine over the facts in `RequestTable`: life of a request from admission to its one
 * terminal, load accounting, retries, deadlines. Pure: no IO, no clock; `nowMs` comes in and never decreases; what is to be done goes out
 * through `effects`. The live balancer actor and the replay drive this same object.
 *
 * Laws: a request is charged to at most one worker; the charge is made before `assign` and released exactly once; every accepted slot
 * gets exactly one terminal; after all requests ended every count is 0. Cost per request: O(1) plus the policies'; no allocation.
 */
export class BalancerState {
  private readonly options: BalancerStateOptions
  private readonly table: RequestTable
  private readonly workers: WorkerTable
  private readonly effects: BalancerEffects
  private readonly totals: Totals
  private readonly pools: Array<BalancerPool | undefined> = []
  /** The pools each worker belongs to. */
  private readonly poolsOf: Array<Array<BalancerPool>> = []
  private readonly budgets: Array<number> = []
  /** By slot. */
  private readonly standings: Array<Standing> = []
  private nowMs: number
  /** No deadline is earlier. */
  private earliestMs = Number.POSITIVE_INFINITY
  /** New requests are refused: the process is about to stop. */
  draining = false
  queued = 0
  inFlight = 0

  constructor(options: BalancerStateOptions) {
    this.options = options
    this.table = options.table
    this.workers = options.workers
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
    if (pool.readyCount === 0) return this.reject(slot, Reason.noWorker, NO_WORKER_RETRY_MS)
    const refusal = pool.policies.admission.decide(request, pool, pool, nowMs)
    if (refusal !== null) return this.reject(slot, refusal.reason, refusal.retryAfterMs)
    this.admit(request)
    if (pool.eligibleCount > 0 && pool.queuedCount === 0) this.place(request, pool)
    else {
      this.queue(request, pool)
      pool.policies.ordering.enqueue(request, nowMs)
    }
  }

  /** The first token of the live attempt was relayed. */
  first(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const standing = this.standing(slot)
    if (standing.state !== State.placed) return
    standing.state = State.streaming
    const { arrivedMs, promptTokens } = this.table.at(slot)
    this.workers.prefilled(standing.worker, promptTokens)
    this.totals.ttftMs.record(nowMs - arrivedMs)
  }

  /** DONE was relayed: the request is over. */
  done(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const standing = this.standing(slot)
    if (standing.state === State.placed) this.first(slot, nowMs)
    assert(standing.state === State.streaming, "a request that is done was placed")
    const { totals } = this
    const request = this.table.at(slot)
    totals.done++
    totals.outputTokens += request.outputTokens
    totals.cachedTokens += request.cachedTokens
    totals.promptTokens += request.promptTokens
    totals.e2eMs.record(nowMs - request.arrivedMs)
    this.discharge(request)
    this.end(slot)
  }

  /** The live attempt is over without DONE, for its `failure`: retries it where that is allowed, or ends the request. */
  failed(slot: number, nowMs: number): void {
    this.nowMs = nowMs
    const standing = this.standing(slot)
    const { state, worker } = standing
    if (state !== State.placed && state !== State.streaming) return
    const request = this.table.at(slot)
    const reason = request.failure as Reason
    this.discharge(request)
    if (state === State.placed && this.mayRetry(request, reason)) {
      this.totals.retries++
      standing.avoided = worker
      this.requeue(request)
    } else this.fail(slot, reason)
  }

  /** The client gave the request up, or is gone. */
  cancel(slot: number, reason: Reason, nowMs: number): void {
    this.nowMs = nowMs
    const request = this.table.at(slot)
    if (this.standing(slot).state === State.none || request.phase === Phase.ended) return
    this.stop(request, reason)
  }

  /**
   * Ends what is past its deadline. Call it every few milliseconds. Only when the earliest deadline it knows of has passed does it look
   * at every slot, about 5 ns each: at any rate of requests that is less than the price of a timer for each.
   */
  tick(nowMs: number): void {
    this.nowMs = nowMs
    if (nowMs < this.earliestMs) return
    this.earliestMs = Number.POSITIVE_INFINITY
    const { table } = this
    for (let slot = 0; slot < table.capacity; slot++) {
      const request = table.at(slot)
      if (request.phase !== Phase.open || this.standing(slot).state === State.none) continue
      if (request.deadlineMs <= nowMs) this.stop(request, Reason.expired)
      else this.expect(request)
    }
  }

  /** `worker` serves `model` and may get work for it (`ready`), or may not (late, draining, lost). */
  member(model: number, worker: number, ready: boolean, nowMs: number): void {
    this.nowMs = nowMs
    const pool = this.poolOf(model)
    const pools = (this.poolsOf[worker] ??= [])
    if (!pools.includes(pool)) pools.push(pool)
    pool.setReady(worker, ready)
    this.serve(pool)
  }

  /** A heartbeat. */
  observe(worker: number, load: WorkerLoad, nowMs: number): void {
    this.workers.observe(worker, load, nowMs)
  }

  /**
   * Takes over a request that an earlier core had: `worker` is the one that holds its live attempt, -1 for none. All workers must have
   * been announced before.
   */
  announce(slot: number, worker: number, nowMs: number): void {
    this.nowMs = nowMs
    const { table } = this
    const request = table.at(slot)
    if (request.phase === Phase.ended) {
      // Its DONE was relayed; the word of it was lost with the earlier core.
      this.totals.done++
      return table.release(slot)
    }
    if (!request.accepted) return this.submit(slot, nowMs)
    this.expect(request)
    const streaming = request.nextIndex > 0
    if (worker >= 0) {
      this.charge(request, worker)
      if (streaming) {
        this.standing(slot).state = State.streaming
        this.workers.prefilled(worker, request.promptTokens)
      }
    } else if (request.attempts === 0) this.requeue(request)
    else if (!streaming && this.mayRetry(request, Reason.workerLost)) this.requeue(request)
    else return this.fail(slot, Reason.workerLost)
    if (request.cancelled) this.stop(request, Reason.cancelled)
  }

  /** Requests waiting for a worker of `model`. */
  queuedOf(model: number): number {
    return this.pools[model]?.queuedCount ?? 0
  }

  private standing(slot: number): Standing {
    return (this.standings[slot] ??= new Standing())
  }

  private admit(request: Request): void {
    this.totals.accepted++
    request.accepted = true
    const { model } = request
    const saved = this.budgets[model]!
    if (saved < RETRY_SAVINGS_MAX) this.budgets[model] = saved + this.options.retryBudget
    this.expect(request)
    this.effects.accept(request.slot)
  }

  /** Has `tick` look at the deadline of a request that was taken on. */
  private expect({ deadlineMs }: Request): void {
    if (deadlineMs < this.earliestMs) this.earliestMs = deadlineMs
  }

  private queue(request: Request, pool: BalancerPool): void {
    this.standing(request.slot).state = State.queued
    this.queued++
    pool.queuedPromptTokens += request.promptTokens
  }

  private requeue(request: Request): void {
    const pool = this.poolOf(request.model)
    this.queue(request, pool)
    pool.policies.ordering.requeue(request, this.nowMs)
    this.serve(pool)
  }

  private dequeued(request: Request, pool: BalancerPool): void {
    this.standing(request.slot).state = State.none
    this.queued--
    pool.queuedPromptTokens -= request.promptTokens
  }

  /** Places queued requests while a worker has room. */
  private serve(pool: BalancerPool): void {
    while (pool.eligibleCount > 0) {
      const slot = pool.policies.ordering.next(this.nowMs)
      if (slot < 0) return
      const request = this.table.at(slot)
      this.dequeued(request, pool)
      this.place(request, pool)
    }
  }

  /** A worker found gone is taken off the list, so this ends after as many tries as there are workers. */
  private place(request: Request, pool: BalancerPool): void {
    const { nowMs } = this
    const { attempt, slot } = request
    while (pool.eligibleCount > 0) {
      const worker = pool.pick(request, this.standing(slot).avoided, nowMs)
      assert(worker >= 0, "a policy picks while there is someone to pick")
      this.charge(request, worker)
      if (this.effects.assign(slot, worker, nowMs)) {
        if (attempt === 1) this.totals.queueMs.record(nowMs - request.arrivedMs)
        return
      }
      this.uncharge(request)
      this.workers.assigned[worker]!--
      for (const other of this.poolsOf[worker] ?? noPools) other.setReady(worker, false)
    }
    this.queue(request, pool)
    pool.policies.ordering.requeue(request, nowMs)
  }

  private charge({ promptTokens, slot }: Request, worker: number): void {
    const standing = this.standing(slot)
    standing.state = State.placed
    standing.worker = worker
    this.inFlight++
    this.workers.charge(worker, promptTokens)
    if (!this.workers.hasRoom(worker)) this.refresh(worker)
  }

  private uncharge({ promptTokens, slot }: Request): void {
    const standing = this.standing(slot)
    const { worker } = standing
    if (standing.state === State.placed) this.workers.prefilled(worker, promptTokens)
    standing.state = State.none
    this.inFlight--
    const full = !this.workers.hasRoom(worker)
    this.workers.release(worker)
    if (full) this.refresh(worker)
  }

  /** Releases the worker and lets the next request have it. */
  private discharge(request: Request): void {
    this.uncharge(request)
    const pools = this.poolsOf[this.standing(request.slot).worker] ?? noPools
    for (let i = 0; i < pools.length; i++) {
      const pool = pools[i]!
      if (pool.departed(this.nowMs)) this.serve(pool)
    }
  }

  private refresh(worker: number): void {
    for (const pool of this.poolsOf[worker] ?? noPools) pool.refresh(worker)
  }

  private mayRetry({ attempts, deadlineMs, flags, model }: Request, reason: Reason): boolean {
    if (!isRetryable(reason) || attempts >= this.options.attemptsMax || deadlineMs <= this.nowMs) return false
    if ((flags & Flag.sideEffects) !== 0 && reason !== Reason.workerRefused) return false
    if (reason === Reason.workerLost) return true
    const saved = this.budgets[model]!
    if (saved < 1) return false
    this.budgets[model] = saved - 1
    return true
  }

  /** Ends a queued or running request for a reason of ours. */
  private stop(request: Request, reason: Reason): void {
    const { slot } = request
    const { state, worker } = this.standing(slot)
    if (state === State.queued) {
      const pool = this.poolOf(request.model)
      pool.policies.ordering.remove(slot)
      this.dequeued(request, pool)
    } else {
      this.effects.cancelAttempt(slot, worker)
      this.discharge(request)
    }
    this.fail(slot, reason)
  }

  private fail(slot: number, reason: Reason): void {
    if (reason === Reason.expired) this.totals.expired++
    else if (reason === Reason.cancelled) this.totals.cancelled++
    else this.totals.failed++
    this.totals.reasons[reason]!++
    this.effects.fail(slot, reason, isRetryable(reason) ? FAILED_RETRY_MS : 0)
    this.end(slot)
  }

  private reject(slot: number, reason: Reason, retryAfterMs: number): void {
    this.totals.rejected++
    this.totals.reasons[reason]!++
    this.effects.reject(slot, reason, retryAfterMs)
    this.end(slot)
  }

  private end(slot: number): void {
    const standing = this.standing(slot)
    standing.state = State.none
    standing.avoided = -1
    this.table.release(slot)
  }

  private poolOf(model: number): BalancerPool {
    const known = this.pools[model]
    if (known !== undefined) return known
    const pool = new BalancerPool(this.workers, this.options.pipeline(model))
    this.pools[model] = pool
    this.budgets[model] = RETRY_SAVINGS_START
    return pool
  }
}
