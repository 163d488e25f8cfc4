import { BalancerState, type BalancerEffects, makeTotals, type Totals } from "../../actors/BalancerState.ts"
import { RequestTable } from "../../actors/RequestTable.ts"
import { WorkerTable } from "../../actors/WorkerTable.ts"
import { Reason } from "../../domain/Outcome.ts"
import { Role } from "../../domain/PoolView.ts"
import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import { KV_KEPT_MS } from "../../engines/Engine.ts"
import type { Sequence } from "../../engines/simulated/Sequence.ts"
import { makePipeline, type PipelineChoice } from "../../policies/pipelines.ts"
import { assert } from "../../structures/assert.ts"
import { hash64 } from "../../structures/hash.ts"
import { ChainBuffer } from "../../structures/PrefixChain.ts"
import { PrefixIndex } from "../../structures/PrefixIndex.ts"
import { makeRng } from "../../structures/Rng.ts"
import { audit } from "./audit.ts"
import { EventHeap } from "./EventHeap.ts"
import { Job, ReplayWorker, type ReplayWorkerOptions } from "./ReplayWorker.ts"
import type { Workload } from "./Workload.ts"

export interface ReplayOptions {
  readonly workload: Workload
  readonly workers: ReadonlyArray<ReplayWorkerOptions>
  readonly pipeline: PipelineChoice
  readonly seed: number
  /** One way between balancer and worker. */
  readonly networkMs?: number
  readonly heartbeatMs?: number
  readonly requestTimeoutMs?: number
  readonly prefixBytesMax?: number
  /**
   * Whether all workers have one store of unlimited size behind their caches, which holds every prefix block that any of them computed,
   * and from which a block comes back at once: a reference, nothing that can be built.
   */
  readonly sharedCache?: boolean
  /** Share of each tenant, by its number; 1 where nothing is said. */
  readonly weightOf?: (tenant: number) => number
}

/** What became of each request, by its number in the workload. Times in ms from the start; NaN where it never came so far. */
export interface Outcomes {
  readonly arrivedMs: Float64Array
  readonly placedMs: Float64Array
  readonly firstMs: Float64Array
  readonly endedMs: Float64Array
  /** `Reason.none` when done. */
  readonly reasons: Uint8Array
  readonly workers: Int16Array
  readonly cachedTokens: Float64Array
}

export interface ReplayResult {
  readonly options: ReplayOptions
  readonly outcomes: Outcomes
  readonly totals: Totals
  readonly workers: ReadonlyArray<WorkerLoad>
  /** From the first arrival to the last end. */
  readonly spanMs: number
  /** Requests that had arrived and not ended, integrated over time. */
  readonly presentMs: number
  readonly events: number
}

const Event = {
  assigned: 0,
  cancelled: 1,
  step: 2,
  first: 3,
  done: 4,
  refused: 5,
  beat: 6,
  heard: 7,
  tick: 8,
  settle: 9,
  cache: 10,
  read: 11,
  arrived: 12,
  forgotten: 13
} as const

/** One way between balancer and worker, where nothing is said. */
export const NETWORK_MS = 0.5
const HEARTBEAT_MS = 250
const TICK_MS = 20
const TIMEOUT_MS = 600_000
const PREFIX_BYTES_MAX = 2 ** 30
const REQUESTS_MAX = 65_536

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

/** One run, and the state of its parts. */
export class Replay implements BalancerEffects {
  private readonly options: ReplayOptions
  private readonly events = new EventHeap()
  /** Who holds an attempt is the worker's slot. */
  private readonly table = new RequestTable<unknown, number>(REQUESTS_MAX)
  private readonly columns: WorkerTable
  private readonly totals = makeTotals()
  readonly prefixes: PrefixIndex
  private readonly core: BalancerState
  readonly workers: Array<ReplayWorker> = []
  /** What each worker and its cache said and the balancer has not heard, oldest first. */
  private readonly beats: Array<Array<WorkerLoad>>
  private readonly unheard: Array<Array<CacheNews>>
  private readonly outcomes: Outcomes
  /** By slot: the request's number in the workload. */
  private readonly numbers = new Int32Array(REQUESTS_MAX)
  private readonly networkMs: number
  private readonly heartbeatMs: number
  private readonly heard = new ChainBuffer()
  private nowMs = 0
  private presentMs = 0
  private arrived = 0
  private ended = 0
  private eventCount = 0
  private current: ReplayWorker | undefined
  /** Keys of the blocks in the store, where there is one; and whether one is being filled from it. */
  private readonly store: Set<number> | undefined
  private recalling = false

