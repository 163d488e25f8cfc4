import { BalancerState, type BalancerEffects, RETRY_BUDGET } from "../../actors/BalancerState.ts"
import type { DecisionLog } from "../../actors/DecisionLog.ts"
import type { Sighting } from "../../actors/FleetState.ts"
import { type PoolDecision, type PoolMessage, PoolState } from "../../actors/PoolState.ts"
import { Request, RequestTable } from "../../actors/RequestTable.ts"
import { FailureDetector } from "../../actors/runtime/FailureDetector.ts"
import { makeTotals, type Totals } from "../../actors/Totals.ts"
import { WorkerTable } from "../../actors/WorkerTable.ts"
import { Reason } from "../../domain/Outcome.ts"
import { Role } from "../../domain/PoolView.ts"
import type { WorkerState } from "../../domain/Snapshot.ts"
import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import { producedBy, type Sequence } from "../../engines/simulated/Sequence.ts"
import { makePipeline, type Pipeline, type PipelineChoice } from "../../policies/pipelines.ts"
import { assert } from "../../structures/assert.ts"
import { ChainBuffer, highOf, lowOf } from "../../structures/PrefixChain.ts"
import { PrefixIndex } from "../../structures/PrefixIndex.ts"
import { makeRng } from "../../structures/Rng.ts"
import { audit } from "./audit.ts"
import { Event, TICK_MS } from "./Event.ts"
import { EventCalendar } from "./EventCalendar.ts"
import type { Crash, SlowDown } from "./faults.ts"
import { Arrivals } from "./Loop.ts"
import { ReplayEngines } from "./ReplayEngines.ts"
import { LOOK_MS, ReplayFleet, type ReplayScaling } from "./ReplayFleet.ts"
import {
  type Attempt,
  type ReplayWorker,
  type ReplayWorkerOptions,
  type Spell,
  totalLoad
} from "./ReplayWorker.ts"
import type { Workload } from "./Workload.ts"

export interface ReplayOptions {
  readonly workload: Workload
  /** Who serves: all of the time, where nothing scales their number and no fault befalls them. */
  readonly workers: ReadonlyArray<ReplayWorkerOptions>
  readonly pipeline: PipelineChoice
  readonly seed: number
  /** One way between balancer and worker. */
  readonly networkMs?: number
  readonly heartbeatMs?: number
  readonly requestTimeoutMs?: number
  readonly prefixBytesMax?: number
  /** Attempts per request, the first included. */
  readonly attemptsMax?: number
  readonly crashes?: ReadonlyArray<Crash>
  readonly slowDowns?: ReadonlyArray<SlowDown>
  readonly scaling?: ReplayScaling | undefined
  /**
   * Whether all workers have one store of unlimited size behind their caches, which holds every prefix block that any of them computed,
   * and from which a block comes back at once: a reference, nothing that can be built.
   */
  readonly sharedCache?: boolean
  /** Share of each tenant, by its name; 1 where nothing is said. */
  readonly weightOf?: (tenant: string) => number
  /** Makes who keeps account of what is decided, and why; it may ask for the state of a worker. It changes nothing. */
  readonly decisions?: (stateOf: (worker: number) => WorkerState) => DecisionLog
  /** Policies that decide in place of those that were chosen. */
  readonly adapted?: (pipeline: Pipeline) => Pipeline
}

/** What became of each request, by its number in the workload. Times in ms from the start; NaN where it never came so far. */
export interface Outcomes {
  readonly arrivedMs: Float64Array
  readonly placedMs: Float64Array
  readonly firstMs: Float64Array
  readonly endedMs: Float64Array
  /** `Reason.none` when done. */
  readonly reasons: Uint8Array
  /** Who produced the answer, or was to; -1 for nobody. */
  readonly workers: Int16Array
  /** Who read the prompt, and what it had cached of that. */
  readonly readers: Int16Array
  readonly cachedTokens: Float64Array
}

/** One process of a worker. Times in ms from the start. */
export interface Life {
  readonly worker: number
  readonly orderedMs: number
  /** When it was up; never, where that is when it ended. */
  readonly upMs: number
  readonly endedMs: number
}

