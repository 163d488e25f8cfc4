import { Reason } from "../domain/Outcome.ts"
import { BLOCK_TOKENS } from "../domain/traceChain.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { assert } from "../structures/assert.ts"
import type { Rng } from "../structures/Rng.ts"
import {
  type CacheSink,
  type CacheWatch,
  type Engine,
  type EngineRequest,
  type EngineSink,
  KV_COMES_MS
} from "./Engine.ts"
import { CachedHashes } from "./simulated/CachedHashes.ts"
import { chainKeys } from "./simulated/chainKeys.ts"
import { ContinuousBatch, MAX_NUM_SEQS } from "./simulated/ContinuousBatch.ts"
import { type EnginePreset, transferTokenMs } from "./simulated/CostModel.ts"
import { loadOf } from "./simulated/loadOf.ts"
import type { BatchRequest, Sequence } from "./simulated/Sequence.ts"
import { tokenText } from "./simulated/tokenText.ts"

/** The time an engine runs on. Milliseconds; `nowMs` never decreases. */
export interface EngineClock {
  readonly nowMs: () => number
  readonly after: (delayMs: number, run: () => void) => () => void
  /** Runs it after the sockets had their turn. */
  readonly soon: (run: () => void) => void
}

export interface SimulatedEngineOptions {
  readonly models: ReadonlyArray<string>
  readonly preset: EnginePreset
  /** In place of the preset's. */
  readonly kvCapacityTokens?: number
  /** Tokens of one block of the requests' chains. A chain with more blocks than its prompt has is not looked at. */
  readonly blockTokens?: number
  readonly maxNumSeqs?: number
  readonly maxBatchedTokens?: number
  /** What the hand-over of one KV cache gets of the network. */
  readonly transferGbps?: number
  /** Most requests running and waiting together; by default two batches, of which one waits. */
  readonly capacity?: number
  /** Engine time passes so many times faster than the clock's. */
  readonly timeScale?: number
  /** With it the engine does not sleep through a step but burns this much CPU time, in pieces; see `makeCpuBurner`. */
  readonly burn?: ((cpuMs: number) => void) | undefined
  readonly clock: EngineClock
  /** For `failFastShare`. */
  readonly rng: Rng
  /** What the fault `crash` does: ends the worker. */
  readonly crash?: () => void
}

/** What can be made to go wrong, at any time. */
export interface EngineFaults {
  /** Steps take so many times longer. */
  slowFactor: number
  /** This share of the requests fails as soon as it is submitted. */
  failFastShare: number
  /** For the worker: no sign of life while this is set. */
  loseHeartbeats: boolean
  /** Nothing happens for so long, by the clock. */
  readonly stall: (forMs: number) => void
  readonly crash: () => void
}

/** Longest piece of work between two turns of the sockets. */
const SLICE_MS = 1
/** An engine further behind its schedule was frozen, or has no CPU: it goes on from here and does not catch up. */
const LAG_MAX_MS = 1000

class Attempt implements BatchRequest {
  readonly promptTokens: number
  readonly outputTokens: number
  readonly handedOver: boolean
  readonly chain: Float64Array
  readonly reason: "stop" | "length"
  readonly seed: number
  readonly sink: EngineSink

  constructor(request: EngineRequest, sink: EngineSink, blockTokens: number) {
    const { outputTokens: wanted, part } = request
    const outputTokens = Math.max(1, Math.min(wanted ?? request.maxTokens, request.maxTokens))
    this.promptTokens = Math.max(1, request.promptTokens)
    this.outputTokens = part === "prefill" ? 0 : outputTokens
    this.handedOver = part === "decode"
    this.reason = wanted !== undefined && wanted <= request.maxTokens ? "stop" : "length"
    const chain = chainKeys(request.chain, request.model)
    this.chain = chain.length > Math.ceil(this.promptTokens / blockTokens) ? new Float64Array(0) : chain
    this.seed = request.idHigh ^ request.idLow
    this.sink = sink
  }
}