  constructor(options: ReplayOptions) {
    const { workload, workers, pipeline, seed } = options
    const count = workload.requests.length
    const nans = () => new Float64Array(count).fill(Number.NaN)
    this.options = options
    this.networkMs = options.networkMs ?? NETWORK_MS
    this.heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS
    this.outcomes = {
      arrivedMs: nans(),
      placedMs: nans(),
      firstMs: nans(),
      endedMs: nans(),
      reasons: new Uint8Array(count),
      workers: new Int16Array(count).fill(-1),
      cachedTokens: new Float64Array(count)
    }
    this.columns = new WorkerTable(workers.length)
    this.prefixes = new PrefixIndex({
      workersMax: workers.length,
      bytesMax: options.prefixBytesMax ?? PREFIX_BYTES_MAX
    })
    this.beats = workers.map(() => [])
    this.unheard = workers.map(() => [])
    this.store = options.sharedCache === true ? new Set() : undefined
    const made = makePipeline(pipeline, makeRng(seed))
    this.core = new BalancerState({
      table: this.table,
      workers: this.columns,
      totals: this.totals,
      effects: this,
      settleSoon: () => this.events.add(this.nowMs, Event.settle),
      wakeAt: (atMs) => this.events.add(Math.max(this.nowMs, atMs), Event.tick, 1),
      pipeline: () => made,
      prefixes: () => this.prefixes,
      blockTokens: workload.blockTokens,
      attemptsMax: 3,
      retryBudget: 0.1,
      nowMs: 0
    })
    for (const [slot, worker] of workers.entries()) this.start(slot, worker, made.usesPrefixes)
  }

  run(): ReplayResult {
    const { events, options } = this
    const { requests } = options.workload
    events.add(0, Event.tick)
    for (const slot of this.workers.keys())
      events.add((slot * this.heartbeatMs) / this.workers.length, Event.beat, slot)
    while (this.ended < requests.length) {
      const next = requests[this.arrived]
      if (next !== undefined && next.arrivalMs <= events.nextMs) {
        this.advance(next.arrivalMs)
        this.arrive(this.arrived++)
      } else {
        assert(events.take(), "what has not ended has something to wait for")
        this.advance(events.timeMs)
        this.handle(events.kind, events.a, events.b)
      }
    }
    return {
      options,
      outcomes: this.outcomes,
      totals: this.totals,
      workers: this.workers.map((worker) => worker.load()),
      spanMs: this.nowMs - (requests[0]?.arrivalMs ?? 0),
      presentMs: this.presentMs,
      events: this.eventCount
    }
  }

  private advance(nowMs: number): void {
    this.presentMs += (this.arrived - this.ended) * (nowMs - this.nowMs)
    this.nowMs = nowMs
    this.eventCount++
  }

  private start(slot: number, options: ReplayWorkerOptions, tells: boolean): void {
    const { columns } = this
    const worker = new ReplayWorker(
      options,
      this.options.workload.blockTokens,
      { token: this.token, finished: this.finished },
      this.store === undefined
        ? tells
          ? {
              stored: (keys, from, to) => this.tell(slot, true, keys, from, to),
              // The run may grow into other keys before this is heard.
              removed: (keys, from, to) => this.tell(slot, false, keys.slice(from, to), 0, to - from)
            }
          : undefined
        : { stored: this.share, removed: () => undefined }
    )
    const key = hash64(options.name)
    this.workers.push(worker)
    columns.keyHigh[slot] = key.high
    columns.keyLow[slot] = key.low
    columns.role[slot] = Role[options.role ?? "both"]
    columns.capacity[slot] = worker.capacity
    columns.ratedSpeed[slot] = options.speed ?? 1
    columns.kvCapacityTokens[slot] = worker.kvCapacityTokens
    columns.joined(slot, -Number.MAX_SAFE_INTEGER)
    this.core.member(0, slot, true, 0)
  }

  private tell(slot: number, stored: boolean, keys: Float64Array, from: number, to: number): void {
    const unheard = this.unheard[slot]!
    const heardMs = this.nowMs + this.networkMs
    if (unheard.at(-1)?.heardMs !== heardMs) this.events.add(heardMs, Event.cache, slot)
    unheard.push({ heardMs, stored, keys, from, to })
  }

  /** Blocks that some worker computes are in the store, as good as cached at every worker. */
  private readonly share = (keys: Float64Array, from: number, to: number): void => {
    if (this.recalling) return
    for (let i = from; i < to; i++) this.store!.add(keys[i]!)
    for (const slot of this.workers.keys()) this.tell(slot, true, keys, from, to)
  }

  private handle(kind: number, a: number, b: number): void {
    switch (kind) {
      case Event.assigned:
        return this.begin(a, b)
      case Event.cancelled:
        return this.cancel(a, b)
      case Event.step:
        return this.step(a)
      case Event.first:
        return this.first(a, b)
      case Event.done:
        return this.done(a, b)
      case Event.refused:
        return this.refused(a, b)
      case Event.read:
        return this.read(a, b)
      case Event.arrived:
        return this.resume(a)
      case Event.forgotten:
        return this.forget(a)
      case Event.beat:
        return this.beat(a)
      case Event.heard:
        return this.core.observe(a, this.beats[a]!.shift()!, this.nowMs)
      case Event.tick:
        this.core.tick(this.nowMs)
        if (a === 0) this.events.add(this.nowMs + TICK_MS, Event.tick)
        return
      case Event.settle:
        return this.core.settle(this.nowMs)
      case Event.cache:
        return this.hear(a)
    }
  }

