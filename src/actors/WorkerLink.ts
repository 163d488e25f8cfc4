import { Reason } from "../domain/Outcome.ts"
import { Role } from "../domain/PoolView.ts"
import { encodeFrame, locate, pack, parts, unpackPayload } from "../protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../protocol/Connection.ts"
import { At, Flag, HEADER_OFFSET, readU16, readU32, Type, writeU32 } from "../protocol/Header.ts"
import { type Limits, mayFollow } from "../protocol/Limits.ts"
import { Failure, faultOf, read, readHeartbeat, readPayload, Register } from "../protocol/Message.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import type { Histogram } from "../structures/Histogram.ts"
import { ChainBuffer } from "../structures/PrefixChain.ts"
import { News } from "./BalancerMessage.ts"
import type { LinkedRequest, Links } from "./Links.ts"
import { Phase } from "./RequestTable.ts"

export interface WorkerLinkOptions {
  readonly links: Links
  readonly limits: Limits
  /** Takes down the times between two frames of tokens of a request. */
  readonly itlMs: Histogram
  /** Gives the worker its slot, or undefined when it cannot be taken in. `models` are indices, in the order of REGISTER. */
  readonly registered: (
    link: WorkerLink,
    offer: Register
  ) => { readonly worker: number; readonly models: ReadonlyArray<number> } | undefined
  readonly heartbeat: (link: WorkerLink, load: WorkerLoad) => void
  readonly draining: (link: WorkerLink) => void
  readonly closed: (link: WorkerLink, why: string) => void
}

/** Broken promises of a worker before it is cut off. */
const STRIKES_MAX = 3
/** Frames about requests that are gone which a worker may send between two heartbeats: late ones are normal after a CANCEL. */
const STALE_MAX = 10_000

/** Reused by all links: the columns of one KV frame. */
const chain = new ChainBuffer()

/**
 * One worker connection: relays tokens to clients by rewriting the stream id in place, and knows which attempts are outstanding there.
 * Frames of superseded attempts are dropped by number. It decides nothing.
 */
export class WorkerLink implements ConnectionHandler {
  readonly connection: Connection
  /** The worker's slot, -1 until it has registered. */
  worker = -1
  /** Model indices in the order of REGISTER. */
  models: ReadonlyArray<number> = []
  /** Attempts that wait until the worker has read some of what was sent: their numbers by stream id, the oldest first. */
  readonly unsent = new Map<number, number>()
  /** Whether permissions of clients wait for the same. */
  owesCredit = false
  /** Whether it is to finish and leave: the balancer may not have heard of it, and place requests on it still. */
  draining = false
  private readonly options: WorkerLinkOptions
  private readonly links: Links
  private strikes = 0
  private stale = 0
  /** Number of the next KV frame; -1 while they are ignored, until the worker says everything anew. */
  private nextSequence = -1
  private syncAsked = false

  constructor(connection: Connection, options: WorkerLinkOptions) {
    this.connection = connection
    this.options = options
    this.links = options.links
  }

  readonly frame = (type: number, bytes: Buffer, start: number, end: number): void => {
    if (type === Type.token) this.token(bytes, start, end)
    else if (type === Type.done) this.done(bytes, start, end)
    else if (this.worker < 0 && type !== Type.register)
      this.connection.refuse("bad_message", "unregistered", "REGISTER comes first")
    else if (type === Type.heartbeat) this.heartbeat(bytes, start, end)
    else if (type === Type.error) this.error(bytes, start, end)
    else if (type === Type.prefilled) this.prefilled(bytes, start)
    else if (type === Type.register) this.register(bytes, start, end)
    else if (type === Type.drain) this.options.draining(this)
    else this.cacheChanged(type, bytes, start, end)
  }

  readonly closed = (why: string): void => {
    const { links, worker } = this
    if (worker >= 0) links.prefixes.cleared(worker)
    for (const request of links.table.all()) {
      if (request.numberAt(this) >= 0) this.lose(request)
      else if (request.keeper === this) links.keeperLost(request)
    }
    this.options.closed(this, why)
  }

  readonly drained = (): void => {
    if (this.unsent.size > 0 || this.owesCredit) this.links.resume(this)
  }