export interface ReplayResult {
  readonly options: ReplayOptions
  readonly outcomes: Outcomes
  readonly totals: Totals
  /** By worker, of all its processes together. */
  readonly workers: ReadonlyArray<WorkerLoad>
  /** Of all processes of all workers. */
  readonly spells: ReadonlyArray<Spell>
  readonly lives: ReadonlyArray<Life>
  /** From the first arrival to the last end. */
  readonly spanMs: number
  /** Requests that had arrived and not ended, integrated over time. */
  readonly presentMs: number
  readonly events: number
}

/** Where nothing is said: one way between balancer and worker, and between two heartbeats. */
export const NETWORK_MS = 0.5
export const HEARTBEAT_MS = 250
const TIMEOUT_MS = 600_000
const ATTEMPTS_MAX = 3
const PREFIX_BYTES_MAX = 2 ** 30
/** As live: when a worker is suspect and when it is given up, unless heartbeats are rarer than usual, and how often that is looked at. */
const SUSPECT_MS = 1_000
const SUSPECT_BEATS = 4
const CHECK_MS = 250
/** What randomness of the scaling policy is split off for: none of the other policies has as many. */
const SCALING = 1_000
const REQUESTS_MAX = 65_536
/** What happens again and again and changes nothing while no request is there, each kind a bit. */
const REGULAR = (1 << Event.tick) | (1 << Event.beat) | (1 << Event.heard)
/** So many heartbeats are heard before something else happens, at least: then it happens again. */
const AWAKE_BEATS = 2

/**
 * Replays a workload in virtual time: the very decision core that serves live traffic, over engine cores, with the delays between them.
 * Heartbeats and prefix-cache events reach the balancer late, as live ones do. Same options, same result, to the last bit; what must
 * hold of any result is checked of each.
 */
export const replay = (options: ReplayOptions): ReplayResult => {
  const result = new Replay(options).run()
  audit(result)
  return result
}

/** Tokens are counted by the step, for all that an engine decodes: the request asks how many are its own. */
class StreamedRequest extends Request<unknown, ReplayWorker> {
  private readonly heardTokens: (request: StreamedRequest) => number

  constructor(slot: number, heardTokens: (request: StreamedRequest) => number) {
    super(slot)
    this.heardTokens = heardTokens
  }

  override get outputTokens(): number {
    return this.heardTokens(this)
  }
}

/** One run, and the state of its parts. */
export class Replay implements BalancerEffects {
  private readonly options: ReplayOptions
  private readonly events = new EventCalendar()
  private readonly arrivals: Arrivals
  /** Who holds an attempt is a process of a worker. */
  private readonly table = new RequestTable<unknown, ReplayWorker>(
    REQUESTS_MAX,
    (slot) => new StreamedRequest(slot, (request) => this.heardTokens(request))
  )
  private readonly columns: WorkerTable
  private readonly totals = makeTotals()
  readonly prefixes: PrefixIndex
  private readonly usesPrefixes: boolean
  private readonly core: BalancerState
  private readonly pool: PoolState
  private readonly fleet: ReplayFleet | undefined
  private readonly engines: ReplayEngines
  /** By slot: the process there is, or was last. */
  readonly workers: Array<ReplayWorker> = []
  /** By slot: the process that the balancer has a connection to. */
  private readonly links: Array<ReplayWorker | undefined> = []
  /** By serial, until the balancer knows that it is gone. */
  private readonly processes: Array<ReplayWorker | undefined> = []
  private readonly spells: Array<Spell> = []
  private readonly retired: Array<Array<WorkerLoad>>
  /** Whether workers come and go, so that their heartbeats tell something. */
  private readonly comeAndGo: boolean
  private readonly outcomes: Outcomes
  /** By slot: the request's number in the workload. */
  private readonly numbers = new Int32Array(REQUESTS_MAX)
  /** By slot: what the engine has of the request whose first token was heard last. */
  private readonly streams: Array<Sequence<Attempt>> = []
  private readonly networkMs: number
  private readonly heartbeatMs: number
  /** What happens regularly does so for that long before something else does. */
  private readonly awakeMs: number
  private readonly timeoutMs: number
  private readonly heard = new ChainBuffer()
  private readonly lives: Array<Life> = []
  private presentMs = 0
  /** Until then nothing happens but what happens regularly. */
  private quietUntilMs = 0
  private arrived = 0
  private ended = 0
  private eventCount = 0

