import { BalancerState, type BalancerEffects } from "../../src/actors/BalancerState.ts"
import { RequestTable } from "../../src/actors/RequestTable.ts"
import { makeTotals } from "../../src/actors/Totals.ts"
import { WorkerTable } from "../../src/actors/WorkerTable.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { makePipeline, type PipelineChoice } from "../../src/policies/pipelines.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import { EventCalendar } from "../../src/simulator/replay/EventCalendar.ts"
import { PrefixIndex } from "../../src/structures/PrefixIndex.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"

export interface QueueOptions {
  readonly workers: number
  /** Requests a worker takes, the one it serves included; the others wait at the balancer. */
  readonly capacity: number
  /** What is left out lets everyone in, in order of arrival, to a random worker. */
  readonly pipeline?: Partial<PipelineChoice>
  readonly requests: number
  /** Requests at the start that are served and not counted. */
  readonly warmUp?: number
  readonly gapMs: (rng: Rng) => number
  readonly serviceMs: (rng: Rng) => number
  readonly class?: (rng: Rng) => number
  /** Whether who is served, with what is left of its service, goes back into the queue when somebody comes. For workers that take one. */
  readonly preemptive?: boolean
  readonly seed?: number
}

/** Means over the requests that were served, and what holds of any such system. */
export interface QueueFigures {
  readonly waitMs: number
  readonly sojournMs: number
  /** By class. */
  readonly waitMsOf: (requestClass: number) => number
  /** Share of the requests that waited, and that were refused. */
  readonly waitedShare: number
  readonly refusedShare: number
  /** Σ of times in the system, and the number in the system integrated over time: Little's law says they are equal. */
  readonly sojournsMs: number
  readonly presentMs: number
  /** Whether at some time a request waited at the balancer while a worker had room. */
  readonly idled: boolean
}

const chosen = (policy: string) => ({ policy, options: {} })
const plain: PipelineChoice = {
  admission: [],
  ordering: chosen("arrival"),
  batching: chosen("none"),
  placement: chosen("random"),
  rescue: []
}

/** Tokens per ms of service: service times are whole numbers of them. */
const TOKENS_PER_MS = 1000
const SERVED = 0

const takesAllBack: Rescue = {
  review: (_, placed, { requeue }) => placed.unstarted(({ slot }) => void requeue(slot))
}

/**
 * A queueing system out of the parts of the replay: its events and the balancer's decision core with the policies of the registry, over
 * workers that serve one request after the other, each for its own time, and nothing is ever late.
 */
export class QueueWorld implements BalancerEffects {
  private readonly options: QueueOptions
  private readonly events = new EventCalendar()
  private readonly table = new RequestTable<unknown, number>(65_536)
  private readonly core: BalancerState
  private nowMs = 0
  private presentMs = 0
  private sojournsMs = 0
  private refused = 0
  private idled = false
  private readonly waits = [new Sum(), new Sum(), new Sum()]
  private readonly sojourns = new Sum()
  private waited = 0
  /** By slot: number and service time of the request; who comes next at its worker. */
  private readonly numbers = new Int32Array(65_536)
  private readonly servicesMs = new Float64Array(65_536)
  private readonly next = new Int32Array(65_536)
  /** By worker: first and last in its queue, -1 for none. */
  private readonly heads: Int32Array
  private readonly tails: Int32Array
  /** By worker: counts what began to be served, so that the end of what was taken back is known as such; and when the last began. */
  private readonly turns: Int32Array
  private readonly begunMs: Float64Array

  constructor(options: QueueOptions) {
    const { capacity, pipeline, preemptive = false, seed = 1, workers: count } = options
    const workers = new WorkerTable(count)
    const prefixes = new PrefixIndex({ workersMax: count, bytesMax: 2 ** 24 })
    const made = makePipeline({ ...plain, ...pipeline }, makeRng(seed).split(1))
    this.options = options
    this.heads = new Int32Array(count).fill(-1)
    this.tails = new Int32Array(count).fill(-1)
    this.turns = new Int32Array(count)
    this.begunMs = new Float64Array(count)
    this.core = new BalancerState({
      table: this.table,
      workers,
      totals: makeTotals(),
      effects: this,
      settleSoon: () => undefined,
      wakeAt: () => undefined,
      pipeline: () => (preemptive ? { ...made, rescues: [takesAllBack] } : made),
      prefixes: () => prefixes,
      blockTokens: 256,
      attemptsMax: 1,
      retryBudget: 0,
      nowMs: 0
    })
    for (let slot = 0; slot < count; slot++) {
      workers.join(slot, { name: `worker-${slot}`, capacity }, 0)
      this.core.member(0, slot, true, 0)
    }
  }

