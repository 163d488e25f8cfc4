import { isRetryable, Reason } from "../domain/Outcome.ts"
import { locate, parts, unpackPayload } from "../protocol/Codec.ts"
import type { Connection, ConnectionContext, ConnectionHandler } from "../protocol/Connection.ts"
import {
  At,
  Flag,
  HEADER_OFFSET,
  LENGTH_BYTES,
  readU16,
  readU32,
  Type,
  writeU32
} from "../protocol/Header.ts"
import { Failure, Finished, readPayload, unpackReader, type Welcome } from "../protocol/Message.ts"
import type { Task } from "../protocol/Turn.ts"
import type { OpenRequest } from "./OpenRequest.ts"
import { type Heard, Redial, type RedialOptions } from "./Redial.ts"
import { ConnectionNames, requestFrame } from "./requestFrame.ts"

/** Lost connections one request survives, while it has no token. */
const LOSSES_MAX = 2
/** How long the balancer has to confirm a cancel or an expiry before the client ends the request by itself. */
const CONFIRM_MS = 2_000

export interface LinkOptions extends Pick<RedialOptions, "greeting" | "reconnect" | "randomU32"> {
  /** The balancer broke a rule. */
  readonly violation: (hint: string) => void
}

/**
 * One connection to the balancer and the requests on it, at most one connection at a time.
 *
 * A lost connection is made again as soon as a request needs it. Requests that wait for it are held here in order; those that were sent
 * and have no token yet wait again, under the same id. Nothing is sent inside `submit`: requests leave at the end of the turn.
 */
export class Link implements ConnectionHandler, Task {
  /** Models served, as of the last greeting. */
  models: ReadonlyArray<string> = []
  private readonly options: LinkOptions
  private readonly context: ConnectionContext
  private readonly waiting = new Set<OpenRequest>()
  private readonly streams = new Map<number, OpenRequest>()
  private connection: Connection | undefined
  private readonly redial: Redial
  private names = new ConnectionNames()
  private frameBytes = 0
  private lastStream = 0
  private asked = false

  constructor(options: LinkOptions) {
    this.options = options
    this.context = options.greeting.context
    this.redial = new Redial({
      ...options,
      opened: (connection, welcome) => this.opened(connection, welcome),
      rested: () => this.ask(),
      gaveUp: (why) => {
        // Who hears of an ending may submit at once, so only those who wait by now: here, in `close` and in `run`.
        for (const request of [...this.waiting]) this.drop(request, Reason.connectionLost, why)
      }
    })
  }

  get isOpen(): boolean {
    return this.connection !== undefined
  }

  /** Requests held: those that wait, and those the balancer may still speak of. */
  get size(): number {
    return this.waiting.size + this.streams.size
  }

  /** Connects now, unless it is connected; `connected` hears undefined, or why it failed. */
  open(connected: Heard): void {
    if (this.isOpen) connected(undefined)
    else this.redial.dialNow(connected)
  }

  /** Makes a lost connection again, though no request waits for it. */
  reopen(): void {
    if (!this.isOpen) this.redial.dial()
  }

  /** Takes a request on. It is sent when there is a connection that takes it. */
  submit(request: OpenRequest): void {
    request.stream = 0
    this.waiting.add(request)
    this.ask()
  }

  /** The caller gave up: the balancer confirms, or there is nobody to ask. */
  cancel(request: OpenRequest): void {
    if (request.ended || request.cancelledMs !== Infinity) return
    request.cancelledMs = this.nowMs()
    if (request.stream === 0) this.drop(request, Reason.cancelled, "cancelled before it was sent")
    else this.connection?.outbox.plain(Type.cancel, request.stream, 0)
  }

  /** The caller used `count` tokens it was given. */
  read(request: OpenRequest, count: number): void {
    const { tokens } = request
    if (!tokens.read(count) || request.ended || request.stream === 0 || this.connection === undefined) return
    const { outbox } = this.connection
    const at = outbox.plain(Type.credit, request.stream, 0)
    if (at < 0) return
    writeU32(outbox.bytes, at + HEADER_OFFSET + At.creditUpTo, tokens.creditUpTo)
    writeU32(outbox.bytes, at + HEADER_OFFSET + At.creditUpToBytes, tokens.creditUpToBytes)
  }

  /** Ends what is past its time, and sends what has come due. To be called a few times a second. */
  sweep(nowMs: number): void {
    for (const request of this.waiting) {
      if (nowMs >= request.deadlineMs)
        this.drop(request, Reason.expired, "the deadline passed before it was sent")
    }
    for (const request of this.streams.values()) {
      if (request.ended) continue
      if (nowMs >= request.cancelledMs + CONFIRM_MS)
        request.fail(Reason.cancelled, "cancelled; the balancer did not confirm", nowMs)
      else if (nowMs >= request.deadlineMs + CONFIRM_MS) {
        this.cancel(request)
        request.fail(Reason.expired, "the deadline passed; the balancer did not say so", nowMs)
      }
    }
    if (this.waiting.size > 0) this.ask()
  }