  /** Not begun is what was not sent, and what a worker that is drained has left open: it has answered all that reached it. */
  private lose(request: LinkedRequest): void {
    const isUnsent = this.unsent.get(request.stream) === request.numberAt(this)
    const isDrained = this.connection.peerCode === "drain"
    if (request.nextIndex === 0 && (isUnsent || isDrained))
      this.links.attemptFailed(request, this, Reason.draining, "the worker left before it had begun")
    else this.links.attemptFailed(request, this, Reason.workerLost)
  }

  /**
   * Calls off an attempt that the worker has, or is to have. Comes last in what it belongs to: a link that takes no more is closed, and
   * says so of all it holds.
   */
  callOff(stream: number, attempt: number): void {
    if (this.unsent.get(stream) === attempt) this.unsent.delete(stream)
    else this.connection.outbox.control(encodeFrame(Type.cancel, { stream, attempt }))
  }

  /** The number by which this worker knows a model; -1 for one that it does not serve. */
  modelNumber(model: number): number {
    const { models } = this
    return models[0] === model ? 0 : models.indexOf(model)
  }

  private token(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const { nextIndex } = request
    const count = readU32(bytes, header + At.tokenCount)
    if (readU32(bytes, header + At.tokenIndex) !== nextIndex || count === 0 || request.part === Role.prefill)
      return this.breakOff(request)
    const isWithin =
      nextIndex + count <= request.creditUpTo &&
      mayFollow(request.sentBytes, end - start, request.creditUpToBytes)
    if (!isWithin) return this.connection.refuse("flow_control", "flow_control", "tokens beyond the credit")
    request.sentBytes += end - start
    this.relay(request, bytes, start, end)
    request.nextIndex = nextIndex + count
    const { heardMs } = this.connection
    if (nextIndex > 0) this.options.itlMs.record((heardMs - request.tokenMs) * this.links.timeScale)
    request.tokenMs = heardMs
    if (nextIndex === 0) this.links.started(request, this)
  }

  private done(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const isWhole = readU32(bytes, header + At.outputTokens) === request.nextIndex
    if (request.part === Role.prefill || !isWhole) return this.breakOff(request)
    this.links.decide(request, this)
    if (request.part === Role.decode) this.relayOfTwo(request, bytes, start, end)
    else this.relay(request, bytes, start, end)
    request.cachedTokens = readU32(bytes, header + At.cachedTokens)
    this.links.ended(request.slot)
    this.links.tell(News.done, request.slot)
  }

  /** Passes a frame on to the client, under the client's stream id. */
  private relay({ client, clientStream }: LinkedRequest, bytes: Buffer, start: number, end: number): void {
    writeU32(bytes, start + HEADER_OFFSET + At.stream, clientStream)
    client!.connection.outbox.pass(bytes, start, end)
  }

  /** Passes a DONE on that another worker has a part in: who read the prompt, and what it had cached of that. */
  private relayOfTwo(request: LinkedRequest, bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    writeU32(bytes, header + At.cachedTokens, request.cachedTokens)
    const reader = request.reader?.connection.peer?.identity
    if (reader === undefined || !locate(bytes, start, end, this.options.limits))
      return this.relay(request, bytes, start, end)
    const fields = {
      flags: Flag.extras,
      attempt: readU16(bytes, header + At.attempt),
      stream: request.clientStream,
      epoch: readU32(bytes, header + At.epoch),
      a: readU32(bytes, header + At.outputTokens),
      b: request.cachedTokens
    }
    const payload = bytes.subarray(parts.payloadStart, parts.payloadEnd)
    request.client!.connection.send(encodeFrame(Type.done, fields, { extras: pack([reader]), payload }))
  }

  private prefilled(bytes: Buffer, start: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const isWhole = readU32(bytes, header + At.kvTokens) === request.promptTokens
    if (request.part !== Role.prefill || !isWhole) return this.breakOff(request)
    this.links.prefilled(request, readU32(bytes, header + At.prefixTokens))
  }

  private error(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const reason = readU32(bytes, header + At.reason)
    const failure = readPayload(Failure, bytes, start, end, this.options.limits)
    this.links.attemptFailed(
      request,
      this,
      isWorkerReason(reason) ? reason : Reason.workerFailed,
      failure?.message
    )
  }

