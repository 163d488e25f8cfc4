import { LABEL_RULE } from "../domain/label.ts"
import { isRetryable, Reason } from "../domain/Outcome.ts"
import { locate, parts } from "../protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../protocol/Connection.ts"
import {
  At,
  Flag,
  HEADER_OFFSET,
  readU16,
  readU32,
  REQUEST_HEADER_BYTES,
  Type,
  writeU32
} from "../protocol/Header.ts"
import { FIRST_CREDIT, FIRST_CREDIT_BYTES, type Limits } from "../protocol/Limits.ts"
import { unpackExtras } from "../protocol/Message.ts"
import type { Hash64 } from "../structures/hash.ts"
import type { Names } from "../structures/Names.ts"
import { saltChain } from "../structures/PrefixChain.ts"
import { StreamIndex } from "../structures/StreamIndex.ts"
import { News } from "./BalancerMessage.ts"
import { failureFrame, type LinkedRequest, type Links, rejectedFrame } from "./Links.ts"
import { notServed } from "./notServed.ts"
import { Phase } from "./RequestTable.ts"

/** Who is billed, and shares fairly. */
export interface Tenant {
  readonly index: number
  /** Share relative to others, > 0. */
  readonly weight: number
  /** Mixed into its chains. */
  readonly salt: Hash64
}

/** What a client link needs to know of the process. */
export interface ClientLinkOptions {
  readonly links: Links
  readonly limits: Limits
  /** Different for each client link of the process. */
  readonly number: number
  /** The models served here. */
  readonly models: Pick<Names, "find" | "all">
  /** A tenant by name; the name of nobody is "default". */
  readonly tenantOf: (name: string) => Tenant
  /** Whether requests are to carry their chains. */
  readonly keepsChains: boolean
  readonly requestTimeoutMs: number
  /** Of the times that are written into the table, all deadlines included, to those of the clock. */
  readonly timeScale: number
  readonly streamsMax: number
  /** Whether it speaks for many others: how many they are, and how often some of them give up, is then held against nobody. */
  readonly isGateway: boolean
  /** A request was turned away before the balancer heard of it. */
  readonly rejected: (reason: Reason) => void
  readonly closed: (link: ClientLink) => void
}

/** Numbers a client may give to models and tenants on one connection. */
const NAMES_MAX = 1024
/** Blocks of a chain that placement looks at: a million tokens in blocks of 256. It bounds the time one request can take. */
const CHAIN_BLOCKS_MAX = 4096
/** What a client waits before it asks again when a fixed bound is reached: as its library says of its own. */
const LIMIT_RETRY_MS = 100
/** CANCELs a client may send: so many at once, and one for two requests. */
const CANCELS_AT_FIRST = 100
const CANCELS_SAVED_MAX = 1000

/**
 * One client connection: takes requests in, and knows which are outstanding. It checks what a client says, writes the facts into the
 * table and tells the balancer; it decides nothing.
 */
export class ClientLink implements ConnectionHandler {
  readonly connection: Connection
  /** Tells it from all other clients of this process. */
  readonly number: number
  private readonly options: ClientLinkOptions
  private readonly links: Links
  /** Outstanding requests by the client's stream id. */
  private readonly streams = new StreamIndex()
  /** By the client's numbers: the index of a model, or its name as long as it is not known to be served. */
  private readonly models: Array<number | string> = []
  private readonly tenants: Array<Tenant> = []
  private readonly nobody: Tenant
  private cancelsLeft = CANCELS_AT_FIRST

  constructor(connection: Connection, options: ClientLinkOptions) {
    this.connection = connection
    this.number = options.number
    this.options = options
    this.links = options.links
    this.nobody = options.tenantOf("default")
  }

