import { expect } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { chargedTtftMs, pendingMs, prefillMs, ttftMs, waitMs } from "../../src/policies/costs.ts"
import { Estimates } from "../../src/policies/estimators/Estimates.ts"
import type { PlacedView, Rescue, RescueActions } from "../../src/policies/Rescue.ts"
import { candidates, request } from "../support/arbitraries.ts"
import {
  type Candidate,
  charge,
  foreseen,
  poolOf,
  prefilled,
  release,
  setEligible
} from "../support/pools.ts"

type Event = "arrive" | "start" | "produce" | "end" | "cancel" | "fail" | "leave" | "join" | "review"

export interface Step {
  readonly event: Event
  /** Chooses the request or worker it happens to, among those it may. */
  readonly which: number
  readonly pauseMs: number
}

/** All that happens to a pool that has nothing in flight at first. */
export interface Life {
  readonly workers: ReadonlyArray<Candidate>
  readonly requests: ReadonlyArray<RequestView>
  readonly steps: ReadonlyArray<Step>
  /** Whether requests are held back until the next review, for company. */
  readonly isHeldBack: boolean
  /** Which of the actions are refused, as a balancer may do for reasons of its own. */
  readonly refused: ReadonlySet<number>
}

/** As often as each happens, compared with the others. */
const events: ReadonlyArray<Event> = [
  ...(["arrive", "arrive", "arrive", "arrive", "arrive", "arrive", "review", "review", "review"] as const),
  ...(["start", "start", "produce", "end", "cancel", "fail", "leave", "join", "join"] as const)
]

const idle = {
  inFlight: 0,
  prefilling: 0,
  pendingPrefillTokens: 0,
  pendingPrefillAttention: 0,
  contextTokens: 0,
  eligible: true
}

const workers = (options: { readonly minLength: number; readonly maxLength: number }) =>
  fc
    .tuple(candidates(options), fc.constantFrom(1, 2, 6), fc.constantFrom(0, 20_000, 60_000, 100_000))
    .map(([rows, capacity, kvCapacityTokens]) =>
      rows.map((row) => ({ ...row, ...idle, capacity, kvCapacityTokens }))
    )

export const life = (options = { minLength: 1, maxLength: 6 }): fc.Arbitrary<Life> =>
  fc.record({
    workers: workers(options),
    requests: fc.array(
      fc
        .tuple(request, fc.constantFrom(1, 4000, 15_000, 30_000))
        .map(([each, promptTokens]) => ({ ...each, promptTokens, maxTokens: 400 })),
      { minLength: 1, maxLength: 6 }
    ),
    steps: fc.array(
      fc.record({
        event: fc.constantFrom<Array<Event>>(...events),
        which: fc.nat(1000),
        pauseMs: fc.constantFrom(0, 0, 5, 20, 300, 2500)
      }),
      { maxLength: 80, size: "max" }
    ),
    isHeldBack: fc.nat(7).map((number) => number === 7),
    refused: fc.uniqueArray(fc.nat(30), { maxLength: 3 }).map((all) => new Set(all))
  })

interface Live {
  readonly id: number
  request: RequestView
  state: "queued" | "placed" | "streaming"
  worker: number
  sinceMs: number
  /** The time to first token that was predicted when it was placed. */
  predictedMs: number
  /** The second attempt, as charged. */
  copy: { readonly worker: number; readonly request: RequestView; readonly sinceMs: number } | undefined
  avoided: number
}