  constructor(options: ReplayOptions) {
    const { crashes = [], pipeline, scaling, seed, slowDowns = [], workers, workload } = options
    for (const { worker } of [...crashes, ...slowDowns])
      assert(workers[worker] !== undefined, "faults befall workers there are")
    assert(
      slowDowns.every(({ factor }) => factor >= 1),
      "a slow-down makes nothing faster"
    )
    assert((scaling?.least ?? 0) <= workers.length, "there are enough workers for the fewest there may be")
    const count = workload.requests.length
    const nans = () => new Float64Array(count).fill(Number.NaN)
    this.options = options
    this.networkMs = options.networkMs ?? NETWORK_MS
    this.heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS
    this.awakeMs = AWAKE_BEATS * this.heartbeatMs + this.networkMs
    this.timeoutMs = options.requestTimeoutMs ?? TIMEOUT_MS
    this.outcomes = {
      arrivedMs: nans(),
      placedMs: nans(),
      firstMs: nans(),
      endedMs: nans(),
      reasons: new Uint8Array(count),
      workers: new Int16Array(count).fill(-1),
      readers: new Int16Array(count).fill(-1),
      cachedTokens: new Float64Array(count)
    }
    this.arrivals = new Arrivals(workload)
    this.columns = new WorkerTable(workers.length)
    this.prefixes = new PrefixIndex({
      workersMax: workers.length,
      bytesMax: options.prefixBytesMax ?? PREFIX_BYTES_MAX
    })
    this.retired = workers.map(() => [])
    this.comeAndGo = crashes.length > 0 || scaling !== undefined
    this.pool = new PoolState((nowMs) => this.detector(nowMs))
    const chosen = makePipeline(pipeline, makeRng(seed))
    const made = options.adapted?.(chosen) ?? chosen
    this.usesPrefixes = made.usesPrefixes
    this.engines = new ReplayEngines({
      options,
      events: this.events,
      networkMs: this.networkMs,
      heartbeatMs: this.heartbeatMs,
      beatAfterMs: () => this.againAfter(this.heartbeatMs),
      workers: this.workers,
      tellsCaches: made.usesPrefixes,
      leave: (worker) => this.leave(worker)
    })
    this.fleet = scaling && this.makeFleet(scaling)
    const { demand } = this.fleet ?? {}
    const policies = demand === undefined ? made : { ...made, admissions: [demand, ...made.admissions] }
    this.core = new BalancerState({
      table: this.table,
      workers: this.columns,
      totals: this.totals,
      effects: this,
      settleSoon: () => this.events.add(this.nowMs, Event.settle),
      wakeAt: (atMs) => this.events.add(Math.max(this.nowMs, atMs), Event.tick, 1),
      pipeline: () => policies,
      prefixes: () => this.prefixes,
      blockTokens: workload.blockTokens,
      attemptsMax: options.attemptsMax ?? ATTEMPTS_MAX,
      retryBudget: RETRY_BUDGET,
      decisions: options.decisions?.((worker) => this.pool.stateOf(worker) ?? "lost"),
      nowMs: 0
    })
    for (const slot of workers.keys()) {
      this.workers.push(this.makeWorker(slot))
      if (slot < (scaling?.least ?? workers.length) || !this.isWhole(slot)) this.open(this.workers[slot]!)
    }
  }

  run(): ReplayResult {
    const { arrivals, events, options } = this
    const { requests } = options.workload
    events.add(0, Event.tick)
    for (const { life, serial, slot } of this.workers)
      if (life === "up") events.add((slot * this.heartbeatMs) / this.workers.length, Event.beat, serial)
    this.schedule()
    while (this.ended < requests.length) {
      const isArrival = arrivals.nextMs <= events.nextMs
      this.advance(isArrival ? Math.max(this.nowMs, arrivals.nextMs) : events.nextMs)
      if (isArrival) this.arrive(arrivals.take())
      else {
        assert(events.take(), "what has not ended has something to wait for")
        this.handle(events.kind, events.a, events.b)
      }
    }
    for (const worker of this.workers) if (worker.life !== "none") this.retire(worker)
    return {
      options,
      outcomes: this.outcomes,
      totals: this.totals,
      workers: this.retired.map(totalLoad),
      spells: this.spells,
      lives: this.lives,
      spanMs: this.nowMs - (requests[0]?.arrivalMs ?? 0),
      presentMs: this.presentMs,
      events: this.eventCount + this.engines.uncounted
    }
  }

