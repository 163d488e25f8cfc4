import { Role } from "../../domain/PoolView.ts"
import { idleLoad, type WorkerLoad } from "../../domain/WorkerLoad.ts"
import { KV_COMES_MS } from "../../engines/Engine.ts"
import { type BatchSink, ContinuousBatch, MAX_NUM_SEQS } from "../../engines/simulated/ContinuousBatch.ts"
import { type EnginePreset, type StepCost, transferTokenMs } from "../../engines/simulated/CostModel.ts"
import type { KvCacheSink } from "../../engines/simulated/KvCache.ts"
import { loadOf } from "../../engines/simulated/loadOf.ts"
import type { BatchRequest, Sequence } from "../../engines/simulated/Sequence.ts"
import type { PlannedRequest } from "./Workload.ts"

/** What a replayed worker is. */
export interface ReplayWorkerOptions {
  readonly name: string
  /** `both` unless told. */
  readonly role?: keyof typeof Role
  readonly preset: EnginePreset
  /** How many times slower than the preset it is, and what it says of itself when it registers. */
  readonly slowFactor?: number
  readonly speed?: number
  readonly capacity?: number
  readonly kvCapacityTokens?: number | undefined
  readonly maxNumSeqs?: number
  readonly maxBatchedTokens?: number
  /** What the KV cache of one split request gets of the network on its way here. */
  readonly transferGbps?: number | undefined
}

/** One attempt inside a worker. */
export class Attempt implements BatchRequest {
  /** Slot and number of the attempt. Slots are used again and again: the request's number in the workload tells whose it is. */
  readonly attempt: number
  readonly request: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly handedOver: boolean
  readonly chain: Float64Array

  /** `part`, a `Role`, says what of the request it does. */
  constructor(attempt: number, request: number, part: number, planned: PlannedRequest) {
    this.attempt = attempt
    this.request = request
    this.promptTokens = planned.promptTokens
    this.outputTokens = part === Role.prefill ? 0 : planned.outputTokens
    this.handedOver = part === Role.decode
    this.chain = planned.keys
  }
}

/** Blocks that entered or left a cache. */
export interface CacheNews {
  readonly heardMs: number
  readonly stored: boolean
  readonly keys: Float64Array
  readonly from: number
  readonly to: number
}

/** A time during which one process was slow by one factor, between these two words of its load. */
export interface Spell {
  readonly cost: StepCost
  readonly slowFactor: number
  readonly from: WorkerLoad
  readonly to: WorkerLoad
}

const CAPACITY = 256
/** By more than what sums of rounded times are off. */
const SHORTER = 1 - 1e-9
/** Requests that may join a batch in one step, nearly always. */
const RECALLED_MAX = 8

/** A process of a worker in virtual time: the pure engine core, and the clock of its steps. One that was started again is another. */
export class ReplayWorker {
  readonly options: ReplayWorkerOptions
  readonly capacity: number
  readonly maxSequences: number
  readonly kvCapacityTokens: number
  /** When it was ordered, and when it was up. */
  orderedMs = 0
  upMs = Number.POSITIVE_INFINITY
  /** Whether it was told to finish and leave. */
  draining = false
  /** Attempts that were neither called off nor known to be done, by their one integer. */
  readonly attempts = new Map<number, Sequence<Attempt>>()
  /** Those that keep the KV cache of a prompt, or did, in the order in which their time is up. */
  readonly kept: Array<{ readonly sequence: Sequence<Attempt>; readonly sinceMs: number }> = []
  /** What it and its cache said and the balancer has not heard, oldest first. */
  readonly beats: Array<WorkerLoad> = []
  readonly unheard: Array<CacheNews> = []
  /** When it was last said that a KV cache would arrive. */
  wakesMs = -1
  /** Totals: requests done here, and the tokens of the prompts read here. */
  done = 0
  promptTokens = 0
  cachedTokens = 0
  private readonly spells: Array<Spell> = []
  /** Its place among the workers of the replay, and its number among all processes there were. */
  readonly slot: number
  readonly serial: number
  /** One that is `coming` was ordered and has not dialled; `none` is one that is no more, or that nobody has ordered yet. */
  life: "none" | "coming" | "up" = "none"
  /** Whether a step is under way. */
  stepping = false
  readonly batch: ContinuousBatch<Attempt>
  private slowFactor: number
  /** When the step under way began, and when it ends. */
  beganMs = 0
  endsMs = 0
  /** No quiet step to come is shorter. */
  private shortestMs = 0
  /** When the event is by which it is looked at again, and the number of that; those with another number were made for nothing. */
  dueMs = -1
  due = 0
  /** Steps of which the balancer has heard that they have ended. */
  heardSteps = 0

