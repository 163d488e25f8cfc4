import { Reason } from "../domain/Outcome.ts"
import type { Connection, ConnectionHandler } from "../protocol/Connection.ts"
import { At, HEADER_OFFSET, readU16, readU32, Type, writeU32 } from "../protocol/Header.ts"
import type { Limits } from "../protocol/Limits.ts"
import { Failure, readHeartbeat, readPayload, Register } from "../protocol/Message.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"
import { News } from "./BalancerMessage.ts"
import type { LinkedRequest, Links } from "./Links.ts"
import { Phase } from "./RequestTable.ts"

export interface WorkerLinkOptions {
  readonly links: Links
  readonly limits: Limits
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
  private readonly options: WorkerLinkOptions
  private readonly links: Links
  private strikes = 0
  private stale = 0

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
    else if (type === Type.register) this.register(bytes, start, end)
    else if (type === Type.drain) this.options.draining(this)
    // KV_STORED and KV_REMOVED: no policy listens to them.
  }

  readonly closed = (why: string): void => {
    const { links } = this
    for (let slot = 0; slot < links.table.capacity; slot++) {
      if (links.table.at(slot).holder === this) links.attemptFailed(slot, Reason.workerLost)
    }
    this.options.closed(this, why)
  }

  /** The number by which this worker knows a model. */
  modelNumber(model: number): number {
    const { models } = this
    return models.length === 1 ? 0 : Math.max(0, models.indexOf(model))
  }

  private token(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const { nextIndex, slot } = request
    const count = readU32(bytes, header + At.tokenCount)
    if (readU32(bytes, header + At.tokenIndex) !== nextIndex || count === 0) return this.breakOff(slot)
    if (nextIndex + count > request.creditUpTo)
      return this.connection.refuse("flow_control", "flow_control", "tokens beyond the credit")
    this.relay(request, bytes, start, end)
    request.nextIndex = nextIndex + count
    if (nextIndex === 0) this.links.tell(News.first, slot)
  }

  private done(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    this.relay(request, bytes, start, end)
    request.outputTokens = readU32(bytes, header + At.outputTokens)
    request.cachedTokens = readU32(bytes, header + At.cachedTokens)
    this.links.ended(request.slot)
    this.links.tell(News.done, request.slot)
  }

  /** Passes a frame on to the client, under the client's stream id. */
  private relay({ client, clientStream }: LinkedRequest, bytes: Buffer, start: number, end: number): void {
    const { outbox } = client!.connection
    const at = outbox.relay(bytes, start, end)
    if (at >= 0) writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, clientStream)
  }

  private error(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const request = this.requestOf(bytes, header)
    if (request === undefined) return
    const reason = readU32(bytes, header + At.reason)
    const failure = readPayload(Failure, bytes, start, end, this.options.limits)
    this.links.attemptFailed(
      request.slot,
      isWorkerReason(reason) ? reason : Reason.workerFailed,
      failure?.message
    )
  }

  private register(bytes: Buffer, start: number, end: number): void {
    const offer = readPayload(Register, bytes, start, end, this.options.limits)
    if (offer === undefined || this.worker >= 0) {
      return this.connection.refuse(
        "bad_message",
        "bad_message",
        offer === undefined ? "REGISTER is not valid" : "REGISTER comes once"
      )
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
    if (heartbeat !== undefined) this.options.heartbeat(this, heartbeat.load)
    if (heartbeat === undefined || heartbeat.clamped)
      this.strike("bad_heartbeat", "a HEARTBEAT with impossible numbers")
  }

  /** The request whose live attempt a frame is about, or undefined when it is late. */
  private requestOf(bytes: Buffer, header: number): LinkedRequest | undefined {
    const { epoch, table } = this.links
    const request = table.find(readU32(bytes, header + At.stream))
    if (
      request !== undefined &&
      request.holder === this &&
      request.phase === Phase.open &&
      request.attempts === readU16(bytes, header + At.attempt) &&
      epoch === readU32(bytes, header + At.epoch)
    )
      return request
    if (++this.stale > STALE_MAX)
      this.connection.refuse("flood", "stale_frames", "too many frames about requests that are gone")
    return undefined
  }

  /** A token index was skipped or repeated: whatever this attempt still says is worth nothing. */
  private breakOff(slot: number): void {
    this.links.cancelAttempt(slot, this.worker)
    this.links.attemptFailed(slot, Reason.workerProtocol)
    this.strike("worker_protocol", "a token index was skipped or repeated")
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