  /** What happens whatever the requests do. */
  private schedule(): void {
    const { crashes = [], slowDowns = [] } = this.options
    for (const [at, { atMs }] of crashes.entries()) this.events.add(atMs, Event.crashed, at)
    for (const { fromMs, toMs, worker } of slowDowns) {
      this.events.add(fromMs, Event.slowed, worker)
      this.events.add(toMs, Event.slowed, worker)
    }
    if (crashes.some(({ silent = false }) => silent)) this.events.add(0, Event.check)
    if (this.fleet !== undefined) this.events.add(0, Event.look)
  }

  private get nowMs(): number {
    return this.events.timeMs
  }

  private advance(nowMs: number): void {
    this.presentMs += (this.arrived - this.ended) * (nowMs - this.nowMs)
    this.events.pass(nowMs)
    this.eventCount++
  }

  private makeWorker(slot: number): ReplayWorker {
    const worker = this.engines.make(slot, this.processes.length)
    this.processes.push(worker)
    return worker
  }

  private handle(kind: number, a: number, b: number): void {
    switch (kind) {
      case Event.assigned:
        return this.begin(a, b)
      case Event.first:
        return this.first(a, b)
      case Event.done:
        return this.done(a, b)
      case Event.refused:
        return this.refused(a, b)
      case Event.read:
        return this.read(a, b)
      case Event.asked:
        return this.arrive(a)
      case Event.settle:
        return this.core.settle(this.nowMs)
      case Event.tick:
        this.core.tick(this.nowMs)
        if (a !== 0) return
        this.lookAhead()
        return this.events.after(this.againAfter(TICK_MS), Event.tick)
      case Event.crashed:
        return this.crash(this.options.crashes![a]!)
      case Event.slowed:
        return this.engines.slow(this.workers[a]!)
      case Event.check:
        this.events.after(Math.min(this.heartbeatMs, CHECK_MS), Event.check)
        return this.tellPool({ _tag: "Check" })
      case Event.look:
        this.events.after(LOOK_MS, Event.look)
        return this.fleet!.look(this.nowMs)
      default: {
        const worker = this.processes[a]
        if (worker !== undefined) this.handleOf(worker, kind, b)
      }
    }
  }

  private lookAhead(): void {
    const { nextMs } = this.arrivals
    if (this.arrived > this.ended || nextMs - this.nowMs < this.awakeMs + this.heartbeatMs) return
    this.quietUntilMs = Math.min(nextMs, this.events.nextBut(REGULAR))
  }

  /** After how long what happens every `periodMs` is to happen again: in a trace of weeks, most of it is left out. */
  private againAfter(periodMs: number): number {
    const quietMs = this.quietUntilMs - this.nowMs - this.awakeMs
    return periodMs * Math.max(1, Math.floor(quietMs / periodMs))
  }

  /** What happens at one process, or is heard of it. */
  private handleOf(worker: ReplayWorker, kind: number, b: number): void {
    switch (kind) {
      case Event.heard:
        return this.observe(worker)
      case Event.cache:
        return this.hear(worker)
      case Event.stepped:
        return worker.stepped(b)
      case Event.joined:
        return this.join(worker)
      case Event.parted:
        return this.lose(worker)
      case Event.dialled:
        return this.dialled(worker)
      default:
        if (worker.life === "up") this.engines.handle(worker, kind, b)
    }
  }

  private arrive(number: number): void {
    const { weightOf, workload } = this.options
    const facts = workload.requests[number]!
    const request = this.table.allocate()
    this.arrived++
    this.outcomes.arrivedMs[number] = this.nowMs
    if (request === undefined) {
      this.totals.rejected++
      return this.end(number, Reason.limit)
    }
    request.model = 0
    request.tenant = facts.tenant
    request.weight = weightOf?.(workload.tenants[facts.tenant]!) ?? 1
    request.class = 0
    request.promptTokens = facts.promptTokens
    request.maxTokens = facts.maxTokens
    request.sessionHigh = facts.sessionHigh
    request.sessionLow = facts.sessionLow
    request.idHigh = facts.id?.high ?? 0
    request.idLow = facts.id?.low ?? number + 1
    request.flags = 0
    request.arrivedMs = this.nowMs
    request.deadlineMs = this.nowMs + this.timeoutMs
    if (facts.keys.length > 0) request.newChain().fill(facts.keys, 0, facts.keys.length)
    this.numbers[request.slot] = number
    this.core.submit(request.slot, this.nowMs)
  }

