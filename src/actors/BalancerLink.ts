import { Reason } from "../domain/Outcome.ts"
import type { Engine, EngineFinish, EngineRequest } from "../engines/Engine.ts"
import { encodeFrame, pack, parts, unpackPayload } from "../protocol/Codec.ts"
import type { Connection, ConnectionContext, ConnectionHandler } from "../protocol/Connection.ts"
import { At, Flag, HEADER_OFFSET, readU16, readU32, Type } from "../protocol/Header.ts"
import {
  FAILURE_LENGTH_MAX,
  faultOf,
  type Finished,
  Prompt,
  read,
  type Register
} from "../protocol/Message.ts"
import type { Task } from "../protocol/Turn.ts"
import { CacheFrames } from "./CacheFrames.ts"
import { type Attempt, HELD_MS_MAX, HELD_TOKENS_MAX, type WorkerState } from "./WorkerState.ts"
import { writeToken } from "./writeToken.ts"

export interface BalancerLinkOptions {
  readonly context: ConnectionContext
  readonly state: WorkerState
  readonly engine: Engine
  /** The worker's name, told with every answer. */
  readonly name: string
  readonly role: Register["role"]
  readonly speed: number
  readonly heartbeatMs: number
  /** While it says true no heartbeat is sent. */
  readonly muted: () => boolean
  /** The balancer wants this worker to finish and leave. */
  readonly drain: () => void
  /** The last attempt has ended. */
  readonly idle: () => void
  readonly closed: (why: string) => void
}

/**
 * A worker's end of its link: registers, hands assignments to the engine, and writes what comes out of it.
 *
 * Tokens leave at the end of the turn in which the engine told them, one frame for all that one attempt has; within its credit. Every
 * attempt that is not cancelled ends in exactly one DONE or ERROR; where only the prompt is to be read, in PREFILLED, and is then kept for
 * as long as `KV_KEPT_MS`. When the link closes all of them are stopped.
 */
export class BalancerLink implements ConnectionHandler, Task {
  private readonly connection: Connection
  private readonly options: BalancerLinkOptions
  /** Attempts with tokens or their end to write at the end of this turn. */
  private readonly outgoing: Array<Attempt> = []
  private readonly cache: CacheFrames
  private readonly stopBeating: () => void

  constructor(connection: Connection, options: BalancerLinkOptions) {
    const { engine, role, speed, context } = options
    this.connection = connection
    this.options = options
    const { models, capacity, kvCapacityTokens, maxSequences } = engine
    const register: Register = { models, role, capacity, speed, kvCapacityTokens, maxSequences }
    this.cache = new CacheFrames(connection, context.turn, engine)
    // The control lane, in which the heartbeats follow: none may come before it.
    connection.outbox.control(encodeFrame(Type.register, {}, { payload: pack(register) }))
    this.beat()
    this.stopBeating = context.timers.every(options.heartbeatMs, this.beat)
  }

  /** Tells the balancer to send nothing more. */
  refuseWork(): void {
    this.connection.outbox.plain(Type.drain, 0, 0)
  }

  leave(code: "drain" | "done", message: string): void {
    this.connection.goodbye(code, message)
  }

  readonly frame = (type: number, bytes: Buffer, start: number, end: number): void => {
    const header = start + HEADER_OFFSET
    const stream = readU32(bytes, header + At.stream)
    const number = readU16(bytes, header + At.attempt)
    const { state } = this.options
    if (type === Type.assign) this.assign(stream, number, bytes, start, end)
    else if (type === Type.cancel) {
      const attempt = state.cancel(stream, number, this.connection.heardMs)
      if (attempt !== undefined) this.stopped(attempt)
    } else if (type === Type.credit) {
      const upTo = readU32(bytes, header + At.creditUpTo)
      const attempt = state.credit(stream, number, upTo, readU32(bytes, header + At.creditUpToBytes))
      if (attempt !== undefined) this.list(attempt)
    } else if (type === Type.drain) this.options.drain()
    else if (type === Type.kvSync) this.cache.sync()
  }

  readonly closed = (why: string): void => {
    this.stopBeating()
    this.cache.stop()
    for (const attempt of this.options.state.clear()) attempt.stopEngine()
    this.options.closed(why)
  }

  /** The end of a turn. */
  readonly run = (): void => {
    const { outgoing } = this
    for (const attempt of outgoing) {
      attempt.listed = false
      if (attempt.ended || !this.writeReady(attempt)) continue
      if (attempt.finish !== undefined && attempt.held.length === 0) this.done(attempt, attempt.finish)
    }
    outgoing.length = 0
  }

