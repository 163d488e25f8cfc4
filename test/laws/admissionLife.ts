import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Admission, QueueView, Rejection } from "../../src/policies/Admission.ts"
import { candidates, request } from "../support/arbitraries.ts"
import {
  type Candidate,
  charge,
  emptyQueue,
  poolOf,
  prefilled,
  release,
  setEligible
} from "../support/pools.ts"

type Act = "arrive" | "start" | "produce" | "end" | "cancel" | "fail" | "expire" | "leave" | "join"

/** One event. `which` chooses the request or worker it happens to, among those it may. */
interface Step {
  readonly act: Act
  readonly which: number
  readonly pauseMs: number
}

/** All that happens to a pool that has nothing in flight at first. */
export interface Life {
  readonly workers: ReadonlyArray<Candidate>
  readonly requests: ReadonlyArray<RequestView>
  readonly steps: ReadonlyArray<Step>
}

/** As often as each happens, compared with the others. */
const acts: ReadonlyArray<Act> = [
  ...(["arrive", "arrive", "arrive", "arrive", "start", "start", "produce", "produce"] as const),
  ...(["end", "end", "cancel", "fail", "expire", "leave", "join"] as const)
]

const idle = {
  inFlight: 0,
  prefilling: 0,
  pendingPrefillTokens: 0,
  pendingPrefillAttention: 0,
  contextTokens: 0,
  eligible: true
}

/** Workers with nothing to do that take a few requests each. */
export const idleWorkers: fc.Arbitrary<ReadonlyArray<Candidate>> = candidates({
  minLength: 1,
  maxLength: 4
}).chain((rows) =>
  fc
    .array(fc.integer({ min: 1, max: 4 }), { minLength: rows.length, maxLength: rows.length })
    .map((capacities) => rows.map((row, i) => ({ ...row, ...idle, capacity: capacities[i]! })))
)

export const life: fc.Arbitrary<Life> = fc.record({
  workers: idleWorkers,
  requests: fc.array(request, { minLength: 1, maxLength: 6 }),
  steps: fc.array(
    fc.record({
      act: fc.constantFrom<Act>(...acts),
      which: fc.nat(1000),
      pauseMs: fc.constantFrom(0, 0, 1, 16, 256, 4096)
    }),
    { maxLength: 60 }
  )
})

interface Live {
  /** As the policy knows it; as placed, with what is expected to be computed there. */
  request: RequestView
  /** -1 while it waits. */
  worker: number
  started: boolean
}

/** Usual gap between departures, for the expected wait. */
const GAP_MS = 50

/** Lets an admission policy live through a life, and tells it everything that the balancer would, in that order. */
export class AdmissionLife {
  readonly pool: PoolView
  readonly admission: Admission
  /** What it said of each arrival. */
  readonly decisions: Array<Rejection | null> = []
  nowMs = 0
  private readonly life: Life
  private readonly ready: Array<boolean>
  private live: Array<Live> = []
  private slots = 0
  private readonly free: Array<number> = []

  constructor(admission: Admission, life: Life) {
    this.life = life
    this.admission = admission
    this.pool = poolOf(life.workers)
    this.ready = life.workers.map(() => true)
    for (const worker of this.ready.keys()) admission.changed?.(worker, true, this.pool, 0)
    for (const each of life.steps) this.step(each)
  }

  get queue(): QueueView {
    const waiting = this.live.filter(({ worker }) => worker < 0)
    return {
      ...emptyQueue,
      queuedCount: waiting.length,
      queuedPromptTokens: waiting.reduce((sum, { request }) => sum + request.promptTokens, 0),
      expectedWaitMs: this.pool.eligibleCount > 0 ? 0 : (waiting.length + 1) * GAP_MS
    }
  }

  /** A request as it arrives now. */
  arriving(which: number): RequestView {
    const one = this.life.requests[which % this.life.requests.length]!
    const slot = this.free.at(-1) ?? this.slots
    return { ...one, slot, arrivedMs: this.nowMs, deadlineMs: this.nowMs + 60_000 }
  }

