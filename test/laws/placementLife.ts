import * as fc from "fast-check"
import type { OptionSpec, OptionValue } from "../../src/domain/config/pipeline.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Placement, PlacementFacts } from "../../src/policies/Placement.ts"
import { optionProblem, type OptionSpecs } from "../../src/policies/Policy.ts"
import { mix } from "../../src/structures/hash.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { candidates, request } from "../support/arbitraries.ts"
import { type Candidate, charge, poolOf, prefilled, release, setEligible } from "../support/pools.ts"

/** What a law needs to know of a policy: its registry entry, or a planted defect that claims the same. */
export interface Subject extends Pick<PlacementFacts, "family" | "cost" | "rival"> {
  readonly options: OptionSpecs
  readonly make: (options: Readonly<Record<string, OptionValue>>, rng: Rng) => Placement
}

/** Tells a policy that every worker of a pool is ready, as the balancer does before the first pick. */
export const told = (placement: Placement, pool: PoolView): Placement => {
  for (let worker = 0; worker < pool.eligible.length; worker++) placement.changed?.(worker, true, pool, 0)
  return placement
}

/** Tells a policy that what it may have read of a worker may have changed. */
export const touch = (placement: Placement, pool: PoolView, worker: number): void =>
  placement.touched?.(worker, pool.eligible.indexOf(worker) < pool.eligibleCount, pool)

type Act =
  | "arrive"
  | "hedge"
  | "start"
  | "produce"
  | "end"
  | "fail"
  | "heartbeat"
  | "leave"
  | "join"
  | "replace"

/** One event of a pool. `which` chooses the worker or request it happens to, among those it may. */
interface Step {
  readonly act: Act
  readonly which: number
  readonly pauseMs: number
}

/** All that happens to a pool that has nothing in flight at first: requests come and end, workers come and go. */
export interface Life {
  readonly seed: number
  readonly workers: ReadonlyArray<Candidate>
  readonly requests: ReadonlyArray<RequestView>
  readonly steps: ReadonlyArray<Step>
}

/** As often as each happens, compared with the others. */
const acts: ReadonlyArray<Act> = [
  ...(["arrive", "arrive", "arrive", "start", "start", "produce", "end", "fail"] as const),
  ...(["hedge", "heartbeat", "heartbeat", "leave", "join", "replace"] as const)
]

const step: fc.Arbitrary<Step> = fc.record({
  act: fc.constantFrom<Act>(...acts),
  which: fc.nat(1000),
  pauseMs: fc.constantFrom(0, 1, 16, 256, 4096)
})

export const life: fc.Arbitrary<Life> = fc.record({
  seed: fc.nat(),
  workers: candidates({ minLength: 1, maxLength: 6 }).map((rows) =>
    rows.map((row) => ({ ...row, ...idle, capacity: 1 + (row.capacity % 5) }))
  ),
  requests: fc.array(request, { minLength: 1, maxLength: 4 }),
  steps: fc.array(step, { maxLength: 40, size: "max" })
})

const idle = {
  inFlight: 0,
  prefilling: 0,
  pendingPrefillTokens: 0,
  pendingPrefillAttention: 0,
  contextTokens: 0,
  observedAtMs: 0
}

/** In how many ms of one life one ms of another passes, and so on for speeds; where each worker's row lies. */
interface Guise {
  readonly time?: number
  readonly speed?: number
  readonly slots?: ReadonlyArray<number>
}

/** Called with every pick, while the columns are as the policy saw them. */
type Seen = (picked: number, request: RequestView, life: PlacementLife) => void

interface Attempt {
  readonly placed: RequestView
  readonly worker: number
  started: boolean
}

const failures = [Reason.workerFailed, Reason.workerLost, Reason.workerRefused, Reason.workerProtocol]

/** Lets a policy live through a life, and tells it everything that the balancer would, in that order. */
export class PlacementLife {
  readonly pool: PoolView
  readonly placement: Placement
  /** The workers picked, as indexes into the rows; -1 for none. */
  readonly picks: Array<number> = []
  nowMs = 0
  private readonly life: Life
  private readonly guise: Required<Guise>
  private readonly seen: Seen
  private readonly ready: Array<boolean>
  private live: Array<Attempt> = []
  private arrived = 0