  /** Ends every request and says GOODBYE; `gone` runs when no socket is left. */
  close(gone: () => void): void {
    const nowMs = this.nowMs()
    for (const request of this.streams.values())
      request.fail(Reason.cancelled, "the client was closed", nowMs)
    // Last, for a connection that is lost meanwhile has the others wait again.
    for (const request of [...this.waiting]) this.drop(request, Reason.cancelled, "the client was closed")
    this.connection?.goodbye("done", "")
    this.redial.close(gone)
  }

  /** The end of a turn: sends what waits. */
  readonly run = (): void => {
    this.asked = false
    if (this.waiting.size === 0) return
    if (this.connection === undefined) return this.redial.dial()
    const nowMs = this.nowMs()
    let left = this.waiting.size
    for (const request of this.waiting) {
      if (left-- === 0) return
      if (request.dueMs > nowMs) continue
      // A burst makes requests wait, and cuts no connection.
      if (this.connection === undefined || this.connection.outbox.isHalfFull) return
      this.waiting.delete(request)
      this.send(request, this.connection, nowMs)
    }
  }

  private nowMs(): number {
    return this.context.timers.nowMs()
  }

  private ask(): void {
    if (this.asked) return
    this.asked = true
    this.context.turn.soon(this)
  }

  private drop(request: OpenRequest, reason: Reason, message: string): void {
    this.waiting.delete(request)
    request.fail(reason, message, this.nowMs())
  }

  private send(request: OpenRequest, connection: Connection, nowMs: number): void {
    const model = request.facts.model ?? this.models[0]
    if (model === undefined)
      return request.reject(Reason.noWorker, 1_000, "the balancer serves no model yet: name one", nowMs)
    const stream = this.freshStream()
    const frame = requestFrame(request, this.names, model, stream, nowMs)
    if (frame.length - LENGTH_BYTES > this.frameBytes) {
      // Its names were not sent, whether or not they were known before.
      this.names = new ConnectionNames()
      const why = `the request is ${frame.length} bytes long, the limit is ${this.frameBytes}: shorten the prompt, or raise limits.frameBytes`
      return request.reject(Reason.badRequest, 0, why, nowMs)
    }
    request.stream = stream
    this.streams.set(stream, request)
    connection.send(frame)
  }

  private freshStream(): number {
    do this.lastStream = this.lastStream === 0xffff_ffff ? 1 : this.lastStream + 1
    while (this.streams.has(this.lastStream))
    return this.lastStream
  }

  /** A frame of the balancer. */
  readonly frame = (type: number, bytes: Buffer, start: number, end: number): void => {
    const header = start + HEADER_OFFSET
    const stream = readU32(bytes, header + At.stream)
    const request = this.streams.get(stream)
    if (request === undefined)
      return this.options.violation(`a frame of type ${type} for a request that is not open`)
    if (type === Type.token) this.token(request, bytes, start, end)
    else if (type === Type.accepted) request.admit()
    else if (type === Type.done) this.done(request, bytes, start, end)
    else if (type === Type.error || type === Type.rejected) this.refused(type, request, bytes, start, end)
    else this.options.violation(`a frame of type ${type} is not for a client`)
    if (this.waiting.size > 0) this.ask()
  }

  private token(request: OpenRequest, bytes: Buffer, start: number, end: number): void {
    if (request.ended) return
    const nowMs = this.connection!.heardMs
    const header = start + HEADER_OFFSET
    const index = readU32(bytes, header + At.tokenIndex)
    const count = readU32(bytes, header + At.tokenCount)
    const text = request.wantsText ? unpackPayload(bytes, start, end, this.context.limits) : ""
    const broken =
      typeof text === "string"
        ? request.tokens.accept(readU16(bytes, header + At.attempt), index, count, end - start)
        : "the payload of a TOKEN is not text"
    if (broken !== undefined) return this.breakOff(request, broken)
    request.deliver(index, count, text as string, nowMs)
    if (!request.paced) this.read(request, count)
  }