/** One action that a rescue asked for, and what stood there before. */
export interface Action {
  readonly kind: "hedge" | "move" | "requeue" | "migrate"
  readonly review: number
  readonly nowMs: number
  readonly isDone: boolean
  /** Of the request: which one, where it stood, for how long, and what was predicted for its first token there; and when its first token could come elsewhere, at the soonest. */
  readonly id: number
  readonly class: number
  readonly state: Live["state"]
  readonly isCopied: boolean
  readonly waitedMs: number
  readonly predictedMs: number
  readonly elsewhereMs: number
  /** Of the pool: eligible workers, ready ones and the share of their places that is taken, and the most urgent class that waits. */
  readonly eligibleCount: number
  readonly readyCount: number
  readonly usedShare: number
  readonly urgent: number
  /** Of the worker that has it: prompts pending in ms, those of this request alone, unstarted requests, and share of the KV cache. */
  readonly from: number
  readonly fromMs: number
  readonly ownMs: number
  readonly unstarted: number
  readonly fromShare: number
  /** Of the worker that is to have it, -1 for none: whether it may be picked, the same before, and what the request brings. */
  readonly to: number
  readonly isEligible: boolean
  readonly toMs: number
  readonly toShare: number
  readonly addedMs: number
  readonly addedTokens: number
  /** Shares that go with it. */
  readonly leavingShare: number
  readonly arrivingShare: number
  /** Placements there were before it, and their uncached tokens. */
  readonly placements: number
  readonly placedTokens: number
}

/** Requests that start at once before anything is looked at, so that quantiles are known. */
const WARM_UP = 120
const WARM_UP_TOKENS = 4000

/**
 * A pool with a queue, most urgent class first, over which a rescue policy lives through a life: told everything that the balancer would
 * tell it, in that order, and allowed what the balancer would allow. Requests are placed by the square of their id, and so unevenly.
 */
export class RescueLife {
  readonly pool: PoolView
  readonly actions: Array<Action> = []
  /** After each review: whether a request waited that was more urgent than one that had not started and could have been taken back. */
  readonly inversions: Array<boolean> = []
  private readonly rescue: Rescue
  private readonly estimates = new Estimates()
  private readonly life: Life
  private readonly ready: Array<boolean>
  private readonly live: Array<Live> = []
  private readonly free: Array<number> = []
  private slots = 0
  private ids = 0
  private nowMs = 0
  private reviews = 0
  private placements = 0
  private placedTokens = 0
  private readonly isMirrored: boolean

  /** Mirrored, workers lie in the opposite slots, and slots of requests are used anew in another order. */
  constructor(rescue: Rescue, life: Life, isMirrored = false) {
    const { length } = life.workers
    const slots = life.workers.map((_, i) => (isMirrored ? length - 1 - i : i))
    this.isMirrored = isMirrored
    this.rescue = rescue
    this.life = life
    this.pool = Object.assign(poolOf(life.workers, slots), { forecast: foreseen(this.estimates) })
    this.ready = slots.map(() => true)
    for (const slot of slots) rescue.changed?.(slot, true, this.pool, 0)
    this.warmUp(slots[0]!)
    for (const step of life.steps) {
      this.step(step)
      if (step.event === "review") this.check()
    }
  }

  private warmUp(worker: number): void {
    for (let i = 0; i < WARM_UP; i++) {
      const one = this.admit({ ...this.life.requests[0]!, promptTokens: WARM_UP_TOKENS })
      this.place(one, worker)
      this.nowMs += waitMs(this.pool.workers, worker, this.nowMs)
      this.start(one)
      this.release(one, Reason.none)
      this.end(one, Reason.none)
    }
  }