  constructor(subject: Subject, life: Life, guise: Guise = {}, seen: Seen = () => {}) {
    const { time = 1, speed = 1, slots = [...life.workers.keys()] } = guise
    this.life = life
    this.guise = { time, speed, slots }
    this.seen = seen
    this.pool = poolOf(
      life.workers.map((row) => inUnits(row, time, speed)),
      slots
    )
    this.placement = subject.make(optionsInUnits(subject.options, time)!, makeRng(life.seed))
    this.ready = life.workers.map((row) => row.eligible)
    for (const [row, ready] of this.ready.entries())
      this.placement.changed?.(slots[row]!, ready, this.pool, 0)
    for (const each of life.steps) this.step(each)
  }

  /** Ends everything that is in flight, and brings all workers back. */
  finish(): void {
    while (this.live.length > 0) this.end(this.live[0]!, Reason.none)
    for (const row of this.ready.keys()) this.change(row, true)
    setEligible(
      this.pool,
      () => true,
      (slot, eligible) => this.placement.touched?.(slot, eligible, this.pool)
    )
  }

  /** A request as it arrives now, of those of the life. */
  requestAt(which: number): RequestView {
    const { requests } = this.life
    const number = this.arrived++
    return {
      ...requests[which % requests.length]!,
      slot: number,
      idLow: number,
      arrivedMs: this.nowMs,
      deadlineMs: this.nowMs + 60_000 * this.guise.time
    }
  }

  private step({ act, which, pauseMs }: Step): void {
    const { workers } = this.pool
    this.nowMs += pauseMs * this.guise.time
    const row = which % this.life.workers.length
    const worker = this.guise.slots[row]!
    const attempt = this.live[which % this.live.length]
    switch (act) {
      case "arrive": {
        const arrived = this.requestAt(which)
        this.placement.admitted?.(arrived, this.pool, this.nowMs)
        return this.place(arrived)
      }
      case "heartbeat":
        workers.running[worker] = workers.inFlight[worker]! + (which % 7)
        workers.waiting[worker] = which % 3
        workers.kvUsedTokens[worker] = which * 64
        workers.observedAtMs[worker] = this.nowMs
        this.placement.observed?.(worker, this.pool, this.nowMs)
        return touch(this.placement, this.pool, worker)
      case "join":
        return this.change(row, true)
      case "leave":
        return this.leave(row)
      case "replace":
        // Another worker gets the slot of one that is gone.
        this.leave(row)
        this.list()
        workers.keyHigh[worker] = mix(workers.keyHigh[worker]!, which, row)
        return this.change(row, true)
      case "start":
        if (attempt?.started === false) this.start(attempt)
        return
      case "hedge":
        if (attempt?.started === false && this.others(attempt).length === 0) this.place(again(attempt))
        return
      case "produce":
        if (attempt?.started === true) this.produce(attempt, 1 + (which % 8))
        return
      case "end":
        if (attempt !== undefined) this.end(attempt, attempt.started ? Reason.none : Reason.cancelled)
        return
      case "fail":
        if (attempt !== undefined) this.fail(attempt, failures[which % failures.length]!)
    }
  }

  private leave(row: number): void {
    this.change(row, false)
    const worker = this.guise.slots[row]!
    for (const lost of this.live.filter((each) => each.worker === worker)) this.end(lost, Reason.workerLost)
  }

  private change(row: number, ready: boolean): void {
    if (this.ready[row] === ready) return
    this.ready[row] = ready
    this.placement.changed?.(this.guise.slots[row]!, ready, this.pool, this.nowMs)
  }

  /** Lists who may be picked. */
  private list(): void {
    const { inFlight, capacity } = this.pool.workers
    const { slots } = this.guise
    setEligible(
      this.pool,
      (slot) => this.ready[slots.indexOf(slot)]! && inFlight[slot]! < capacity[slot]!,
      (slot, eligible) => this.placement.touched?.(slot, eligible, this.pool)
    )
  }