  private register(bytes: Buffer, start: number, end: number): void {
    if (this.worker >= 0) return this.connection.refuse("bad_message", "bad_message", "REGISTER comes once")
    const payload = unpackPayload(bytes, start, end, this.options.limits)
    const offer = read(Register, payload)
    if (offer === undefined) {
      const why = `REGISTER is not valid: ${faultOf(Register, payload)}`
      return this.connection.refuse("bad_message", "bad_message", why)
    }
    const place = this.options.registered(this, offer)
    if (place === undefined) return
    this.worker = place.worker
    this.models = place.models
    this.links.workers[place.worker] = this
  }

  private heartbeat(bytes: Buffer, start: number, end: number): void {
    this.stale = 0
    const heartbeat = readHeartbeat(bytes, start, end, this.options.limits)
    if ("fault" in heartbeat) {
      const why = `a HEARTBEAT is not valid: ${heartbeat.fault}`
      return this.connection.refuse("bad_message", "bad_message", why)
    }
    this.options.heartbeat(this, heartbeat.load)
    if (heartbeat.clamped) this.strike("bad_heartbeat", "a HEARTBEAT with impossible numbers")
  }

  /** KV_STORED or KV_REMOVED. */
  private cacheChanged(type: number, bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const { worker, connection } = this
    const { prefixes } = this.links
    const stored = type === Type.kvStored
    const model = this.models[readU32(bytes, header + At.kvModel)]
    const isWell = locate(bytes, start, end, this.options.limits)
    const count = (parts.chainEnd - parts.chainStart) / 8
    if (!isWell || model === undefined || (stored && count < 2))
      return connection.refuse("bad_message", "bad_message", "a KV frame is not valid")
    const sequence = readU32(bytes, header + At.kvSequence)
    const everything = !stored && (bytes[header + At.flags]! & Flag.everything) !== 0
    if (!everything && sequence !== this.nextSequence) return this.missed()
    this.nextSequence = (sequence + 1) >>> 0
    if (everything) {
      this.syncAsked = false
      return prefixes.cleared(worker)
    }
    chain.read(bytes, parts.chainStart, count)
    if (stored) prefixes.stored(worker, model, chain, 1)
    else prefixes.removed(worker, model, chain)
  }

  /** A KV frame is missing: nothing is believed until the worker has said everything anew. */
  private missed(): void {
    if (this.syncAsked) return
    this.syncAsked = true
    this.nextSequence = -1
    this.links.prefixes.cleared(this.worker)
    this.connection.outbox.plain(Type.kvSync, 0, 0)
  }

  /** The request a live attempt of which a frame is about, or undefined when it is late, or made up. */
  private requestOf(bytes: Buffer, header: number): LinkedRequest | undefined {
    const { epoch, table } = this.links
    const stream = readU32(bytes, header + At.stream)
    const attempt = readU16(bytes, header + At.attempt)
    const request = table.find(stream)
    if (
      request !== undefined &&
      request.numberAt(this) === attempt &&
      request.phase === Phase.open &&
      epoch === readU32(bytes, header + At.epoch) &&
      // What was not sent can only be guessed.
      (this.unsent.size === 0 || this.unsent.get(stream) !== attempt)
    )
      return request
    if (++this.stale > STALE_MAX)
      this.connection.refuse("flood", "stale_frames", "too many frames about requests that are gone")
    return undefined
  }

  /** What was said does not follow from what was asked and said before: whatever this attempt still says is worth nothing. */
  private breakOff(request: LinkedRequest): void {
    this.links.breakOff(request, this, Reason.workerProtocol)
    this.strike("worker_protocol", "a token index was skipped or repeated, or the part of a request mistaken")
  }

  /** Counts a broken rule; at the third the worker is not believed for a while. */
  private strike(kind: string, what: string): void {
    if (++this.strikes >= STRIKES_MAX) this.connection.expel(kind, what)
    else this.connection.violate(kind, what)
  }
}

/** Reasons a worker may give; any other number counts as a failure of its engine. */
const isWorkerReason = (reason: number): reason is Reason =>
  reason === Reason.badRequest ||
  reason === Reason.contextLength ||
  reason === Reason.workerRefused ||
  reason === Reason.draining ||
  reason === Reason.staleEpoch ||
  reason === Reason.slowConsumer ||
  reason === Reason.expired
