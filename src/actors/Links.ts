import { Reason, reasonName } from "../domain/Outcome.ts"
import { Role } from "../domain/PoolView.ts"
import type { PrefixChain } from "../domain/PrefixChain.ts"
import { encodeFrame, pack } from "../protocol/Codec.ts"
import { At, Flag, HEADER_OFFSET, Type, writeU16, writeU32 } from "../protocol/Header.ts"
import { FIRST_CREDIT, FIRST_CREDIT_BYTES } from "../protocol/Limits.ts"
import type { RequestRecorder } from "../observability/Recording.ts"
import type { Timers } from "../protocol/Timers.ts"
import { hash64 } from "../structures/hash.ts"
import { StreamIndex } from "../structures/StreamIndex.ts"
import { type BalancerMessage, kindOf, news, News, slotOf } from "./BalancerMessage.ts"
import { type BalancerEffects, NO_WORKER_RETRY_MS } from "./BalancerState.ts"
import type { ClientLink } from "./ClientLink.ts"
import { FrameStore } from "./FrameStore.ts"
import { Phase, type Request, RequestTable } from "./RequestTable.ts"
import type { WorkerLink } from "./WorkerLink.ts"

/** Longest time a client waits for ACCEPTED. */
const ACCEPTED_MS = 2

/** The flags a client may set, and what an ASSIGN is marked with, by the part it asks for. */
const CLIENT_FLAGS = Flag.extras | Flag.sideEffects
const flagOf: Readonly<Record<number, number>> = {
  [Role.both]: 0,
  [Role.prefill]: Flag.prefillOnly,
  [Role.decode]: Flag.handedOver
}

/** A request between two links. */
export type LinkedRequest = Request<ClientLink, WorkerLink>

/** Who receives news: the balancer actor that is alive now. */
export interface BalancerPort {
  readonly tell: (message: BalancerMessage) => unknown
}

/** Who is told what the workers' prefix caches hold. A chain may be read during the call only. */
export interface PrefixPort {
  /**
   * The blocks of `chain` from `from` on, in the order of the prompt, are in the cache of this worker; they follow the block before
   * them, whose hash is 0 when they begin the prompt.
   */
  readonly stored: (worker: number, model: number, chain: PrefixChain, from: number) => void
  /** These blocks are not; each comes after those that follow it. */
  readonly removed: (worker: number, model: number, chain: PrefixChain) => void
  /** Nothing is known of this worker's cache. */
  readonly cleared: (worker: number) => void
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
  prefixes: PrefixPort = { stored: () => undefined, removed: () => undefined, cleared: () => undefined }
  /** Who records requests, if somebody does. */
  recorder: RequestRecorder | undefined = undefined
  /** By worker slot: its connection, while there is one. */
  readonly workers: Array<WorkerLink | undefined> = []
  /** Slots of live requests by client and id, folded into 32 bits. */
  private readonly ids = new StreamIndex()
  /** Stream ids of accepted requests whose client has not been told: those of the last `ACCEPTED_MS`. */
  private readonly unsaid: Array<number> = []
  private readonly timers: Timers
  readonly timeScale: number