  /** `slowness` is what comes on top of its own slow factor. */
  constructor(
    options: ReplayWorkerOptions,
    { serial, slot, slowness }: { readonly serial: number; readonly slot: number; readonly slowness: number },
    blockTokens: number,
    sink: BatchSink<Attempt>,
    cacheSink: KvCacheSink | undefined
  ) {
    this.options = options
    this.slot = slot
    this.serial = serial
    this.slowFactor = slowness * (options.slowFactor ?? 1)
    this.capacity = options.capacity ?? CAPACITY
    this.maxSequences = options.maxNumSeqs ?? MAX_NUM_SEQS
    this.kvCapacityTokens = options.kvCapacityTokens ?? options.preset.kvCapacityTokens
    this.batch = new ContinuousBatch<Attempt>(
      {
        cost: options.preset.cost,
        kvCapacityTokens: this.kvCapacityTokens,
        blockTokens,
        cacheSink,
        everyToken: false,
        transferTokenMs: transferTokenMs(options.preset, options.transferGbps),
        transferWithinMs: KV_COMES_MS,
        maxNumSeqs: this.maxSequences,
        maxBatchedTokens: options.maxBatchedTokens
      },
      sink
    )
  }

  rise(nowMs: number): void {
    this.life = "up"
    this.upMs = nowMs
  }

  /** Whether it has nothing to finish. */
  get isIdle(): boolean {
    const { kept, running, waiting } = this.batch
    return running + waiting + kept === 0
  }

  /** From the next step on it is slow by another factor, its own apart. */
  slow(slowness: number): void {
    this.spells.push(this.spell())
    this.slowFactor = slowness * (this.options.slowFactor ?? 1)
    this.shortestMs = 0
  }

  /** All its time so far. */
  allSpells(): ReadonlyArray<Spell> {
    return [...this.spells, this.spell()]
  }

  private spell(): Spell {
    return {
      cost: this.options.preset.cost,
      slowFactor: this.slowFactor,
      from: this.spells.at(-1)?.to ?? idleLoad,
      to: this.load()
    }
  }

  /** Ends the step under way and begins the next, where there is something to do. */
  step(nowMs: number): void {
    const durationMs = this.batch.step(nowMs, this.slowFactor)
    this.stepping = durationMs > 0
    this.beganMs = nowMs
    this.endsMs = nowMs + durationMs
    this.shortestMs = durationMs
  }

  /** When to look at it again: as the step under way ends, or, where quiet ones come first, at some time before the next one that is not. */
  get nextDueMs(): number {
    const { endsMs, shortestMs } = this
    const { quietSteps } = this.batch
    return quietSteps < 2 ? endsMs : endsMs + quietSteps * shortestMs * SHORTER
  }

  /** The balancer hears that so many steps have ended; it may have heard of more. */
  stepped(steps: number): void {
    if (steps > this.heardSteps) this.heardSteps = steps
  }

  /** Counts a prompt that was read here. */
  read({ request, cachedTokens }: Sequence<Attempt>): void {
    this.promptTokens += request.promptTokens
    this.cachedTokens += cachedTokens
  }

  /** Fills the cache with what the next requests to run need of a store of blocks, given by their keys, as far as there is room. */
  recall(store: ReadonlySet<number>): void {
    const { cache } = this.batch
    let next = 0
    for (const { phase, request } of this.attempts.values()) {
      if (phase !== "waiting") continue
      if (++next > RECALLED_MAX) return
      const { chain } = request
      let known = 0
      while (known < chain.length && store.has(chain[known]!)) known++
      const held = cache.pin(chain, known)
      const hasRoom = cache.take(((known - held.end) * cache.blockTokens) / cache.pageTokens)
      cache.unpin(hasRoom ? cache.extend(held, chain, known) : held)
      if (!hasRoom) return
    }
  }

  load(): WorkerLoad {
    const { batch, cachedTokens, done, kvCapacityTokens, promptTokens } = this
    const outputTokens = batch.producedTokens
    const totals = { done, failed: 0, cancelled: 0, promptTokens, cachedTokens, outputTokens }
    return loadOf(batch, kvCapacityTokens, totals)
  }
}

/** What several processes of a worker did, one after the other, and how the last one stands. */
export const totalLoad = (loads: ReadonlyArray<WorkerLoad>): WorkerLoad => {
  const [first = idleLoad, ...others] = loads
  return others.reduce((total, load) => ({ ...load, ...sumsOf(total, load) }), first)
}

const sumsOf = (a: WorkerLoad, b: WorkerLoad): Partial<WorkerLoad> =>
  Object.fromEntries(totals.map((name) => [name, a[name] + b[name]]))

/** What of a load is counted from the start of a process on. */
const totals = [
  "requestsDone",
  "promptTokens",
  "cachedPromptTokens",
  "outputTokens",
  "steps",
  "busyMs",
  "stepPrefillTokens",
  "stepAttention",
  "stepDecodes",
  "stepContextTokens"
] as const satisfies ReadonlyArray<keyof WorkerLoad>