  private end(number: number, reason: Reason): void {
    this.outcomes.reasons[number] = reason
    this.outcomes.endedMs[number] = this.nowMs
    this.ended++
    const follower = this.arrivals.ended(number)
    if (follower >= 0)
      this.events.after(this.options.workload.loop!.thinkMs[follower]!, Event.asked, follower)
  }

  // What the core asks for.

  readonly accept = (): void => undefined

  readonly reject = (slot: number, reason: Reason): void => this.close(slot, reason)

  readonly fail = (slot: number, reason: Reason): void => this.close(slot, reason)

  private close(slot: number, reason: Reason): void {
    this.letGo(slot)
    this.table.at(slot).ended()
    this.end(this.numbers[slot]!, reason)
  }

  readonly assign = (slot: number, worker: number, part: number): boolean => {
    const link = this.links[worker]
    if (link === undefined) return false
    const request = this.table.at(slot)
    const number = this.numbers[slot]!
    request.assigned(link, part)
    if (request.tied === undefined) {
      this.outcomes.workers[number] = worker
      if (part !== Role.decode) this.outcomes.placedMs[number] = this.nowMs
    }
    this.events.after(this.networkMs, Event.assigned, attemptOf(slot, request.attempts), number)
    return true
  }

  readonly cancelAttempt = (slot: number, worker: number): void => {
    const request = this.table.at(slot)
    const link = this.links[worker]
    if (link !== undefined && request.numberAt(link) >= 0) this.callOff(request, link)
    this.letGo(slot)
  }

  private callOff(request: Request<unknown, ReplayWorker>, link: ReplayWorker): void {
    const number = request.numberAt(link)
    request.nextIndex = request.outputTokens
    request.left(link, Reason.cancelled)
    this.sendCancel(link, attemptOf(request.slot, number))
  }

  /** Nobody needs the KV cache of a prompt any more, if there is one. */
  private letGo(slot: number): void {
    const request = this.table.at(slot)
    const { keeper, kept } = request
    if (keeper === undefined) return
    request.letGo()
    this.sendCancel(keeper, attemptOf(slot, kept))
  }

  private sendCancel({ serial }: ReplayWorker, attempt: number): void {
    this.events.after(this.networkMs, Event.cancelled, serial, attempt)
  }

