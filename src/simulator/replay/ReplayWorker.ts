import { Role } from "../../domain/PoolView.ts"
import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import { KV_COMES_MS } from "../../engines/Engine.ts"
import { type BatchSink, ContinuousBatch } from "../../engines/simulated/ContinuousBatch.ts"
import { type EnginePreset, transferTokenMs } from "../../engines/simulated/CostModel.ts"
import type { KvCacheSink } from "../../engines/simulated/KvCache.ts"
import type { BatchRequest, Sequence } from "../../engines/simulated/Sequence.ts"

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
  readonly kvCapacityTokens?: number
  readonly maxNumSeqs?: number
  readonly maxBatchedTokens?: number
  readonly transferGbps?: number
}

/** One attempt inside a worker. */
export class Job implements BatchRequest {
  /** Slot and number of the attempt. Slots are used again and again: the request's number in the workload tells whose it is. */
  readonly attempt: number
  readonly request: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly handedOver: boolean
  readonly chain: Float64Array

  /** `part`, a `Role`, says what of the request it does. */
  constructor(
    attempt: number,
    request: number,
    part: number,
    facts: { readonly promptTokens: number; readonly outputTokens: number; readonly keys: Float64Array }
  ) {
    this.attempt = attempt
    this.request = request
    this.promptTokens = facts.promptTokens
    this.outputTokens = part === Role.prefill ? 0 : facts.outputTokens
    this.handedOver = part === Role.decode
    this.chain = facts.keys
  }
}

const CAPACITY = 256
/** Requests that may join a batch in one step, nearly always. */
const RECALLED_MAX = 8

/** A worker in virtual time: the pure engine core, and the clock of its steps. */
export class ReplayWorker {
  readonly options: ReplayWorkerOptions
  readonly batch: ContinuousBatch<Job>
  readonly capacity: number
  readonly kvCapacityTokens: number
  /** Whether a step is under way, whose end is an event. */
  stepping = false
  /** Attempts that were neither called off nor known to be done, by their one integer. */
  readonly jobs = new Map<number, Sequence<Job>>()
  /** Those that keep the KV cache of a prompt, or did, in the order in which their time is up. */
  readonly kept: Array<Sequence<Job>> = []
  /** When it was last said that a KV cache would arrive. */
  wakesMs = -1
  done = 0
  promptTokens = 0
  cachedTokens = 0
  outputTokens = 0

  constructor(
    options: ReplayWorkerOptions,
    blockTokens: number,
    sink: BatchSink<Job>,
    cacheSink: KvCacheSink | undefined
  ) {
    this.options = options
    this.capacity = options.capacity ?? CAPACITY
    this.kvCapacityTokens = options.kvCapacityTokens ?? options.preset.kvCapacityTokens
    this.batch = new ContinuousBatch<Job>(
      {
        cost: options.preset.cost,
        kvCapacityTokens: this.kvCapacityTokens,
        blockTokens,
        cacheSink,
        transferTokenMs: transferTokenMs(options.preset, options.transferGbps),
        transferWithinMs: KV_COMES_MS,
        ...(options.maxNumSeqs === undefined ? {} : { maxNumSeqs: options.maxNumSeqs }),
        ...(options.maxBatchedTokens === undefined ? {} : { maxBatchedTokens: options.maxBatchedTokens })
      },
      sink
    )
  }

  /** Ends the step under way and begins the next: when that ends, or -1 where there is nothing to do. */
  step(nowMs: number): number {
    const durationMs = this.batch.step(nowMs, this.options.slowFactor ?? 1)
    this.stepping = durationMs > 0
    return this.stepping ? nowMs + durationMs : -1
  }

  /** Counts a prompt that was read here. */
  read({ request, cachedTokens }: Sequence<Job>): void {
    this.promptTokens += request.promptTokens
    this.cachedTokens += cachedTokens
  }

  /** Fills the cache with what the next requests to run need of a store of blocks, given by their keys, as far as there is room. */
  recall(store: ReadonlySet<number>): void {
    const { cache } = this.batch
    let next = 0
    for (const { phase, request } of this.jobs.values()) {
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
    const { batch } = this
    return {
      running: batch.running,
      waiting: batch.waiting,
      kvUsedTokens: batch.cache.usedPages * batch.cache.pageTokens,
      kvCapacityTokens: this.kvCapacityTokens,
      requestsDone: this.done,
      requestsFailed: 0,
      requestsCancelled: 0,
      promptTokens: this.promptTokens,
      cachedPromptTokens: this.cachedTokens,
      outputTokens: this.outputTokens,
      steps: batch.steps,
      busyMs: batch.busyMs,
      stepPrefillTokens: batch.stepPrefillTokens,
      stepAttention: batch.stepAttention,
      stepDecodes: batch.stepDecodes,
      stepContextTokens: batch.stepContextTokens,
      pendingPrefillTokens: batch.pendingPrefillTokens
    }
  }
}