  /** A request asks to be let in, and is placed or queued where it is. */
  arrive(which: number): void {
    const one = this.arriving(which)
    const decision = this.admission.decide(one, this.pool, this.queue, this.nowMs)
    this.decisions.push(decision)
    if (decision !== null) return
    if (this.free.pop() === undefined) this.slots++
    this.admission.admitted?.(one, this.pool, this.nowMs)
    this.live.push({ request: one, worker: -1, started: false })
    this.serve()
  }

  /** Ends everything, and brings all workers back. */
  finish(): void {
    while (this.live.length > 0) this.end(this.live[0]!, Reason.cancelled)
    for (const worker of this.ready.keys()) this.change(worker, true)
  }

  private step({ act, which, pauseMs }: Step): void {
    this.nowMs += pauseMs
    const one = this.live[which % this.live.length]
    const worker = which % this.ready.length
    switch (act) {
      case "arrive":
        return this.arrive(which)
      case "start":
        if (one !== undefined && one.worker >= 0 && !one.started) this.start(one)
        return
      case "produce":
        if (one?.started === true) this.produce(one, 1 + (which % 64))
        return
      case "end":
        if (one?.started === true) this.end(one, Reason.none)
        return
      case "cancel":
        if (one !== undefined) this.end(one, Reason.cancelled)
        return
      case "expire":
        if (one !== undefined) this.end(one, Reason.expired)
        return
      case "fail":
        if (one !== undefined && one.worker >= 0) this.fail(one, Reason.workerFailed)
        return
      case "leave":
        this.change(worker, false)
        for (const lost of this.live.filter((each) => each.worker === worker))
          this.fail(lost, Reason.workerLost)
        return
      case "join":
        return this.change(worker, true)
    }
  }

  private change(worker: number, ready: boolean): void {
    if (this.ready[worker] === ready) return
    this.ready[worker] = ready
    this.refresh()
    this.admission.changed?.(worker, ready, this.pool, this.nowMs)
    this.serve()
  }

  private refresh(): void {
    const { inFlight, capacity } = this.pool.workers
    setEligible(this.pool, (slot) => this.ready[slot]! && inFlight[slot]! < capacity[slot]!)
  }

  /** Places what waits, first come first served, on the worker with the fewest requests. */
  private serve(): void {
    for (const one of this.live) {
      if (this.pool.eligibleCount === 0) return
      if (one.worker >= 0) continue
      const { inFlight } = this.pool.workers
      const eligible = [...this.pool.eligible.subarray(0, this.pool.eligibleCount)]
      const worker = eligible.reduce((best, each) => (inFlight[each]! < inFlight[best]! ? each : best))
      one.request = charge(this.pool, worker, one.request, this.nowMs)
      one.worker = worker
      one.started = false
      this.refresh()
      this.admission.placed?.(one.request, worker, this.pool, this.nowMs)
    }
  }

  private start(one: Live): void {
    one.started = true
    prefilled(this.pool, one.worker, one.request, this.nowMs)
    this.admission.timed?.(one.request, one.worker, this.pool, this.nowMs)
    this.admission.started?.(one.request, one.worker, this.pool, this.nowMs)
  }

  private produce(one: Live, most: number): void {
    const tokens = Math.min(most, one.request.maxTokens - one.request.outputTokens)
    if (tokens === 0) return
    Object.assign(one.request, { outputTokens: one.request.outputTokens + tokens })
    this.admission.produced?.(one.request, tokens, this.pool, this.nowMs)
  }

  /** Before its first token a request tries again, once. */
  private fail(one: Live, reason: Reason): void {
    if (one.started || one.request.attempt > 1) return this.end(one, reason)
    this.release(one, reason)
    one.request = { ...one.request, uncachedTokens: one.request.promptTokens, attempt: 2 }
    this.serve()
  }

  private end(one: Live, reason: Reason): void {
    if (one.worker >= 0) this.release(one, reason)
    this.live = this.live.filter((each) => each !== one)
    this.free.push(one.request.slot)
    this.admission.ended?.(one.request, reason, this.pool, this.nowMs)
    this.serve()
  }

  private release(one: Live, reason: Reason): void {
    const { worker } = one
    if (!one.started) prefilled(this.pool, worker, one.request, this.nowMs)
    release(this.pool, worker, one.request)
    one.worker = -1
    this.refresh()
    this.admission.released?.(one.request, worker, reason, this.pool, this.nowMs)
  }
}