  constructor(options: {
    readonly requestsMax: number
    readonly heldBytesMax: number
    readonly epoch: number
    readonly timers: Timers
    readonly timeScale: number
  }) {
    this.timers = options.timers
    this.timeScale = options.timeScale
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
  opened(request: LinkedRequest): void {
    const { client, idHigh, idLow, slot } = request
    this.ids.set(fold(client!.number, idHigh, idLow), slot)
    this.recorder?.arrived(request)
    this.tell(News.submitted, slot)
  }

  /** The first token of the attempt that `link` holds was relayed. */
  started(request: LinkedRequest, link: WorkerLink): void {
    this.decide(request, link)
    this.letGo(request)
    if (request.creditUpTo > FIRST_CREDIT || request.creditUpToBytes > FIRST_CREDIT_BYTES) this.grant(request)
    this.tell(News.first, request.slot)
  }

  /** The attempt that `link` holds is the one to be relayed: calls off what is tied to it. */
  decide(request: LinkedRequest, link: WorkerLink): void {
    const { holder, slot, tied } = request
    if (tied === undefined) return
    this.callOff(request, holder === link ? tied : holder!)
    this.tell(News.untied, slot)
  }

  /** The prompt of a split request was read: its holder keeps the KV cache, until it is let go. */
  prefilled(request: LinkedRequest, prefixTokens: number): void {
    request.prefilled()
    request.cachedTokens = prefixTokens
    this.tell(News.read, request.slot)
  }

  /** Nobody needs the KV cache of a prompt any more, if there is one. */
  private letGo(request: LinkedRequest): void {
    const { keeper, kept } = request
    if (keeper === undefined) return
    request.letGo()
    keeper.callOff(request.stream, kept)
  }

  /** Who kept the KV cache of a prompt is gone, and whoever waits for it waits in vain. */
  keeperLost(request: LinkedRequest): void {
    request.letGo()
    if (request.holder !== undefined) return this.breakOff(request, request.holder, Reason.workerLost)
    request.failure = Reason.workerLost
    this.tell(News.failed, request.slot)
  }

  /** The attempt that `link` held ended without DONE. */
  attemptFailed(request: LinkedRequest, link: WorkerLink, reason: Reason, message?: string): void {
    this.letGo(request)
    if (request.left(link, reason)) return this.tell(News.untied, request.slot)
    request.message = message
    this.tell(News.failed, request.slot)
  }

  /** Ends the attempt that `link` holds, as failed. */
  breakOff(request: LinkedRequest, link: WorkerLink, reason: Reason): void {
    const attempt = request.numberAt(link)
    this.attemptFailed(request, link, reason)
    link.callOff(request.stream, attempt)
  }

  /** Passes the client's permission to the worker. Before the first token it could overtake the ASSIGN, and is kept instead. */
  grant({ creditUpTo, creditUpToBytes, holder, live, nextIndex, stream }: LinkedRequest): void {
    if (nextIndex === 0 || holder === undefined) return
    const { outbox } = holder.connection
    if (outbox.isCrowded) {
      holder.owesCredit = true
      return
    }
    const fields = { stream, attempt: live, a: creditUpTo, b: creditUpToBytes }
    outbox.control(encodeFrame(Type.credit, fields))
  }

  /** The worker at the other end of `link` has read some of what was sent: it gets what waited for that. */
  resume(link: WorkerLink): void {
    const { table } = this
    const { outbox } = link.connection
    if (link.owesCredit && !outbox.isCrowded) {
      link.owesCredit = false
      for (const request of table.all()) if (request.holder === link) this.grant(request)
    }
    const nowMs = this.timers.nowMs() * this.timeScale
    for (const [stream, attempt] of link.unsent) {
      if (outbox.isCrowded) return
      link.unsent.delete(stream)
      const request = table.find(stream)
      if (request?.numberAt(link) === attempt) this.send(request, link, attempt, request.part, nowMs)
    }
  }

  /** The terminal of `slot` was written, DONE where no reason is given: nothing more reaches the client. */
  ended(slot: number, reason: Reason = Reason.none): void {
    const request = this.table.at(slot)
    this.recorder?.ended(request, reason)
    this.letGo(request)
    request.ended()
    this.frames.drop(slot)
    const { client, idHigh, idLow } = request
    const key = fold(client!.number, idHigh, idLow)
    if (this.ids.get(key) === slot) this.ids.delete(key)
    client!.forget(request.clientStream)
    request.client = undefined
  }

  /**
   * Tells the balancer of every request there is: first of those that have a place, which no other may be given. Where a prompt is read,
   * or was, and the place for the answer known to the former balancer alone, there is none: it is given up.
   */
  announce(): void {
    const requests = this.table.all()
    for (const request of requests) {
      if (request.part !== Role.prefill || request.phase !== Phase.open) continue
      if (request.holder !== undefined) this.callOff(request, request.holder)
      this.letGo(request)
    }
    for (const { holder, slot } of requests) if (holder !== undefined) this.tell(News.announced, slot)
    for (const { holder, slot } of requests) if (holder === undefined) this.tell(News.announced, slot)
  }

  /** There will be no balancer any more: ends every request, and from now on each as it comes. */
  abandon(): void {
    this.balancer = {
      tell: (message) => {
        // Of all else that is told the requests are known, and turned away below.
        if (typeof message === "number" && kindOf(message) === News.submitted) this.turnAway(slotOf(message))
      }
    }
    for (const { slot } of this.table.all()) this.turnAway(slot)
  }

  private turnAway(slot: number): void {
    const { table } = this
    const request = table.at(slot)
    if (request.phase === Phase.free) return
    while (request.holder !== undefined) this.callOff(request, request.holder)
    if (request.phase === Phase.open) {
      const end = request.accepted ? this.fail : this.reject
      end(slot, Reason.draining, NO_WORKER_RETRY_MS)
    }
    table.release(slot)
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
    this.ended(slot, reason)
  }

  readonly fail = (slot: number, reason: Reason, retryAfterMs: number): void => {
    const request = this.table.at(slot)
    const { failure, message } = request
    const { outbox } = request.client!.connection
    const isTold = message !== undefined && reason === failure
    const frame = isTold ? failureFrame(Type.error, reason, message) : errorFrame(reason)
    const at = outbox.relay(frame, 0, frame.length)
    if (at >= 0) {
      const header = at + HEADER_OFFSET
      writeU16(outbox.bytes, header + At.attempt, request.attempts)
      writeU32(outbox.bytes, header + At.stream, request.clientStream)
      writeU32(outbox.bytes, header + At.retryAfterMs, retryAfterMs)
      writeU32(outbox.bytes, header + At.delivered, request.nextIndex)
    }
    this.ended(slot, reason)
  }

  readonly assign = (slot: number, worker: number, part: number, nowMs: number): boolean => {
    const link = this.workers[worker]
    if (link === undefined || !link.connection.isOpen || link.draining) return false
    const request = this.table.at(slot)
    if (link.modelNumber(request.model) < 0) return false
    const attempt = request.attempt
    const isToWait = link.unsent.size > 0 || link.connection.outbox.isCrowded
    if (!isToWait && !this.send(request, link, attempt, part, nowMs)) return false
    request.assigned(link, part)
    if (isToWait) link.unsent.set(request.stream, attempt)
    request.message = undefined
    return true
  }

  /** Writes an ASSIGN. False when the link is closed, because of it or before. */
  private send(
    request: LinkedRequest,
    link: WorkerLink,
    attempt: number,
    part: number,
    nowMs: number
  ): boolean {
    const { frames } = this
    const { slot } = request
    const { outbox } = link.connection
    const start = frames.startOf(slot)
    const at = outbox.relay(frames.bytesOf(slot), start, start + frames.lengthOf(slot))
    if (at < 0) return false
    const { bytes } = outbox
    const header = at + HEADER_OFFSET
    bytes[header + At.type] = Type.assign
    bytes[header + At.flags] = (request.flags & CLIENT_FLAGS) | flagOf[part]!
    if (part === Role.decode) {
      const { high, low } = hash64(request.keeper!.connection.peer!.identity)
      writeU32(bytes, header + At.kvTokens, request.promptTokens)
      writeU32(bytes, header + At.keeperHigh, high)
      writeU32(bytes, header + At.keeperLow, low)
    }
    writeU16(bytes, header + At.attempt, attempt)
    writeU32(bytes, header + At.stream, request.stream)
    writeU32(bytes, header + At.epoch, this.epoch)
    writeU16(bytes, header + At.tenant, 0)
    writeU16(bytes, header + At.model, link.modelNumber(request.model))
    writeU32(bytes, header + At.timeoutMs, Math.max(1, request.deadlineMs - nowMs))
    return true
  }

  readonly cancelAttempt = (slot: number, worker: number): void => {
    const request = this.table.at(slot)
    const link = this.workers[worker]
    // It may be over already, and the balancer not know.
    if (link !== undefined && request.numberAt(link) >= 0) this.callOff(request, link)
    this.letGo(request)
  }

  private callOff(request: LinkedRequest, link: WorkerLink): void {
    const attempt = request.numberAt(link)
    request.left(link, Reason.cancelled)
    link.callOff(request.stream, attempt)
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
  [Reason.waitTooLong, "the expected wait is above the bound"],
  [Reason.rateLimited, "the tenant is above its rate"],
  [Reason.kvFull, "no worker has room in its KV cache"],
  [Reason.concurrencyLimit, "as many requests are in flight as are served well"],
  [Reason.sloInfeasible, "no worker is predicted to serve it in time"],
  [Reason.shed, "it waited too long while others waited too"]
])

const cached = (type: number): ((reason: Reason) => Buffer) => {
  const frames: Array<Buffer | undefined> = []
  return (reason) =>
    (frames[reason] ??= failureFrame(type, reason, sentences.get(reason) ?? reasonName(reason)))
}

/** The usual frames, made once per reason. */
export const errorFrame = cached(Type.error)
export const rejectedFrame = cached(Type.rejected)