  private step({ event, which, pauseMs }: Step): void {
    this.nowMs += pauseMs
    const chosen = (state: Live["state"]): Live | undefined => {
      const all = this.live.filter((one) => one.state === state)
      return all[which % Math.max(1, all.length)]
    }
    const placed = chosen("placed")
    const streaming = chosen("streaming")
    switch (event) {
      case "arrive": {
        this.admit(this.life.requests[which % this.life.requests.length]!)
        return this.serve()
      }
      case "start":
        if (placed !== undefined) this.win(placed, which % 2 === 0)
        return
      case "produce":
        if (streaming !== undefined) this.produce(streaming, 1 + (which % 50))
        return
      case "end":
      case "cancel": {
        const one = event === "end" ? streaming : (placed ?? chosen("queued"))
        if (one === undefined) return
        const reason = event === "end" ? Reason.none : Reason.cancelled
        if (one.state !== "queued") this.release(one, reason)
        this.end(one, reason)
        return this.serve()
      }
      case "fail":
        if (placed === undefined) return
        if (placed.copy !== undefined) return this.outlive(placed, which % 2 === 0, Reason.workerFailed)
        this.release(placed, Reason.workerFailed)
        return this.serve()
      case "leave":
      case "join": {
        const worker = this.byKey()[which % this.ready.length]!
        const ready = event === "join"
        if (this.ready[worker] === ready) return
        this.ready[worker] = ready
        this.refresh()
        this.rescue.changed?.(worker, ready, this.pool, this.nowMs)
        return this.serve()
      }
      case "review":
        this.review()
        return this.serve(true)
    }
  }

  /** Workers in the order of their keys, whatever their slots. */
  private byKey(): ReadonlyArray<number> {
    const { keyHigh, keyLow } = this.pool.workers
    return [...this.ready.keys()].toSorted(
      (one, other) => keyHigh[one]! - keyHigh[other]! || keyLow[one]! - keyLow[other]!
    )
  }

  private admit(request: RequestView): Live {
    const id = this.ids++
    const slot = (this.isMirrored ? this.free.shift() : this.free.pop()) ?? this.slots++
    const facts = { slot, idHigh: id % 3, idLow: id, arrivedMs: this.nowMs, deadlineMs: this.nowMs + 1e9 }
    const one: Live = {
      id,
      request: { ...request, ...facts, uncachedTokens: request.promptTokens },
      state: "queued",
      worker: -1,
      sinceMs: this.nowMs,
      predictedMs: 0,
      copy: undefined,
      avoided: -1
    }
    this.live.push(one)
    this.rescue.admitted?.(one.request, this.pool, this.nowMs)
    return one
  }

  /** Places who waits while somebody has room. */
  private serve(isDue = !this.life.isHeldBack): void {
    if (!isDue) return
    while (this.pool.eligibleCount > 0) {
      const next = this.live
        .filter(({ state }) => state === "queued")
        .toSorted((one, other) => one.request.class - other.request.class || one.id - other.id)[0]
      if (next === undefined) return
      const eligible = this.eligible()
      const others = eligible.filter((worker) => worker !== next.avoided)
      const among = others.length > 0 ? others : eligible
      this.place(next, among[next.id ** 2 % among.length]!)
    }
  }

  private eligible(): ReadonlyArray<number> {
    return [...this.pool.eligible.subarray(0, this.pool.eligibleCount)]
  }

  private refresh(): void {
    const { capacity, inFlight } = this.pool.workers
    setEligible(this.pool, (slot) => this.ready[slot]! && inFlight[slot]! < capacity[slot]!)
  }

  private place(one: Live, worker: number): void {
    const request = charge(this.pool, worker, one.request, this.nowMs)
    this.refresh()
    this.settle(one, { worker, request, sinceMs: this.nowMs })
  }

  /** This attempt is the one that counts. */
  private settle(one: Live, { worker, request, sinceMs }: NonNullable<Live["copy"]>): void {
    one.request = request
    one.state = "placed"
    one.worker = worker
    one.sinceMs = sinceMs
    one.predictedMs = chargedTtftMs(this.pool.workers, worker, sinceMs)
    this.placements++
    this.placedTokens += request.uncachedTokens
    this.estimates.placed(request, worker, this.pool, sinceMs)
    this.rescue.placed?.(request, worker, this.pool, sinceMs)
  }

  /** The first token of either attempt. */
  private win(one: Live, isCopy: boolean): void {
    if (one.copy !== undefined) this.outlive(one, !isCopy, Reason.cancelled)
    this.start(one)
  }