  private place(one: RequestView): void {
    const { slots } = this.guise
    this.list()
    const worker = this.placement.pick(one, this.pool, this.nowMs)
    this.seen(worker, one, this)
    this.picks.push(slots.indexOf(worker))
    if (worker < 0) return this.endUnlessLive(one, Reason.noWorker)
    const placed = charge(this.pool, worker, one, this.nowMs)
    touch(this.placement, this.pool, worker)
    this.live.push({ placed, worker, started: false })
    this.placement.placed?.(placed, worker, this.pool, this.nowMs)
  }

  private start(attempt: Attempt): void {
    attempt.started = true
    for (const other of this.others(attempt)) this.release(other, Reason.cancelled)
    prefilled(this.pool, attempt.worker, attempt.placed, this.nowMs)
    this.placement.timed?.(attempt.placed, attempt.worker, this.pool, this.nowMs)
    this.placement.started?.(attempt.placed, attempt.worker, this.pool, this.nowMs)
  }

  private produce({ placed }: Attempt, tokens: number): void {
    Object.assign(placed, { outputTokens: placed.outputTokens + tokens })
    this.placement.produced?.(placed, tokens, this.pool, this.nowMs)
  }

  /** An attempt ends without success; before its first token the first one is tried again. */
  private fail(attempt: Attempt, reason: Reason): void {
    if (attempt.started || attempt.placed.attempt > 1) return this.end(attempt, reason)
    this.release(attempt, reason)
    this.place(again(attempt))
  }

  private end(attempt: Attempt, reason: Reason): void {
    this.release(attempt, reason)
    this.endUnlessLive(attempt.placed, reason)
  }

  private endUnlessLive(one: RequestView, reason: Reason): void {
    if (this.live.some(({ placed }) => placed.slot === one.slot)) return
    this.placement.ended?.(one, reason, this.pool, this.nowMs)
  }

  /** The other attempts of the same request. */
  private others(attempt: Attempt): ReadonlyArray<Attempt> {
    return this.live.filter((each) => each !== attempt && each.placed.slot === attempt.placed.slot)
  }

  private release(attempt: Attempt, reason: Reason): void {
    const { placed, worker, started } = attempt
    this.live = this.live.filter((each) => each !== attempt)
    if (!started) prefilled(this.pool, worker, placed, this.nowMs)
    release(this.pool, worker, placed)
    touch(this.placement, this.pool, worker)
    this.placement.released?.(placed, worker, reason, this.pool, this.nowMs)
  }
}

/** The request of an attempt, as it is when it is placed once more. */
const again = ({ placed }: Attempt): RequestView => ({
  ...placed,
  uncachedTokens: placed.promptTokens,
  attempt: placed.attempt + 1
})

/** A row whose times are told in other units, and whose speeds are. */
const inUnits = <Row extends Candidate>(row: Row, time: number, speed: number): Row => ({
  ...row,
  observedAtMs: row.observedAtMs * time,
  prefillSinceMs: row.prefillSinceMs * time,
  prefillDueMs: row.prefillDueMs * time,
  baseMs: row.baseMs * time,
  prefillTokenMs: row.prefillTokenMs * time,
  prefillAttentionMs: row.prefillAttentionMs * time,
  decodeSequenceMs: row.decodeSequenceMs * time,
  decodeContextMs: row.decodeContextMs * time,
  speed: row.speed * speed
})

/** The defaults of the options that are times, or rates, with their times in other units; null where one does not fit its bounds. */
export const optionsInUnits = (
  specs: OptionSpecs,
  time: number
): Readonly<Record<string, OptionValue>> | null => {
  const scaled = Object.entries<OptionSpec>(specs).flatMap(([name, spec]) => {
    if (spec.kind === "boolean" || spec.kind === "choice") return []
    const { kind, unit = "" } = spec
    if (kind === "duration" || unit === "ms" || unit === "seconds")
      return [{ name, spec, value: spec.default * time }]
    return unit.endsWith("/s") ? [{ name, spec, value: spec.default / time }] : []
  })
  if (scaled.some(({ spec, value }) => optionProblem(spec, value) !== null)) return null
  return Object.fromEntries(scaled.map(({ name, value }) => [name, value]))
}