  private arrive(number: number): void {
    const facts = this.options.workload.requests[number]!
    const request = this.table.allocate()
    this.outcomes.arrivedMs[number] = this.nowMs
    if (request === undefined) {
      this.totals.rejected++
      return this.end(number, Reason.limit)
    }
    request.model = 0
    request.tenant = facts.tenant
    request.weight = this.options.weightOf?.(facts.tenant) ?? 1
    request.class = 0
    request.promptTokens = facts.promptTokens
    request.maxTokens = facts.maxTokens
    request.sessionHigh = facts.sessionHigh
    request.sessionLow = facts.sessionLow
    request.idHigh = 0
    request.idLow = number + 1
    request.flags = 0
    request.arrivedMs = this.nowMs
    request.deadlineMs = this.nowMs + (this.options.requestTimeoutMs ?? TIMEOUT_MS)
    request.chain.fill(facts.keys, 0, facts.keys.length)
    this.numbers[request.slot] = number
    this.core.submit(request.slot, this.nowMs)
  }

  private end(number: number, reason: Reason): void {
    this.outcomes.reasons[number] = reason
    this.outcomes.endedMs[number] = this.nowMs
    this.ended++
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
    const request = this.table.at(slot)
    const number = this.numbers[slot]!
    request.assigned(worker, part)
    if (request.tied === undefined) {
      this.outcomes.workers[number] = worker
      if (part !== Role.decode) this.outcomes.placedMs[number] = this.nowMs
    }
    this.events.add(this.nowMs + this.networkMs, Event.assigned, attemptOf(slot, request.attempts), number)
    return true
  }

  readonly cancelAttempt = (slot: number, worker: number): void => {
    const request = this.table.at(slot)
    const number = request.numberAt(worker)
    if (number >= 0) {
      request.left(worker, Reason.cancelled)
      this.callOff(worker, attemptOf(slot, number))
    }
    this.letGo(slot)
  }

  /** Nobody needs the KV cache of a prompt any more, if there is one. */
  private letGo(slot: number): void {
    const request = this.table.at(slot)
    const { keeper, kept } = request
    if (keeper === undefined) return
    request.letGo()
    this.callOff(keeper, attemptOf(slot, kept))
  }

  private callOff(worker: number, attempt: number): void {
    this.events.add(this.nowMs + this.networkMs, Event.cancelled, worker, attempt)
  }

  // What happens at the workers.

  private begin(attempt: number, number: number): void {
    const holder = this.holderOf(attempt, number)
    if (holder < 0) return
    const worker = this.workers[holder]!
    const { part } = this.table.at(slotOf(attempt))
    const job = new Job(attempt, number, part, this.options.workload.requests[number]!)
    const sequence = worker.batch.submit(job, this.nowMs)
    if (sequence === undefined)
      return this.events.add(this.nowMs + this.networkMs, Event.refused, attempt, number)
    worker.jobs.set(attempt, sequence)
    this.resume(holder)
  }

  private cancel(worker: number, attempt: number): void {
    const { batch, jobs } = this.workers[worker]!
    const sequence = jobs.get(attempt)
    if (sequence === undefined) return
    batch.cancel(sequence)
    jobs.delete(attempt)
    // There may be room for who waits.
    if (batch.waiting > 0) this.resume(worker)
  }

  /** A worker has not heard in time what is to become of the KV cache it has kept for longest. */
  private forget(slot: number): void {
    const { batch, kept } = this.workers[slot]!
    batch.cancel(kept.shift()!)
    if (batch.waiting > 0) this.resume(slot)
  }

  /** There may be something to do. */
  private resume(slot: number): void {
    if (!this.workers[slot]!.stepping) this.step(slot)
  }

  private step(slot: number): void {
    const worker = this.workers[slot]!
    this.current = worker
    if (this.store !== undefined) {
      this.recalling = true
      worker.recall(this.store)
      this.recalling = false
    }
    const endMs = worker.step(this.nowMs)
    if (endMs >= 0) return this.events.add(endMs, Event.step, slot)
    const { nextArrivalMs } = worker.batch
    if (nextArrivalMs === worker.wakesMs || nextArrivalMs === Number.POSITIVE_INFINITY) return
    worker.wakesMs = nextArrivalMs
    this.events.add(nextArrivalMs, Event.arrived, slot)
  }

