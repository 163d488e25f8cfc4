import { Reason, reasonName } from "../domain/Outcome.ts"
import { encodeFrame, pack } from "../protocol/Codec.ts"
import { At, HEADER_OFFSET, Type, writeU16, writeU32 } from "../protocol/Header.ts"
import { FIRST_CREDIT } from "../protocol/Limits.ts"
import type { Timers } from "../protocol/Timers.ts"
import { StreamIndex } from "../structures/StreamIndex.ts"
import { type BalancerMessage, news, News } from "./BalancerMessage.ts"
import type { BalancerEffects } from "./BalancerState.ts"
import type { ClientLink } from "./ClientLink.ts"
import { FrameStore } from "./FrameStore.ts"
import { Phase, type Request, RequestTable } from "./RequestTable.ts"
import type { WorkerLink } from "./WorkerLink.ts"

/** Longest time a client waits for ACCEPTED. */
const ACCEPTED_MS = 2

/** A request between two links. */
export type LinkedRequest = Request<ClientLink, WorkerLink>

/** Who receives news: the balancer actor that is alive now. */
export interface BalancerPort {
  readonly tell: (message: BalancerMessage) => unknown
}

/**
 * What the links of a balancer process share: the facts of every request, who sent it, who works on it, and its bytes. It also carries
 * out the balancer's decisions, which are all about writing frames into links.
 *
 * It survives the balancer: after a restart `announce` tells the new one what there is.
 */
export class Links implements BalancerEffects {
  readonly table: RequestTable<ClientLink, WorkerLink>
  readonly frames: FrameStore
  readonly epoch: number
  balancer: BalancerPort = { tell: () => "dead" }
  /** By worker slot: its connection, while there is one. */
  readonly workers: Array<WorkerLink | undefined> = []
  /** Slots of live requests by client and id, folded into 32 bits. */
  private readonly ids = new StreamIndex()
  /** Stream ids of accepted requests whose client has not been told: those of the last `ACCEPTED_MS`. */
  private readonly unsaid: Array<number> = []
  private readonly timers: Timers

  constructor(options: {
    readonly requestsMax: number
    readonly heldBytesMax: number
    readonly epoch: number
    readonly timers: Timers
  }) {
    this.timers = options.timers
    this.table = new RequestTable(options.requestsMax)
    this.frames = new FrameStore(options.heldBytesMax)
    this.epoch = options.epoch
  }

  tell(kind: number, slot: number): void {
    this.balancer.tell(news(kind, this.table.at(slot).stream))
  }

  /** Whether `client` has a live request with this id. Two requests that fold alike hide each other, about one pair in 2³². */
  isTwin(client: ClientLink, high: number, low: number): boolean {
    const slot = this.ids.get(fold(client.number, high, low))
    if (slot < 0) return false
    const request = this.table.at(slot)
    return request.idLow === low && request.idHigh === high && request.client === client
  }

  /** A new request has its facts in the table and its frame in the store. */
  opened({ client, idHigh, idLow, slot }: LinkedRequest): void {
    this.ids.set(fold(client!.number, idHigh, idLow), slot)
    this.tell(News.submitted, slot)
  }

  /** The live attempt of `slot` ended without DONE. */
  attemptFailed(slot: number, reason: Reason, message?: string): void {
    const request = this.table.at(slot)
    request.holder = undefined
    request.failure = reason
    request.message = message
    this.tell(News.failed, slot)
  }

  /** The terminal of `slot` was written: nothing more reaches the client. */
  ended(slot: number): void {
    const request = this.table.at(slot)
    request.phase = Phase.ended
    request.holder = undefined
    this.frames.drop(slot)
    const { client, idHigh, idLow } = request
    const key = fold(client!.number, idHigh, idLow)
    if (this.ids.get(key) === slot) this.ids.delete(key)
    client!.forget(request.clientStream)
    request.client = undefined
  }

  /** Tells the balancer of every request there is. */
  announce(): void {
    const { table } = this
    for (let slot = 0; slot < table.capacity; slot++)
      if (table.at(slot).phase !== Phase.free) this.tell(News.announced, slot)
  }