  private done(request: OpenRequest, bytes: Buffer, start: number, end: number): void {
    this.streams.delete(request.stream)
    if (request.ended) return
    const nowMs = this.connection!.heardMs
    const header = start + HEADER_OFFSET
    const tokens = readU32(bytes, header + At.outputTokens)
    const finished = readPayload(Finished, bytes, start, end, this.context.limits)
    if (tokens !== request.tokens.next || finished === undefined) {
      const broken =
        finished === undefined
          ? "the payload of DONE is wrong"
          : `DONE counts ${tokens} tokens, ${request.tokens.next} came`
      this.options.violation(broken)
      return request.fail(Reason.workerProtocol, broken, nowMs)
    }
    const { reason, worker, queueMs, prefillMs, totalMs } = finished
    request.end({
      outcome: "done",
      reason,
      tokens,
      cachedTokens: readU32(bytes, header + At.cachedTokens),
      attempts: readU16(bytes, header + At.attempt),
      worker,
      reader: (bytes[header + At.flags]! & Flag.extras) === 0 ? undefined : this.readerOf(bytes, start, end),
      ttftMs: request.ttftMs,
      e2eMs: nowMs - request.startedMs,
      queueMs,
      prefillMs,
      engineMs: totalMs
    })
  }

  private refused(type: number, request: OpenRequest, bytes: Buffer, start: number, end: number): void {
    this.streams.delete(request.stream)
    const nowMs = this.connection!.heardMs
    const header = start + HEADER_OFFSET
    const reason = readU32(bytes, header + At.reason) as Reason
    const retryAfterMs = readU32(bytes, header + At.retryAfterMs)
    if (reason === Reason.unknownModel && request.facts.model !== undefined)
      this.names.models.forget(request.facts.model)
    if (request.ended) return
    const message = readPayload(Failure, bytes, start, end, this.context.limits)?.message ?? ""
    if (type === Type.error) {
      const delivered = readU32(bytes, header + At.delivered)
      if (delivered !== request.tokens.next)
        this.options.violation(`ERROR counts ${delivered} tokens, ${request.tokens.next} came`)
      request.fail(reason, message, nowMs, readU16(bytes, header + At.attempt), retryAfterMs)
    } else if (request.tokens.next > 0) {
      const broken = `REJECTED came after ${request.tokens.next} tokens`
      this.options.violation(broken)
      request.fail(Reason.workerProtocol, broken, nowMs)
    } else if (!this.asksAgain(request, reason, retryAfterMs, nowMs))
      request.reject(reason, retryAfterMs, message, nowMs)
  }

  /** A rejection is final unless the caller wants more tries, and there is time for one. */
  private asksAgain(request: OpenRequest, reason: Reason, retryAfterMs: number, nowMs: number): boolean {
    if (request.cancelledMs !== Infinity || !isRetryable(reason)) return false
    if (request.rejections++ >= request.facts.retryRejected) return false
    request.dueMs = nowMs + Math.max(retryAfterMs, this.redial.backoffMs(request.rejections))
    if (request.dueMs >= request.deadlineMs) return false
    this.submit(request)
    return true
  }

  /** The balancer broke a rule on this stream: the answer is worthless. */
  private breakOff(request: OpenRequest, broken: string): void {
    this.options.violation(broken)
    this.connection?.outbox.plain(Type.cancel, request.stream, 0)
    request.fail(Reason.workerProtocol, broken, this.nowMs())
  }

  private readerOf(bytes: Buffer, start: number, end: number): string | undefined {
    const { limits } = this.context
    return locate(bytes, start, end, limits)
      ? unpackReader(bytes, parts.extrasStart, parts.payloadStart, limits)
      : undefined
  }

  private opened(connection: Connection, welcome: Welcome): ConnectionHandler {
    this.connection = connection
    this.models = welcome.models
    this.frameBytes = welcome.frameBytes
    const { outbox } = connection
    // Half of it takes the longest prompt that the balancer does.
    outbox.limitBytes = Math.max(outbox.limitBytes, 2 * (LENGTH_BYTES + welcome.frameBytes))
    this.names = new ConnectionNames()
    this.lastStream = 0
    if (this.waiting.size > 0) this.ask()
    return this
  }

  /** The connection is lost, or was given up by `close`. */
  readonly closed = (why: string): void => {
    this.connection = undefined
    // One by one: who hears of an ending may close the client, which ends those that are left.
    for (const [stream, request] of this.streams) {
      this.streams.delete(stream)
      this.lost(request, why)
    }
    this.redial.lost(this.waiting.size > 0)
  }

  private lost(request: OpenRequest, why: string): void {
    if (request.ended) return
    if (request.cancelledMs !== Infinity) return request.fail(Reason.cancelled, "cancelled", this.nowMs())
    const again = request.tokens.next === 0 && request.facts.retry !== "none" && request.losses++ < LOSSES_MAX
    if (again) this.submit(request)
    else request.fail(Reason.connectionLost, why, this.nowMs())
  }
}