  /** The worker of a live attempt, or -1 when that is over. */
  private holderOf(attempt: number, number: number): number {
    const slot = slotOf(attempt)
    const { holder = -1, live, tied = -1, tiedAttempt } = this.table.at(slot)
    if (this.numbers[slot] !== number) return -1
    if (attempt === attemptOf(slot, live)) return holder
    return attempt === attemptOf(slot, tiedAttempt) ? tied : -1
  }

  private readonly token = (sequence: Sequence<Job>, index: number): void => {
    const worker = this.current!
    const { attempt, handedOver, request: number } = sequence.request
    worker.outputTokens++
    if (index === 0) {
      if (!handedOver) worker.read(sequence)
      this.events.add(this.nowMs + this.networkMs, Event.first, attempt, number)
    } else if (this.holderOf(attempt, number) >= 0) {
      const request = this.table.at(slotOf(attempt))
      if (request.nextIndex > 0) request.nextIndex = index
    }
  }

  private readonly finished = (sequence: Sequence<Job>): void => {
    const worker = this.current!
    const { attempt, outputTokens, request: number } = sequence.request
    worker.done++
    if (outputTokens > 0) return this.events.add(this.nowMs + this.networkMs, Event.done, attempt, number)
    worker.read(sequence)
    worker.kept.push(sequence)
    this.events.add(this.nowMs + this.networkMs, Event.read, attempt, number)
    this.events.add(this.nowMs + KV_KEPT_MS, Event.forgotten, this.workers.indexOf(worker))
  }

  // What the balancer hears.

  private first(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker < 0) return
    const slot = slotOf(attempt)
    const request = this.table.at(slot)
    this.decide(slot, worker)
    this.letGo(slot)
    request.nextIndex = Math.max(1, request.nextIndex)
    this.outcomes.workers[number] = worker
    this.outcomes.firstMs[number] = this.nowMs
    // Of a split request, what was cached where it was read.
    if (request.part !== Role.decode)
      this.outcomes.cachedTokens[number] = this.workers[worker]!.jobs.get(attempt)!.cachedTokens
    this.core.first(slot, this.nowMs)
  }

  /** The attempt at `worker` has started: calls off what is tied to it. */
  private decide(slot: number, worker: number): void {
    const { holder, tied } = this.table.at(slot)
    if (tied === undefined) return
    this.cancelAttempt(slot, worker === tied ? holder! : tied)
    this.core.untied(slot, this.nowMs)
  }

  private done(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker < 0) return
    const slot = slotOf(attempt)
    const request = this.table.at(slot)
    this.workers[worker]!.jobs.delete(attempt)
    request.nextIndex = this.options.workload.requests[number]!.outputTokens
    request.cachedTokens = this.outcomes.cachedTokens[number]!
    request.ended()
    this.end(number, Reason.none)
    this.core.done(slot, this.nowMs)
  }

  private read(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker < 0) return
    const slot = slotOf(attempt)
    this.table.at(slot).prefilled()
    this.outcomes.cachedTokens[number] = this.workers[worker]!.jobs.get(attempt)!.cachedTokens
    this.core.read(slot, this.nowMs)
  }

  /** The prompt and its answer can never fit into the worker's KV cache. */
  private refused(attempt: number, number: number): void {
    const worker = this.holderOf(attempt, number)
    if (worker < 0) return
    const slot = slotOf(attempt)
    this.letGo(slot)
    if (this.table.at(slot).left(worker, Reason.contextLength)) this.core.untied(slot, this.nowMs)
    else this.core.failed(slot, this.nowMs)
  }

  private beat(slot: number): void {
    this.beats[slot]!.push(this.workers[slot]!.load())
    this.events.add(this.nowMs + this.networkMs, Event.heard, slot)
    this.events.add(this.nowMs + this.heartbeatMs, Event.beat, slot)
  }

  private hear(worker: number): void {
    const { heard, prefixes } = this
    const unheard = this.unheard[worker]!
    let count = 0
    for (const { heardMs, stored, keys, from, to } of unheard) {
      if (heardMs > this.nowMs) break
      count++
      heard.fill(keys, from, to)
      if (stored) {
        const parent = from === 0 ? 0 : keys[from - 1]!
        prefixes.stored(worker, Math.floor(parent / 2 ** 32), parent >>> 0, heard, 0, to - from)
      } else prefixes.removed(worker, heard, 0, to - from)
    }
    unheard.splice(0, count)
  }
}

/** An attempt of the request in a slot, as one integer. */
const attemptOf = (slot: number, number: number): number => ((number & 0x7fff) << 16) | slot
const slotOf = (attempt: number): number => attempt & 0xffff

/** Blocks that entered or left a cache. */
interface CacheNews {
  readonly heardMs: number
  readonly stored: boolean
  readonly keys: Float64Array
  readonly from: number
  readonly to: number
}