  readonly frame = (type: number, bytes: Buffer, start: number, end: number): void => {
    if (type === Type.request) this.request(bytes, start, end)
    else if (type === Type.cancel) this.cancel(readU32(bytes, start + HEADER_OFFSET + At.stream))
    else if (type === Type.credit) this.credit(bytes, start + HEADER_OFFSET)
    else
      this.explain(
        readU32(bytes, start + HEADER_OFFSET + At.stream),
        Reason.badRequest,
        "RESUME is not offered"
      )
  }

  readonly closed = (): void => {
    this.streams.forEach((slot) => this.giveUp(slot))
    this.options.closed(this)
  }

  /** Carries out the balancer's refusal, with one of the usual sentences. */
  refuse(stream: number, reason: Reason, retryAfterMs: number): void {
    this.write(rejectedFrame(reason), stream, retryAfterMs)
  }

  /** The terminal of `stream` was written. */
  forget(stream: number): void {
    this.streams.delete(stream)
  }

  private request(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const { links, options } = this
    if (bytes[header - 1]! < REQUEST_HEADER_BYTES || !locate(bytes, start, end, options.limits)) {
      return this.connection.refuse("bad_frame", "bad_frame", "a REQUEST is not well formed")
    }
    const stream = readU32(bytes, header + At.stream)
    if ((bytes[header + At.flags]! & Flag.extras) !== 0) {
      const fault = this.intern(bytes, header)
      if (fault !== undefined)
        return this.connection.refuse("bad_message", "bad_message", `the extras of a REQUEST: ${fault}`)
    }
    this.cancelsLeft = Math.min(CANCELS_SAVED_MAX, this.cancelsLeft + 0.5)
    const promptTokens = readU32(bytes, header + At.promptTokens)
    const maxTokens = readU32(bytes, header + At.maxTokens)
    if (stream === 0) return this.explain(0, Reason.badRequest, "stream: must be at least 1")
    if (this.streams.get(stream) >= 0)
      return this.explain(stream, Reason.duplicateRequest, "stream: is in use")
    if (promptTokens === 0) return this.explain(stream, Reason.badRequest, "promptTokens: must be at least 1")
    if (maxTokens === 0) return this.explain(stream, Reason.badRequest, "maxTokens: must be at least 1")
    const model = this.modelOf(readU16(bytes, header + At.model))
    if (model === undefined)
      return this.explain(stream, Reason.badRequest, "model: this number was never given a name")
    if (typeof model === "string")
      return this.explain(stream, Reason.unknownModel, notServed(model, options.models.all()))
    if (!options.isGateway && this.streams.size >= options.streamsMax)
      return this.explain(stream, Reason.limit, "too many requests on this connection")
    const idHigh = readU32(bytes, header + At.idHigh)
    const idLow = readU32(bytes, header + At.idLow)
    if (links.isTwin(this, idHigh, idLow))
      return this.explain(stream, Reason.duplicateRequest, "id: is in use")
    const request = links.table.allocate()
    if (request === undefined) return this.explain(stream, Reason.limit, "too many requests in this balancer")
    const { slot } = request
    if (!links.frames.hold(slot, bytes, start, end)) {
      links.table.release(slot)
      return this.explain(stream, Reason.limit, "too many request bytes in this balancer")
    }
    const nowMs = this.connection.heardMs * options.timeScale
    const timeoutMs = readU32(bytes, header + At.timeoutMs)
    request.client = this
    request.clientStream = stream
    request.flags = bytes[header + At.flags]!
    request.idHigh = idHigh
    request.idLow = idLow
    const tenant = this.tenants[readU16(bytes, header + At.tenant)] ?? this.nobody
    request.tenant = tenant.index
    request.weight = tenant.weight
    this.takeChain(request, tenant, start)
    request.model = model
    request.class = bytes[header + At.class]!
    request.promptTokens = promptTokens
    request.maxTokens = maxTokens
    request.sentBytes = 0
    request.creditUpTo = FIRST_CREDIT
    request.creditUpToBytes = FIRST_CREDIT_BYTES
    request.sessionHigh = readU32(bytes, header + At.sessionHigh)
    request.sessionLow = readU32(bytes, header + At.sessionLow)
    request.arrivedMs = nowMs
    request.deadlineMs =
      nowMs + (timeoutMs === 0 ? options.requestTimeoutMs : Math.min(timeoutMs, options.requestTimeoutMs))
    this.streams.set(stream, slot)
    links.opened(request)
  }