  run(): QueueFigures {
    const { capacity, gapMs, requests, seed = 1, workers } = this.options
    const rng = makeRng(seed)
    let nextMs = gapMs(rng)
    for (let number = 0; number < requests;) {
      if (nextMs <= this.events.nextMs) {
        this.advance(nextMs)
        this.arrive(number++, rng)
        nextMs += gapMs(rng)
      } else this.serveNext()
      if (this.core.queued > 0 && this.core.inFlight < workers * capacity) this.idled = true
    }
    while (this.events.size > 0) this.serveNext()
    const { sojourns, waits } = this
    return {
      waitMs: waits.reduce((total, { sum }) => total + sum, 0) / sojourns.count,
      sojournMs: sojourns.mean,
      waitMsOf: (requestClass) => waits[requestClass]!.mean,
      waitedShare: this.waited / sojourns.count,
      refusedShare: this.refused / (this.refused + sojourns.count),
      sojournsMs: this.sojournsMs,
      presentMs: this.presentMs,
      idled: this.idled
    }
  }

  private advance(nowMs: number): void {
    this.presentMs += (this.core.queued + this.core.inFlight) * (nowMs - this.nowMs)
    this.nowMs = nowMs
  }

  private arrive(number: number, rng: Rng): void {
    const tokens = Math.max(1, Math.round(this.options.serviceMs(rng) * TOKENS_PER_MS))
    const request = this.table.allocate()!
    request.model = 0
    request.class = this.options.class?.(rng) ?? 0
    request.promptTokens = tokens
    request.maxTokens = 1
    request.idHigh = 0
    request.idLow = number
    request.flags = 0
    request.arrivedMs = this.nowMs
    request.deadlineMs = Number.POSITIVE_INFINITY
    this.numbers[request.slot] = number
    this.servicesMs[request.slot] = tokens / TOKENS_PER_MS
    this.core.submit(request.slot, this.nowMs)
    if (this.options.preemptive === true) this.core.tick(this.nowMs)
  }

  readonly accept = (): void => undefined
  readonly reject = (slot: number): void => {
    if (this.counts(slot)) this.refused++
    this.table.at(slot).ended()
  }
  readonly fail = (): void => undefined

  /** What is left of it is as good as a shorter request. */
  readonly cancelAttempt = (slot: number, worker: number): void => {
    const request = this.table.at(slot)
    this.servicesMs[slot]! -= this.nowMs - this.begunMs[worker]!
    request.promptTokens = Math.max(1, Math.round(this.servicesMs[slot]! * TOKENS_PER_MS))
    request.left(worker, Reason.cancelled)
    this.turns[worker]!++
    this.heads[worker] = this.tails[worker] = -1
  }

  readonly assign = (slot: number, worker: number): boolean => {
    this.table.at(slot).assigned(worker)
    this.next[slot] = -1
    const last = this.tails[worker]!
    this.tails[worker] = slot
    if (last >= 0) this.next[last] = slot
    else {
      this.heads[worker] = slot
      this.serve(worker)
    }
    return true
  }

  /** Begins to serve the first in a worker's queue. */
  private serve(worker: number): void {
    const slot = this.heads[worker]!
    const waitMs = this.nowMs - this.table.at(slot).arrivedMs
    if (this.counts(slot)) {
      this.waits[this.table.at(slot).class]!.add(waitMs)
      if (waitMs > 0) this.waited++
    }
    this.begunMs[worker] = this.nowMs
    this.events.add(this.nowMs + this.servicesMs[slot]!, SERVED, worker, ++this.turns[worker]!)
  }

  private serveNext(): void {
    this.events.take()
    this.advance(this.events.timeMs)
    const worker = this.events.a
    if (this.events.b !== this.turns[worker]) return
    const slot = this.heads[worker]!
    const request = this.table.at(slot)
    const sojournMs = this.nowMs - request.arrivedMs
    if (this.counts(slot)) this.sojourns.add(sojournMs)
    this.sojournsMs += sojournMs
    const behind = this.next[slot]!
    this.heads[worker] = behind
    if (behind < 0) this.tails[worker] = -1
    request.nextIndex = 1
    request.ended()
    if (behind >= 0) this.serve(worker)
    this.core.done(slot, this.nowMs)
  }

  private counts(slot: number): boolean {
    return this.numbers[slot]! >= (this.options.warmUp ?? 0)
  }
}

class Sum {
  count = 0
  sum = 0
  add(value: number): void {
    this.count++
    this.sum += value
  }
  get mean(): number {
    return this.sum / this.count
  }
}