/**
 * The continuous-batching simulation as an engine that runs in real time.
 *
 * Step ends are computed, not measured, so that lateness of timers does not add up: an engine that wakes late runs every step that is
 * due, in order, and sinks get several tokens in one go. An answer has `min(outputTokens, maxTokens)` tokens, or `maxTokens` where the
 * request does not say. Refuses with `contextLength`, during `submit`, what can never fit into the KV cache.
 */
export class SimulatedEngine implements Engine {
  readonly models: ReadonlyArray<string>
  readonly capacity: number
  readonly maxSequences: number
  readonly kvCapacityTokens: number
  readonly timeScale: number
  readonly faults: EngineFaults
  private readonly options: SimulatedEngineOptions
  private readonly blockTokens: number
  private readonly batch: ContinuousBatch<Attempt>
  private readonly cached = new CachedHashes()
  private readonly originMs: number
  /** Engine time at which the step under way ends; while idle, at which a KV cache arrives. */
  private stepEndMs = Number.POSITIVE_INFINITY
  private idle = true
  private closed = false
  private stalledUntilMs = 0
  /** CPU time the step under way has still to burn. */
  private unburnedMs = 0
  private cancelWake: () => void = () => undefined
  /** Whether that is the timer of the step under way. */
  private armed = false
  private readonly totals = {
    done: 0,
    failed: 0,
    cancelled: 0,
    promptTokens: 0,
    cachedTokens: 0,
    outputTokens: 0
  }

  constructor(options: SimulatedEngineOptions) {
    this.options = options
    this.models = options.models
    this.maxSequences = options.maxNumSeqs ?? MAX_NUM_SEQS
    this.capacity = options.capacity ?? 2 * this.maxSequences
    this.timeScale = options.timeScale ?? 1
    this.blockTokens = options.blockTokens ?? BLOCK_TOKENS
    this.kvCapacityTokens = options.kvCapacityTokens ?? options.preset.kvCapacityTokens
    assert(this.timeScale > 0, "engine time passes")
    this.originMs = options.clock.nowMs()
    this.batch = new ContinuousBatch<Attempt>(
      {
        cost: options.preset.cost,
        kvCapacityTokens: this.kvCapacityTokens,
        blockTokens: this.blockTokens,
        maxNumSeqs: this.maxSequences,
        maxBatchedTokens: options.maxBatchedTokens,
        transferTokenMs: transferTokenMs(options.preset, options.transferGbps),
        transferWithinMs: KV_COMES_MS,
        cacheSink: this.cached
      },
      { token: this.token, finished: this.finished }
    )
    this.faults = {
      slowFactor: 1,
      failFastShare: 0,
      loseHeartbeats: false,
      stall: this.stall,
      crash: options.crash ?? (() => undefined)
    }
  }

  submit(request: EngineRequest, sink: EngineSink): () => void {
    const { failFastShare } = this.faults
    if (failFastShare > 0 && this.options.rng.next() < failFastShare) {
      return this.refuse(sink, Reason.workerFailed, "injected failure")
    }
    this.catchUp()
    // A step that is due and not yet run is going to see this request: it may not see it before it came.
    const nowMs = Math.min(this.engineNowMs(), this.stepEndMs)
    const sequence = this.batch.submit(new Attempt(request, sink, this.blockTokens), nowMs)
    if (sequence === undefined) {
      const limit = `the KV cache holds ${this.kvCapacityTokens} tokens, prompt and answer need more`
      return this.refuse(sink, Reason.contextLength, limit)
    }
    this.wake()
    return () => {
      if (sequence.phase === "ended") return
      if (sequence.phase !== "kept") this.totals.cancelled++
      this.batch.cancel(sequence)
      // There may be room for who waits.
      this.wake()
    }
  }

  load(): WorkerLoad {
    return loadOf(this.batch, this.kvCapacityTokens, this.totals)
  }

  watchCache(sink: CacheSink): CacheWatch {
    const { cached, batch } = this
    cached.sink = sink
    return {
      tellAll: () => {
        if (cached.sink === sink) batch.cache.forEachRun(cached.tellRun)
      },
      stop: () => {
        if (cached.sink === sink) cached.sink = undefined
      }
    }
  }