  /** ACCEPTED waits a little: where a token or the end comes first it says the same, and saves a frame and often a write. */
  readonly accept = (slot: number): void => {
    if (this.unsaid.length === 0) this.timers.after(ACCEPTED_MS, this.sayAccepted)
    this.unsaid.push(this.table.at(slot).stream)
  }

  private readonly sayAccepted = (): void => {
    for (const stream of this.unsaid) {
      const request = this.table.find(stream)
      if (request === undefined || request.nextIndex > 0 || request.phase !== Phase.open) continue
      request.client!.connection.outbox.plain(Type.accepted, request.clientStream, 0)
    }
    this.unsaid.length = 0
  }

  readonly reject = (slot: number, reason: Reason, retryAfterMs: number): void => {
    const { client, clientStream } = this.table.at(slot)
    client!.refuse(clientStream, reason, retryAfterMs)
    this.ended(slot)
  }

  readonly fail = (slot: number, reason: Reason, retryAfterMs: number): void => {
    const request = this.table.at(slot)
    const { message } = request
    const { outbox } = request.client!.connection
    const frame = message === undefined ? errorFrame(reason) : failureFrame(Type.error, reason, message)
    const at = outbox.relay(frame, 0, frame.length)
    if (at >= 0) {
      const header = at + HEADER_OFFSET
      writeU16(outbox.bytes, header + At.attempt, request.attempts)
      writeU32(outbox.bytes, header + At.stream, request.clientStream)
      writeU32(outbox.bytes, header + At.retryAfterMs, retryAfterMs)
      writeU32(outbox.bytes, header + At.delivered, request.nextIndex)
    }
    this.ended(slot)
  }

  readonly assign = (slot: number, worker: number, nowMs: number): boolean => {
    const link = this.workers[worker]
    if (link === undefined || !link.connection.isOpen) return false
    const { frames } = this
    const request = this.table.at(slot)
    const { outbox } = link.connection
    const start = frames.startOf(slot)
    const at = outbox.relay(frames.bytesOf(slot), start, start + frames.lengthOf(slot))
    if (at < 0) return false
    const { bytes } = outbox
    const header = at + HEADER_OFFSET
    bytes[header + At.type] = Type.assign
    writeU16(bytes, header + At.attempt, ++request.attempts)
    writeU32(bytes, header + At.stream, request.stream)
    writeU32(bytes, header + At.epoch, this.epoch)
    writeU16(bytes, header + At.tenant, 0)
    writeU16(bytes, header + At.model, link.modelNumber(request.model))
    writeU32(bytes, header + At.timeoutMs, Math.max(1, request.deadlineMs - nowMs))
    request.creditUpTo = FIRST_CREDIT
    request.message = undefined
    request.holder = link
    return true
  }

  readonly cancelAttempt = (slot: number, worker: number): void => {
    const request = this.table.at(slot)
    request.holder = undefined
    const frame = encodeFrame(Type.cancel, { stream: request.stream, attempt: request.attempts })
    this.workers[worker]?.connection.outbox.control(frame)
  }
}

/** Never 0, as an index key must be. */
const fold = (client: number, high: number, low: number): number =>
  (Math.imul(client ^ high, 0x85ebca6b) ^ low) >>> 0 || 1

/** A REJECTED or ERROR frame; stream and numbers are patched where it is copied to. */
export const failureFrame = (type: number, reason: Reason, message: string): Buffer =>
  encodeFrame(type, { a: reason }, { payload: pack({ message }) })

const sentences = new Map<number, string>([
  [Reason.workerLost, "the worker was lost"],
  [Reason.expired, "the deadline passed"],
  [Reason.cancelled, "cancelled"],
  [Reason.draining, "the balancer is shutting down"],
  [Reason.noWorker, "no worker of this model is ready"],
  [Reason.queueFull, "the queue is full"],
  [Reason.waitTooLong, "the expected wait is above the bound"]
])

const cached = (type: number): ((reason: Reason) => Buffer) => {
  const frames: Array<Buffer | undefined> = []
  return (reason) =>
    (frames[reason] ??= failureFrame(type, reason, sentences.get(reason) ?? reasonName(reason)))
}

/** The usual frames, made once per reason. */
export const errorFrame = cached(Type.error)
export const rejectedFrame = cached(Type.rejected)