  /** Salts the chain in the held frame, which is what the worker gets, and takes it over where somebody looks at it. */
  private takeChain(request: LinkedRequest, { salt }: Tenant, start: number): void {
    const count = (parts.chainEnd - parts.chainStart) >>> 3
    if (count === 0) return
    const { slot } = request
    const { frames } = this.links
    const bytes = frames.bytesOf(slot)
    const at = frames.startOf(slot) + parts.chainStart - start
    saltChain(bytes, at, count, salt.high, salt.low)
    if (this.options.keepsChains) request.newChain().read(bytes, at, Math.min(count, CHAIN_BLOCKS_MAX))
  }

  private cancel(stream: number): void {
    if (!this.options.isGateway && --this.cancelsLeft < 0)
      return this.connection.refuse("flood", "cancel_flood", "too many CANCELs for so few requests")
    const slot = this.streams.get(stream)
    if (slot >= 0) this.giveUp(slot)
  }

  private giveUp(slot: number): void {
    const request = this.links.table.at(slot)
    if (request.phase !== Phase.open || request.cancelled) return
    request.cancelled = true
    this.links.tell(News.cancelled, slot)
  }

  /** The client read on. */
  private credit(bytes: Buffer, header: number): void {
    const slot = this.streams.get(readU32(bytes, header + At.stream))
    if (slot < 0) return
    const request = this.links.table.at(slot)
    const upTo = Math.max(request.creditUpTo, readU32(bytes, header + At.creditUpTo))
    const upToBytes = Math.max(request.creditUpToBytes, readU32(bytes, header + At.creditUpToBytes))
    if (upTo === request.creditUpTo && upToBytes === request.creditUpToBytes) return
    request.creditUpTo = upTo
    request.creditUpToBytes = upToBytes
    this.links.grant(request)
  }

  /** Takes over the names in the extras of the REQUEST that `locate` has just looked at, or says what is wrong with them. */
  private intern(bytes: Buffer, header: number): string | undefined {
    const extras = unpackExtras(bytes, parts.extrasStart, parts.payloadStart, this.options.limits)
    if (extras === undefined) return `must be an array of names, each nil or ${LABEL_RULE}`
    const model = readU16(bytes, header + At.model)
    const tenant = readU16(bytes, header + At.tenant)
    if (extras.modelName !== null) {
      if (model >= NAMES_MAX) return `model must be below ${NAMES_MAX} to be given a name`
      this.models[model] = extras.modelName
    }
    if (extras.tenantName !== null) {
      if (tenant >= NAMES_MAX) return `tenant must be below ${NAMES_MAX} to be given a name`
      this.tenants[tenant] = this.options.tenantOf(extras.tenantName)
    }
    return undefined
  }

  /** The index of the model that the client gave this number, or its name where it is not served; undefined where it gave none. */
  private modelOf(number: number): number | string | undefined {
    const named = this.models[number]
    if (typeof named !== "string") return named
    const index = this.options.models.find(named)
    return index < 0 ? named : (this.models[number] = index)
  }

  private explain(stream: number, reason: Reason, message: string): void {
    this.options.rejected(reason)
    this.write(failureFrame(Type.rejected, reason, message), stream, isRetryable(reason) ? LIMIT_RETRY_MS : 0)
  }

  private write(frame: Buffer, stream: number, retryAfterMs: number): void {
    const { outbox } = this.connection
    const at = outbox.relay(frame, 0, frame.length)
    if (at < 0) return
    writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, stream)
    writeU32(outbox.bytes, at + HEADER_OFFSET + At.retryAfterMs, retryAfterMs)
  }
}
