import { bunTransport } from "../../../src/protocol/BunTransport.ts"
import { encodeFrame, locate, pack, parts, unpack } from "../../../src/protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../../../src/protocol/Connection.ts"
import { At, Flag, HEADER_OFFSET, readU16, readU32, Type } from "../../../src/protocol/Header.ts"
import { defaultLimits, FIRST_CREDIT, FIRST_CREDIT_BYTES, mayFollow } from "../../../src/protocol/Limits.ts"
import { type Hello, type RequestExtras, unpackExtras } from "../../../src/protocol/Message.ts"
import { serve, type Server } from "../../../src/protocol/Server.ts"
import { systemTimers, type Timers } from "../../../src/protocol/Timers.ts"
import type { Transport } from "../../../src/protocol/Transport.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { hex64 } from "../../../src/structures/hex64.ts"

/** A REQUEST as it came, and what its sender said about it later. */
export interface Received {
  readonly connection: Connection
  readonly stream: number
  readonly id: string
  readonly flags: number
  readonly model: number
  readonly tenant: number
  readonly class: number
  readonly promptTokens: number
  readonly maxTokens: number
  readonly timeoutMs: number
  readonly session: string
  readonly chain: Buffer
  readonly extras: RequestExtras | undefined
  readonly payload: { readonly prompt: string | null; readonly outputTokens?: number }
  /** Tokens sent so far by `token`. */
  sent: number
  /** Bytes of their frames. */
  sentBytes: number
  cancels: number
  credits: Array<number>
  creditsBytes: Array<number>
  /** The connection it came on is gone. */
  lost: boolean
}

export interface FakeBalancerOptions {
  readonly transport?: Transport
  readonly timers?: Timers
  readonly turn?: Turn
  readonly models?: ReadonlyArray<string>
  readonly refuse?: { readonly refuse: "unauthorized" | "version"; readonly message: string }
  /** Called for each REQUEST, to answer on the spot. */
  readonly onRequest?: (request: Received, balancer: FakeBalancer) => void
}

/** A balancer whose every answer is dictated by the test. */
export class FakeBalancer {
  readonly requests: Array<Received> = []
  readonly hellos: Array<Hello> = []
  /** Broken rules of the peers. */
  readonly violations: Array<string> = []
  /** What an ADMIN_REQUEST is answered; undefined for silence. */
  admin: (question: Record<string, unknown>) => unknown = () => undefined
  connections = new Set<Connection>()
  readonly server: Server
  private waiters: Array<{ readonly met: () => boolean; readonly resolve: () => void }> = []
  private readonly options: FakeBalancerOptions