  private assign(stream: number, number: number, bytes: Buffer, start: number, end: number): void {
    const { state, engine, context } = this.options
    const header = start + HEADER_OFFSET
    const epoch = readU32(bytes, header + At.epoch)
    const attempt = state.assign(stream, number, epoch, this.connection.heardMs)
    if (typeof attempt === "number") return this.refuse({ stream, attempt: number, epoch }, attempt)
    const payload = unpackPayload(bytes, start, end, context.limits)
    const prompt = read(Prompt, payload)
    if (prompt === undefined) return this.fail(attempt, Reason.badRequest, faultOf(Prompt, payload))
    const part = partOf(bytes[header + At.flags]!)
    const { role } = this.options
    if (role !== "both" && role !== part)
      return this.fail(attempt, Reason.workerRefused, `this worker is for ${role} only`)
    const promptTokens = readU32(bytes, header + At.promptTokens)
    if (part === "decode" && readU32(bytes, header + At.kvTokens) !== promptTokens)
      return this.fail(attempt, Reason.workerRefused, "the KV cache is not that of the prompt")
    const model = readU16(bytes, header + At.model)
    if (model >= engine.models.length) return this.fail(attempt, Reason.badRequest, "model: unknown here")
    attempt.stopEngine = engine.submit(
      {
        model,
        prompt: prompt.prompt,
        promptTokens,
        maxTokens: readU32(bytes, header + At.maxTokens),
        outputTokens: prompt.outputTokens,
        chain: bytes.subarray(parts.chainStart, parts.chainEnd),
        idHigh: readU32(bytes, header + At.idHigh),
        idLow: readU32(bytes, header + At.idLow),
        part
      },
      {
        token: (text) => this.token(attempt, text),
        finished: (finish) => {
          if (attempt.ended) return
          if (part === "prefill") return this.prefilled(attempt, promptTokens, finish.cachedTokens)
          attempt.finish = finish
          this.list(attempt)
        },
        failed: (reason, message) => this.fail(attempt, reason, message)
      }
    )
    // The end may have come before there was a way to stop the engine.
    if (attempt.ended) attempt.stopEngine()
  }

  private refuse(work: Work, reason: Reason): void {
    if (reason === Reason.cancelled) return
    if (reason === Reason.duplicateRequest) {
      return this.connection.refuse("bad_message", "bad_message", "ASSIGN gives out a stream that is in use")
    }
    this.error(work, reason, refusals.get(reason)!, 0)
  }

  private token(attempt: Attempt, text: string): void {
    if (attempt.ended) return
    const kept = this.options.state.token(attempt, text)
    if (!kept) this.fail(attempt, Reason.slowConsumer, `${HELD_TOKENS_MAX} tokens wait for the client`)
    else if (attempt.readyCount > 0) this.list(attempt)
  }

  private list(attempt: Attempt): void {
    if (attempt.listed) return
    attempt.listed = true
    if (this.outgoing.length === 0) this.options.context.turn.soon(this)
    this.outgoing.push(attempt)
  }

  private writeReady(attempt: Attempt): boolean {
    while (attempt.readyCount > 0) {
      const frameBytes = writeToken(this.connection.outbox, attempt)
      if (frameBytes === 0) return false
      this.options.state.sent(attempt, frameBytes)
    }
    return true
  }

  private done(attempt: Attempt, finish: EngineFinish): void {
    const { outputTokens, cachedTokens, reason, queueMs, prefillMs, totalMs } = finish
    const finished: Finished = { reason, worker: this.options.name, queueMs, prefillMs, totalMs }
    const fields = { ...echoOf(attempt), a: outputTokens, b: cachedTokens }
    this.connection.send(encodeFrame(Type.done, fields, { payload: pack(finished) }))
    this.end(attempt)
  }

  /** Says that the prompt is read. The engine keeps its KV cache until it is stopped. */
  private prefilled(attempt: Attempt, kvTokens: number, prefixTokens: number): void {
    this.options.state.keep(attempt, this.engineNowMs())
    const fields = { ...echoOf(attempt), a: kvTokens, b: prefixTokens }
    this.connection.send(encodeFrame(Type.prefilled, fields))
  }

  /** Ends an attempt in an ERROR, after what it has ready. */
  private fail(attempt: Attempt, reason: Reason, message: string): void {
    if (attempt.ended) return
    this.writeReady(attempt)
    this.error(attempt, reason, message, attempt.sent)
    this.end(attempt)
  }

  private error(work: Work, reason: Reason, message: string, delivered: number): void {
    const fields = { ...echoOf(work), a: reason, c: delivered }
    const payload = pack({ message: message.slice(0, FAILURE_LENGTH_MAX) })
    this.connection.send(encodeFrame(Type.error, fields, { payload }))
  }

  private end(attempt: Attempt): void {
    // The frame that said so may have been one too many: then the link is closed, and everything ended with it.
    if (attempt.ended) return
    this.options.state.end(attempt)
    this.stopped(attempt)
  }

  private stopped(attempt: Attempt): void {
    attempt.stopEngine()
    if (this.options.state.size === 0) this.options.idle()
  }

  private engineNowMs(): number {
    const { context, engine } = this.options
    return context.timers.nowMs() * (engine.timeScale ?? 1)
  }

  private readonly beat = (): void => {
    const { state, engine, context, muted } = this.options
    for (const attempt of state.overdue(context.timers.nowMs())) {
      this.fail(attempt, Reason.slowConsumer, `the client left tokens unread for ${HELD_MS_MAX} ms`)
    }
    for (const attempt of state.forgotten(this.engineNowMs())) this.end(attempt)
    this.cache.beat()
    if (!muted())
      this.connection.outbox.control(encodeFrame(Type.heartbeat, {}, { payload: pack(engine.load()) }))
  }
}

/** The numbers of an attempt, which every frame about it repeats. */
type Work = Pick<Attempt, "stream" | "attempt" | "epoch">
const echoOf = ({ stream, attempt, epoch }: Work): Work => ({ stream, attempt, epoch })

const partOf = (flags: number): EngineRequest["part"] => {
  if ((flags & Flag.prefillOnly) !== 0) return "prefill"
  return (flags & Flag.handedOver) === 0 ? undefined : "decode"
}

const refusals = new Map<Reason, string>([
  [Reason.staleEpoch, "this worker has served a newer balancer"],
  [Reason.draining, "this worker is draining"],
  [Reason.workerRefused, "this worker is full"]
])