  /** Nothing is produced any more. */
  close(): void {
    this.closed = true
    this.cancelWake()
  }

  private refuse(sink: EngineSink, reason: Reason, message: string): () => void {
    this.totals.failed++
    sink.failed(reason, message)
    return () => undefined
  }

  private engineNowMs(): number {
    return (this.options.clock.nowMs() - this.originMs) * this.timeScale
  }

  private readonly wake = (): void => {
    if (!this.idle) return
    this.idle = false
    this.cancelWake()
    this.unburnedMs = 0
    this.stepEndMs = Math.max(Math.min(this.engineNowMs(), this.stepEndMs), this.stalledUntilMs)
    this.run()
  }

  /** Runs what is due where only a late timer is in the way: it began before what is about to come. */
  private catchUp(): void {
    if (!this.armed || this.stepEndMs > this.engineNowMs()) return
    this.cancelWake()
    this.run()
  }

  /** Runs every step that is due, then sees to it that it is called again in time. */
  private readonly run = (): void => {
    this.armed = false
    if (this.closed) return
    const { clock, burn } = this.options
    if (burn !== undefined && this.unburnedMs > 0) {
      const pieceMs = Math.min(this.unburnedMs, SLICE_MS)
      burn(pieceMs)
      this.unburnedMs -= pieceMs
      if (this.unburnedMs > 0) return clock.soon(this.run)
      this.stepEndMs = Math.max(this.engineNowMs(), this.stalledUntilMs)
    }
    let nowMs = this.engineNowMs()
    const sliceEndMs = nowMs + SLICE_MS * this.timeScale
    if (nowMs - this.stepEndMs > LAG_MAX_MS * this.timeScale) this.stepEndMs = nowMs
    while (this.stepEndMs <= nowMs) {
      if (nowMs > sliceEndMs) return clock.soon(this.run)
      const durationMs = this.batch.step(this.stepEndMs, this.faults.slowFactor)
      if (durationMs === 0) return this.rest()
      this.stepEndMs += durationMs
      if (burn !== undefined) {
        this.unburnedMs = durationMs / this.timeScale
        return clock.soon(this.run)
      }
      nowMs = this.engineNowMs()
    }
    this.armed = true
    this.cancelWake = clock.after((this.stepEndMs - nowMs) / this.timeScale, this.run)
  }

  /** Does nothing until something comes. */
  private rest(): void {
    const { clock } = this.options
    this.idle = true
    this.stepEndMs = this.batch.nextArrivalMs
    if (this.stepEndMs === Number.POSITIVE_INFINITY) return
    this.cancelWake = clock.after(
      Math.max(0, this.stepEndMs - this.engineNowMs()) / this.timeScale,
      this.wake
    )
  }

  private readonly stall = (forMs: number): void => {
    const nowMs = this.engineNowMs()
    const remainingMs = Math.max(0, this.stepEndMs - nowMs)
    this.stalledUntilMs = nowMs + forMs * this.timeScale
    if (!this.idle) this.stepEndMs = this.stalledUntilMs + remainingMs
  }

  private readonly token = (sequence: Sequence<Attempt>, index: number): void => {
    const { request } = sequence
    this.totals.outputTokens++
    if (index === 0 && !request.handedOver) this.countPrompt(sequence)
    request.sink.token(tokenText(request.seed, index))
  }

  private readonly finished = (sequence: Sequence<Attempt>, nowMs: number): void => {
    const { request, submittedMs, admittedMs, firstTokenMs, cachedTokens, produced } = sequence
    this.totals.done++
    if (request.outputTokens === 0) this.countPrompt(sequence)
    request.sink.finished({
      reason: request.reason,
      outputTokens: produced,
      cachedTokens,
      queueMs: admittedMs - submittedMs,
      prefillMs: firstTokenMs - admittedMs,
      totalMs: nowMs - submittedMs
    })
  }

  /** Where the prompt was read. */
  private countPrompt({ request, cachedTokens }: Sequence<Attempt>): void {
    this.totals.promptTokens += request.promptTokens
    this.totals.cachedTokens += cachedTokens
  }
}