  constructor(options: FakeBalancerOptions = {}) {
    this.options = options
    this.server = serve({
      transport: options.transport ?? bunTransport,
      context: {
        turn: options.turn ?? new Turn(),
        timers: options.timers ?? systemTimers,
        limits: defaultLimits,
        violation: (kind, hint) => this.violations.push(`${kind}: ${hint}`)
      },
      host: "127.0.0.1",
      port: 0,
      connectionsMax: 1024,
      greet: (connection, hello) => {
        this.hellos.push(hello)
        if (options.refuse !== undefined) return options.refuse
        this.connections.add(connection)
        return {
          welcome: {
            major: 1,
            minor: 0,
            identity: "fake",
            incarnation: 1,
            frameBytes: defaultLimits.frameBytes,
            models: options.models ?? ["m"]
          },
          handler: this.handler(connection)
        }
      }
    })
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: "127.0.0.1", port: this.server.port }
  }

  close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.server.close("test over", resolve)
    return promise
  }

  /** Resolves once `met` holds; looked at after every frame and every lost connection. */
  until(met: () => boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.waiters.push({ met, resolve })
    this.look()
    return promise
  }

  accept(request: Received): void {
    request.connection.outbox.plain(Type.accepted, request.stream, 0)
  }

  token(
    request: Received,
    text = "x",
    over: { index?: number; count?: number; attempt?: number } = {}
  ): void {
    const count = over.count ?? 1
    const fields = {
      stream: request.stream,
      attempt: over.attempt ?? 1,
      a: over.index ?? request.sent,
      b: count
    }
    const frame = encodeFrame(Type.token, fields, { payload: pack(text) })
    request.sent += count
    request.sentBytes += frame.length
    request.connection.send(frame)
  }

  /** Whether the client's credit allows one more token with this text. */
  mayToken(request: Received, text: string): boolean {
    const { length } = encodeFrame(Type.token, {}, { payload: pack(text) })
    const upToBytes = Math.max(FIRST_CREDIT_BYTES, ...request.creditsBytes)
    return (
      request.sent < Math.max(FIRST_CREDIT, ...request.credits) &&
      mayFollow(request.sentBytes, length, upToBytes)
    )
  }

  done(
    request: Received,
    over: { tokens?: number; attempt?: number; cached?: number; payload?: unknown; extras?: unknown } = {}
  ): void {
    const payload = over.payload ?? { reason: "stop", worker: "w1", queueMs: 1, prefillMs: 2, totalMs: 3 }
    const fields = {
      stream: request.stream,
      attempt: over.attempt ?? 1,
      flags: over.extras === undefined ? 0 : Flag.extras,
      a: over.tokens ?? request.sent,
      b: over.cached ?? 0
    }
    const extras = over.extras === undefined ? undefined : pack(over.extras)
    request.connection.send(encodeFrame(Type.done, fields, { extras, payload: pack(payload) }))
  }

  reject(request: Received, reason: number, retryAfterMs = 0, message = "no"): void {
    const fields = { stream: request.stream, a: reason, b: retryAfterMs }
    request.connection.send(encodeFrame(Type.rejected, fields, { payload: pack({ message }) }))
  }

  error(
    request: Received,
    reason: number,
    over: { delivered?: number; attempt?: number; message?: string; retryAfterMs?: number } = {}
  ): void {
    const fields = {
      stream: request.stream,
      attempt: over.attempt ?? 1,
      a: reason,
      b: over.retryAfterMs ?? 0,
      c: over.delivered ?? request.sent
    }
    request.connection.send(
      encodeFrame(Type.error, fields, { payload: pack({ message: over.message ?? "broken" }) })
    )
  }

  /** Accepts, sends `texts` one by one, and ends. */
  answer(request: Received, texts: ReadonlyArray<string>): void {
    this.accept(request)
    for (const text of texts) this.token(request, text)
    this.done(request)
  }

  private look(): void {
    this.waiters = this.waiters.filter(({ met, resolve }) => {
      if (!met()) return true
      resolve()
      return false
    })
  }

  private handler(connection: Connection): ConnectionHandler {
    const open = new Map<number, Received>()
    return {
      frame: (type, bytes, start, end) => {
        const header = start + HEADER_OFFSET
        const stream = readU32(bytes, header + At.stream)
        if (type === Type.request) {
          const request = received(connection, bytes, start, end)
          open.set(stream, request)
          this.requests.push(request)
          this.options.onRequest?.(request, this)
        } else if (type === Type.cancel) open.get(stream)!.cancels++
        else if (type === Type.credit) {
          open.get(stream)!.credits.push(readU32(bytes, header + At.creditUpTo))
          open.get(stream)!.creditsBytes.push(readU32(bytes, header + At.creditUpToBytes))
        } else if (type === Type.adminRequest) {
          locate(bytes, start, end, defaultLimits)
          const question = unpack(bytes, parts.payloadStart, end, defaultLimits) as Record<string, unknown>
          const answer = this.admin(question)
          if (answer !== undefined)
            connection.send(encodeFrame(Type.adminReply, { stream }, { payload: pack(answer) }))
        }
        this.look()
      },
      closed: () => {
        this.connections.delete(connection)
        for (const request of open.values()) request.lost = true
        this.look()
      }
    }
  }
}

const received = (connection: Connection, bytes: Buffer, start: number, end: number): Received => {
  const header = start + HEADER_OFFSET
  const u32 = (at: number) => readU32(bytes, header + at)
  if (!locate(bytes, start, end, defaultLimits)) throw new Error("a REQUEST that is not well formed")
  const { chainStart, chainEnd, extrasStart, payloadStart } = { ...parts }
  const flags = bytes[header + At.flags]!
  return {
    connection,
    stream: u32(At.stream),
    id: hex64(u32(At.idHigh), u32(At.idLow)),
    flags,
    model: readU16(bytes, header + At.model),
    tenant: readU16(bytes, header + At.tenant),
    class: bytes[header + At.class]!,
    promptTokens: u32(At.promptTokens),
    maxTokens: u32(At.maxTokens),
    timeoutMs: u32(At.timeoutMs),
    session: hex64(u32(At.sessionHigh), u32(At.sessionLow)),
    chain: Buffer.from(bytes.subarray(chainStart, chainEnd)),
    extras:
      (flags & Flag.extras) === 0 ? undefined : unpackExtras(bytes, extrasStart, payloadStart, defaultLimits),
    payload: unpack(bytes, payloadStart, end, defaultLimits) as Received["payload"],
    sent: 0,
    sentBytes: 0,
    cancels: 0,
    credits: [],
    creditsBytes: [],
    lost: false
  }
}