  /** One of two attempts is over. */
  private outlive(one: Live, isCopy: boolean, reason: Reason): void {
    const copy = one.copy!
    one.copy = undefined
    if (isCopy) this.discharge(copy.worker, copy.request, true)
    else {
      this.release(one, reason)
      this.settle(one, copy)
    }
    this.serve()
  }

  private start(one: Live): void {
    prefilled(this.pool, one.worker, one.request, this.nowMs)
    one.state = "streaming"
    this.rescue.timed?.(one.request, one.worker, this.pool, this.nowMs)
    this.rescue.started?.(one.request, one.worker, this.pool, this.nowMs)
  }

  private produce(one: Live, tokens: number): void {
    one.request = { ...one.request, outputTokens: one.request.outputTokens + tokens }
    this.rescue.produced?.(one.request, tokens, this.pool, this.nowMs)
  }

  private discharge(worker: number, request: RequestView, isUnstarted: boolean): void {
    if (isUnstarted) prefilled(this.pool, worker, request, this.nowMs)
    release(this.pool, worker, request)
    this.refresh()
  }

  /** Its one attempt is over, or both are: it waits. */
  private release(one: Live, reason: Reason): void {
    const { copy, worker } = one
    one.copy = undefined
    if (copy !== undefined) this.discharge(copy.worker, copy.request, true)
    this.discharge(worker, one.request, one.state === "placed")
    one.state = "queued"
    one.worker = -1
    this.rescue.released?.(one.request, worker, reason, this.pool, this.nowMs)
    one.request = { ...one.request, outputTokens: 0, uncachedTokens: one.request.promptTokens }
  }

  private end(one: Live, reason: Reason): void {
    this.live.splice(this.live.indexOf(one), 1)
    this.free.push(one.request.slot)
    this.rescue.ended?.(one.request, reason, this.pool, this.nowMs)
  }

  private review(): void {
    this.reviews++
    const isUntouched = this.columns()
    let changed = false
    const visit =
      (state: Live["state"]): PlacedView["unstarted"] =>
      (see) => {
        for (const one of [...this.live])
          if (one.state === state && one.copy === undefined) see(one.request, one.worker, one.sinceMs)
      }
    const act =
      (kind: Action["kind"], carryOut: (one: Live, to: number) => void) =>
      (slot: number, to = -1): boolean => {
        const one = this.live.find(({ request }) => request.slot === slot)
        expect(one).toBeDefined()
        const isDone = !this.life.refused.has(this.actions.length) && this.allows(kind, one!, to)
        this.actions.push(this.seen(kind, one!, to, isDone))
        if (isDone) carryOut(one!, to)
        changed ||= isDone
        return isDone
      }
    const actions: RescueActions = {
      hedge: act("hedge", (one, to) => {
        one.copy = {
          worker: to,
          request: charge(this.pool, to, one.request, this.nowMs),
          sinceMs: this.nowMs
        }
        this.refresh()
      }),
      move: act("move", (one, to) => {
        this.release(one, Reason.cancelled)
        this.place(one, to)
        this.serve()
      }),
      requeue: act("requeue", (one) => {
        one.avoided = one.worker
        this.release(one, Reason.cancelled)
        this.serve()
      }),
      migrate: act("migrate", (one, to) => {
        const { request } = one
        this.release(one, Reason.cancelled)
        this.place(one, to)
        this.start(one)
        one.request = { ...one.request, outputTokens: request.outputTokens }
        this.serve()
      })
    }
    this.rescue.review(
      this.pool,
      { unstarted: visit("placed"), streaming: visit("streaming") },
      actions,
      this.nowMs
    )
    if (!changed) expect(isUntouched()).toBe(true)
    this.inversions.push(this.isInverted())
  }

  /** Says whether the columns are as they were when it was called. */
  private columns(): () => boolean {
    const { eligible, workers } = this.pool
    const now: ReadonlyArray<Float64Array | Int32Array | Uint32Array> = [eligible, ...Object.values(workers)]
    const before = now.map((column) => [...column])
    return () => now.every((column, i) => before[i]!.every((value, at) => value === column[at]))
  }