  /** An attempt reaches its worker, unless it was taken back meanwhile. */
  private begin(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker?.life === "up")
      this.engines.begin(worker, attempt, number, this.table.at(slotOf(attempt)).part)
  }

  /** Who has a live attempt; undefined when that is over. */
  private holderOf(attempt: number, number: number): ReplayWorker | undefined {
    const slot = slotOf(attempt)
    const { holder, live, tied, tiedAttempt } = this.table.at(slot)
    if (this.numbers[slot] !== number) return undefined
    if (attempt === attemptOf(slot, live)) return holder
    return attempt === attemptOf(slot, tiedAttempt) ? tied : undefined
  }

  // What the balancer hears.

  private first(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker === undefined) return
    const slot = slotOf(attempt)
    const request = this.table.at(slot)
    this.decide(slot, worker)
    this.letGo(slot)
    request.nextIndex = Math.max(1, request.nextIndex)
    this.outcomes.workers[number] = worker.slot
    this.outcomes.firstMs[number] = this.nowMs
    const sequence = (this.streams[slot] = worker.attempts.get(attempt)!)
    // Where a split request was read is known.
    if (request.part !== Role.decode) this.wasRead(number, worker, sequence)
    this.core.first(slot, this.nowMs)
  }

  /** How many tokens of a request were heard. While it streams `nextIndex` says how many there are at least, afterwards how many. */
  private heardTokens({ holder, nextIndex, slot }: Request<unknown, ReplayWorker>): number {
    if (nextIndex === 0 || holder === undefined) return nextIndex
    this.engines.catchUp(holder, TICK_MS)
    return Math.max(nextIndex, producedBy(this.streams[slot]!, holder.heardSteps))
  }

  /** The attempt at `worker` has started: calls off what is tied to it. */
  private decide(slot: number, worker: ReplayWorker): void {
    const request = this.table.at(slot)
    const { holder, tied } = request
    if (tied === undefined) return
    this.callOff(request, worker === tied ? holder! : tied)
    this.letGo(slot)
    this.core.untied(slot, this.nowMs)
  }

  private done(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker === undefined) return
    const slot = slotOf(attempt)
    const request = this.table.at(slot)
    worker.attempts.delete(attempt)
    request.nextIndex = this.options.workload.requests[number]!.outputTokens
    request.cachedTokens = this.outcomes.cachedTokens[number]!
    request.ended()
    this.end(number, Reason.none)
    this.core.done(slot, this.nowMs)
  }

  private read(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker === undefined) return
    const slot = slotOf(attempt)
    this.table.at(slot).prefilled()
    this.wasRead(number, worker, worker.attempts.get(attempt)!)
    this.core.read(slot, this.nowMs)
  }

  private wasRead(number: number, { slot }: ReplayWorker, { cachedTokens }: Sequence<Attempt>): void {
    this.outcomes.readers[number] = slot
    this.outcomes.cachedTokens[number] = cachedTokens
  }

  /** The prompt and its answer can never fit into the worker's KV cache. */
  private refused(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker !== undefined) this.tellEnd(this.table.at(slotOf(attempt)), worker, Reason.contextLength)()
  }

  /** The attempt at `link` is over without DONE. What the core is to be told of that. */
  private tellEnd(request: Request<unknown, ReplayWorker>, link: ReplayWorker, reason: Reason): () => void {
    this.letGo(request.slot)
    request.nextIndex = request.outputTokens
    return request.left(link, reason)
      ? () => this.core.untied(request.slot, this.nowMs)
      : () => this.core.failed(request.slot, this.nowMs)
  }

  private observe(worker: ReplayWorker): void {
    const { slot } = worker
    const load = worker.beats.shift()!
    if (this.links[slot] !== worker) return
    if (this.comeAndGo) this.tellPool({ _tag: "Heartbeat", worker: slot, load })
    this.core.observe(slot, load, this.nowMs)
  }

  private hear({ slot, unheard }: ReplayWorker): void {
    const { heard, prefixes } = this
    let count = 0
    for (const { heardMs, stored, keys, from, to } of unheard) {
      if (heardMs > this.nowMs) break
      count++
      heard.fill(keys, from, to)
      if (stored) {
        const parent = from === 0 ? 0 : keys[from - 1]!
        prefixes.stored(slot, highOf(parent), lowOf(parent), heard, 0, to - from)
      } else prefixes.removed(slot, heard, 0, to - from)
    }
    unheard.splice(0, count)
  }

  // Workers that come and go.

  /** One that is there from the start, and has been for long. */
  private open(worker: ReplayWorker): void {
    worker.rise(this.nowMs)
    this.connect(worker, -Number.MAX_SAFE_INTEGER)
    const load = worker.load()
    this.tellPool({ _tag: "Heartbeat", worker: worker.slot, load })
    this.core.observe(worker.slot, load, this.nowMs)
  }

  /** Has a process start, which dials after some time. */
  private order(slot: number, afterMs: number): void {
    const worker = this.makeWorker(slot)
    this.workers[slot] = worker
    worker.life = "coming"
    worker.orderedMs = this.nowMs
    this.events.after(afterMs, Event.dialled, worker.serial)
  }

  private dialled(worker: ReplayWorker): void {
    if (worker.life !== "coming") return
    worker.rise(this.nowMs)
    this.events.after(this.networkMs, Event.joined, worker.serial)
    this.engines.beat(worker)
  }

  /** A reborn worker takes the place of its former self, whose connection may not have been found dead yet. */
  private join(worker: ReplayWorker): void {
    const former = this.links[worker.slot]
    if (former !== undefined) this.lose(former)
    this.connect(worker, this.nowMs)
  }

  private connect(worker: ReplayWorker, sinceMs: number): void {
    const { capacity, kvCapacityTokens, maxSequences, options, slot } = worker
    const { name, role, speed } = options
    this.links[slot] = worker
    this.columns.join(slot, { name, role, capacity, maxSequences, speed, kvCapacityTokens }, sinceMs)
    this.tellPool({ _tag: "Joined", worker: slot, registration: 0 })
  }

  private crash({ goneMs, silent = false, worker: slot }: Crash): void {
    const worker = this.workers[slot]!
    if (worker.life !== "up") return
    this.retire(worker)
    if (!silent) this.part(worker)
    if (goneMs !== undefined) this.order(slot, goneMs)
  }

  private leave(worker: ReplayWorker): void {
    this.retire(worker)
    this.part(worker)
  }

  private stop(slot: number): void {
    const worker = this.workers[slot]!
    if (worker.life === "up") this.leave(worker)
    else this.retire(worker)
  }

  private part({ serial }: ReplayWorker): void {
    this.events.after(this.networkMs, Event.parted, serial)
  }

  /** The process is no more. */
  private retire(worker: ReplayWorker): void {
    this.engines.catchUp(worker, this.networkMs)
    worker.life = "none"
    this.retired[worker.slot]!.push(worker.load())
    this.spells.push(...worker.allSpells())
    const { orderedMs, slot, upMs } = worker
    this.lives.push({ worker: slot, orderedMs, upMs: Math.min(upMs, this.nowMs), endedMs: this.nowMs })
  }

  /** The connection to a worker has ended. What it had is told first, and that it is no member afterwards. */
  private lose(link: ReplayWorker): void {
    const { serial, slot } = link
    if (this.links[slot] !== link) return
    this.links[slot] = undefined
    // What the store holds is still as good as cached there.
    if (this.options.sharedCache !== true) {
      this.prefixes.forget(slot)
      this.processes[serial] = undefined
    }
    const news: Array<() => void> = []
    for (const request of this.table.all()) {
      if (request.numberAt(link) >= 0) news.push(this.tellEnd(request, link, Reason.workerLost))
      else if (request.keeper === link) news.push(this.keeperLost(request))
    }
    for (const tell of news) tell()
    this.tellPool({ _tag: "Left", worker: slot })
  }

  /** Who kept the KV cache of a prompt is gone, and whoever waits for it waits in vain. */
  private keeperLost(request: Request<unknown, ReplayWorker>): () => void {
    const { holder, live, slot } = request
    request.letGo()
    if (holder === undefined) {
      request.failure = Reason.workerLost
      return () => this.core.failed(slot, this.nowMs)
    }
    this.sendCancel(holder, attemptOf(slot, live))
    return this.tellEnd(request, holder, Reason.workerLost)
  }

  private tellPool(message: PoolMessage): void {
    for (const decision of this.pool.step(message, this.nowMs)) this.obey(decision)
  }

  private obey({ _tag, worker }: PoolDecision): void {
    if (_tag === "Lost") this.lose(this.links[worker]!)
    else this.core.member(0, worker, _tag === "Ready", this.nowMs)
  }

  private detector(nowMs: number): FailureDetector {
    const { heartbeatMs } = this
    const suspectMs = Math.max(SUSPECT_MS, SUSPECT_BEATS * heartbeatMs)
    return new FailureDetector(nowMs, { intervalMs: heartbeatMs, suspectMs, lostMs: 2 * suspectMs })
  }

  private makeFleet(scaling: ReplayScaling): ReplayFleet {
    const port = {
      slots: [...this.options.workers.keys()].filter((slot) => this.isWhole(slot)),
      columns: this.columns,
      prefixes: this.usesPrefixes ? this.prefixes : undefined,
      seen: (slot: number) => this.seen(slot),
      start: (slot: number) => this.order(slot, scaling.coldStartMs),
      drain: (slot: number) => this.drain(slot),
      stop: (slot: number) => this.stop(slot)
    }
    return new ReplayFleet(scaling, port, this.timeoutMs, makeRng(this.options.seed).split(SCALING))
  }

  /** Whether the worker does all of a request. */
  private isWhole(slot: number): boolean {
    const { role = "both" } = this.options.workers[slot]!
    return role === "both"
  }

  /** The process in a slot, if there is one, as the fleet sees it: by what the balancer knows of it. */
  private seen(slot: number): Omit<Sighting, "index"> | undefined {
    const process = this.workers[slot]!
    if (process.life === "none") return undefined
    const isLinked = this.links[slot] !== undefined
    return { state: isLinked ? (this.pool.stateOf(slot) ?? "starting") : "absent", process }
  }

  private drain(slot: number): void {
    const link = this.links[slot]
    if (link === undefined) return
    this.events.after(this.networkMs, Event.drained, link.serial)
    this.tellPool({ _tag: "Draining", worker: slot })
  }
}

/** An attempt of the request in a slot, as one integer. */
const attemptOf = (slot: number, number: number): number => ((number & 0x7fff) << 16) | slot
const slotOf = (attempt: number): number => attempt & 0xffff