  private allows(kind: Action["kind"], { copy, state, worker }: Live, to: number): boolean {
    const isThere = state === (kind === "migrate" ? "streaming" : "placed") && copy === undefined
    return isThere && (kind === "requeue" || (to !== worker && this.eligible().includes(to)))
  }

  private seen(kind: Action["kind"], one: Live, to: number, isDone: boolean): Action {
    const { pool, placements, placedTokens } = this
    const { workers } = pool
    const { promptTokens, uncachedTokens } = one.request
    const { worker: from } = one
    const cached = pool.cachedTokens(one.request)
    const readySlots = [...this.ready.keys()].filter((slot) => this.ready[slot])
    const sumOf = (column: Int32Array): number => readySlots.reduce((sum, slot) => sum + column[slot]!, 0)
    const outputTokens = pool.forecast.meanOutputTokens(one.request)
    const shareOf = (slot: number): number => workers.contextTokens[slot]! / workers.kvCapacityTokens[slot]!
    const heldTokens = promptTokens + one.request.outputTokens
    return {
      kind,
      review: this.reviews,
      nowMs: this.nowMs,
      isDone,
      id: one.id,
      class: one.request.class,
      state: one.state,
      isCopied: one.copy !== undefined,
      waitedMs: this.nowMs - one.sinceMs,
      predictedMs: one.predictedMs,
      elsewhereMs: Math.min(
        ...this.eligible()
          .filter((slot) => slot !== from)
          .map((slot) => ttftMs(workers, slot, promptTokens, cached[slot]!, outputTokens, this.nowMs))
      ),
      eligibleCount: pool.eligibleCount,
      readyCount: readySlots.length,
      usedShare: sumOf(workers.inFlight) / Math.max(1, sumOf(workers.capacity)),
      urgent: Math.min(
        ...this.live
          .filter(({ state }) => state === "queued")
          .map(({ request: { class: urgency } }) => urgency)
      ),
      from: this.byKey().indexOf(from),
      fromMs: from < 0 ? 0 : pendingMs(workers, from),
      ownMs: from < 0 ? 0 : prefillMs(workers, from, uncachedTokens, promptTokens - uncachedTokens),
      unstarted: this.live.filter(({ state, worker }) => state === "placed" && worker === from).length,
      fromShare: from < 0 ? 0 : shareOf(from),
      to: this.byKey().indexOf(to),
      isEligible: this.eligible().includes(to),
      toMs: to < 0 ? 0 : pendingMs(workers, to),
      toShare: to < 0 ? 0 : shareOf(to),
      addedMs: to < 0 ? 0 : prefillMs(workers, to, promptTokens - cached[to]!, cached[to]!),
      addedTokens: to < 0 ? 0 : promptTokens - cached[to]!,
      leavingShare: from < 0 ? 0 : heldTokens / workers.kvCapacityTokens[from]!,
      arrivingShare: to < 0 ? 0 : heldTokens / workers.kvCapacityTokens[to]!,
      placements,
      placedTokens
    }
  }

  private isInverted(): boolean {
    if (this.pool.eligibleCount > 0) return false
    const timesTaken = (id: number): number =>
      this.actions.filter((action) => action.id === id && action.kind === "requeue").length
    const waiting = this.live.filter(({ state }) => state === "queued")
    const unstarted = this.live.filter(
      ({ copy, id, state }) => state === "placed" && copy === undefined && timesTaken(id) < 2
    )
    return waiting.some((one) => unstarted.some((other) => one.request.class < other.request.class))
  }

  /** Of this world itself: every attempt is charged once. */
  private check(): void {
    const charged = new Array<number>(this.ready.length).fill(0)
    for (const { copy, state, worker } of this.live) {
      if (state !== "queued") charged[worker]!++
      if (copy !== undefined) charged[copy.worker]!++
    }
    expect([...this.pool.workers.inFlight]).toEqual(charged)
  }
}
