import { Reason } from "../domain/Outcome.ts"
import { encodeFrame, locate, pack, parts } from "./Codec.ts"
import { FrameReader } from "./Frame.ts"
import { At, HEADER_OFFSET, readU32, Type } from "./Header.ts"
import type { Limits } from "./Limits.ts"
import { Goodbye, type GoodbyeCode, Hello, read, version, Welcome } from "./Message.ts"
import { Outbox } from "./Outbox.ts"
import { isKnown, isOptional, permissions, type Role } from "./Roles.ts"
import type { Timers } from "./Timers.ts"
import type { SocketEvents, TransportSocket } from "./Transport.ts"
import type { Turn } from "./Turn.ts"

/** Who uses a connection once the greeting is over. */
export interface ConnectionHandler {
  /**
   * A frame the peer's role may send. `start` is its first byte, its header lies at `start + HEADER_OFFSET`. Read it during the call.
   * May call `connection.goodbye` or `connection.cut`: nothing is delivered after that.
   */
  readonly frame: (type: number, bytes: Buffer, start: number, end: number) => void
  /** The peer is gone, for whatever reason. Called exactly once, and nothing after it. */
  readonly closed: (why: string) => void
}

/** What is shared by all connections of a process. */
export interface ConnectionContext {
  readonly turn: Turn
  readonly timers: Timers
  readonly limits: Limits
  /** A peer broke the protocol: for counters and one log line. `hint` never holds payload bytes. */
  readonly violation?: (kind: string, hint: string) => void
}

/** What the accepting side answers to a HELLO. */
export type Greeting =
  | { readonly welcome: Welcome; readonly handler: ConnectionHandler }
  | { readonly refuse: GoodbyeCode; readonly message: string }

type Phase = "greeting" | "open" | "leaving" | "closed"

/** Pings one peer may send between two sweeps of a 10 s window. */
const PINGS_MAX = 200
const WINDOW_MS = 10_000

/**
 * One socket that speaks the protocol: greeting, roles, limits, signs of life, orderly close.
 *
 * Made by `Server` and `dial`. `sweep` is to be called a few times a second: it is where every deadline is checked, so that an idle
 * connection costs no timer.
 */
export class Connection implements SocketEvents {
  readonly outbox: Outbox
  /** The greeting of the other side; set once the phase is "open". */
  peer: Hello | Welcome | undefined
  readonly remoteAddress: string
  private readonly socket: TransportSocket
  private readonly context: ConnectionContext
  private readonly reader: FrameReader
  private readonly greet: ((connection: Connection, hello: Hello) => Greeting) | undefined
  private readonly welcomed: ((connection: Connection, welcome: Welcome) => ConnectionHandler) | undefined
  private readonly gone: (connection: Connection, why: string) => void
  private handler: ConnectionHandler | undefined
  private allowed: Uint8Array
  private phase: Phase = "greeting"
  private phaseSinceMs: number
  private heardMs: number
  private pingedMs: number
  private midFrameSinceMs = -1
  private pings = 0
  private windowMs: number
  private why: string | undefined
  private departed = false

  private constructor(
    socket: TransportSocket,
    context: ConnectionContext,
    side: {
      readonly greet?: (connection: Connection, hello: Hello) => Greeting
      readonly welcomed?: (connection: Connection, welcome: Welcome) => ConnectionHandler
      readonly gone: (connection: Connection, why: string) => void
    }
  ) {
    const now = context.timers.nowMs()
    this.socket = socket
    this.context = context
    this.remoteAddress = socket.remoteAddress
    this.greet = side.greet
    this.welcomed = side.welcomed
    this.gone = side.gone
    this.allowed = nobody
    this.phaseSinceMs = this.heardMs = this.pingedMs = this.windowMs = now
    this.reader = new FrameReader({ frame: this.frame, broken: this.broken }, context.limits.greetingFrameBytes)
    this.outbox = new Outbox({
      socket,
      turn: context.turn,
      limitBytes: context.limits.outboxBytes,
      nowMs: context.timers.nowMs,
      overflowed: () => {
        this.violate("slow_consumer", "outbox full")
        this.cut("slow consumer")
      }
    })
  }

  /** The accepting side: waits for HELLO and lets `greet` decide. `gone` is called once the socket is gone, greeted or not. */
  static accept(
    socket: TransportSocket,
    context: ConnectionContext,
    greet: (connection: Connection, hello: Hello) => Greeting,
    gone: (connection: Connection, why: string) => void
  ): Connection {
    return new Connection(socket, context, { greet, gone })
  }

  /** The dialling side: says HELLO and waits for WELCOME. */
  static open(
    socket: TransportSocket,
    context: ConnectionContext,
    hello: Hello,
    welcomed: (connection: Connection, welcome: Welcome) => ConnectionHandler,
    gone: (connection: Connection, why: string) => void
  ): Connection {
    const connection = new Connection(socket, context, { welcomed, gone })
    connection.send(encodeFrame(Type.hello, {}, { payload: pack(hello) }))
    return connection
  }

  get isOpen(): boolean {
    return this.phase === "open"
  }

  /** Appends a whole frame to the data lane. False when the connection takes nothing any more. */
  send(frame: Buffer): boolean {
    return this.outbox.relay(frame, 0, frame.length) >= 0
  }

  /** Ends the connection in order: GOODBYE, everything written so far, FIN; then at most `goodbyeMs` for the peer's FIN. */
  goodbye(code: GoodbyeCode, message: string): void {
    if (this.phase === "leaving" || this.phase === "closed") return
    this.send(encodeFrame(Type.goodbye, {}, { payload: pack({ code, message }) }))
    this.leave()
    this.tell(code)
  }

  /** Ends the connection at once, with no word. */
  cut(why: string): void {
    if (this.phase === "closed") return
    this.phase = "closed"
    this.tell(why)
    this.socket.terminate()
    this.depart()
  }

  /** Checks every deadline of this connection. */
  sweep(nowMs: number): void {
    const { limits } = this.context
    if (this.phase === "leaving") {
      if (nowMs - this.phaseSinceMs > limits.goodbyeMs) this.cut("no FIN after GOODBYE")
      return
    }
    if (this.phase === "closed") return
    if (this.phase === "greeting") {
      if (nowMs - this.phaseSinceMs > limits.greetingMs) {
        this.violate("greeting_timeout", "no greeting in time")
        this.cut("no greeting in time")
      }
      return
    }
    const blockedSince = this.outbox.blockedSinceMs
    if (blockedSince !== undefined && nowMs - blockedSince > limits.unreadMs) {
      this.violate("slow_consumer", "bytes left unread")
      return this.cut("slow consumer")
    }
    if (!this.reader.midFrame) this.midFrameSinceMs = -1
    else if (this.midFrameSinceMs < 0) this.midFrameSinceMs = nowMs
    else if (nowMs - this.midFrameSinceMs > limits.frameMs) return this.refuse("bad_frame", "frame_timeout", "a frame took too long")
    const silence = nowMs - this.heardMs
    if (silence > limits.silenceMs) return this.cut("silent")
    if (silence > limits.pingMs && nowMs - this.pingedMs > limits.pingMs) {
      this.pingedMs = nowMs
      this.outbox.control(pingFrame)
    }
    if (nowMs - this.windowMs > WINDOW_MS) {
      this.windowMs = nowMs
      this.pings = 0
    }
  }

  /** Counts a broken rule and says GOODBYE. */
  refuse(code: GoodbyeCode, kind: string, hint: string): void {
    this.violate(kind, hint)
    this.goodbye(code, hint)
  }

  /** Counts a broken rule. */
  violate(kind: string, hint: string): void {
    this.context.violation?.(kind, `${this.remoteAddress}: ${hint}`)
  }

  readonly data = (bytes: Buffer): void => {
    if (this.phase === "leaving" || this.phase === "closed") return
    this.heardMs = this.context.timers.nowMs()
    this.reader.push(bytes)
    // A frame still incomplete at a later sweep than the one that first saw it is late; a complete one resets the clock.
    if (!this.reader.midFrame) this.midFrameSinceMs = -1
  }

  readonly drain = (): void => this.outbox.drained()

  readonly ended = (): void => {
    if (this.phase === "closed") return
    this.outbox.finish()
    this.leave()
    this.tell("ended by the peer")
  }

  readonly closed = (): void => {
    this.tell("closed")
    this.depart()
  }

  private leave(): void {
    if (this.phase === "leaving") return
    this.phase = "leaving"
    this.phaseSinceMs = this.context.timers.nowMs()
    this.outbox.finish()
  }

  /** Tells the handler, once, that there is no more to come. */
  private tell(why: string): void {
    if (this.why !== undefined) return
    this.why = why
    this.handler?.closed(why)
  }

  /** Tells the owner, once, that the socket is gone. */
  private depart(): void {
    if (this.departed) return
    this.departed = true
    this.phase = "closed"
    this.outbox.close()
    this.gone(this, this.why ?? "closed")
  }

  private readonly frame = (bytes: Buffer, start: number, end: number): boolean => {
    const type = bytes[start + HEADER_OFFSET + At.type]!
    if (this.phase !== "open") {
      this.firstFrame(type, bytes, start, end)
      return this.isOpen
    }
    if (this.allowed[type] === 0) this.stranger(type, bytes, start)
    else if (type > Type.pong) this.handler!.frame(type, bytes, start, end)
    else this.housekeeping(type, bytes, start, end)
    return this.isOpen
  }

  private housekeeping(type: number, bytes: Buffer, start: number, end: number): void {
    if (type === Type.ping) {
      if (++this.pings > PINGS_MAX) return this.refuse("flood", "ping_flood", "too many PINGs")
      this.outbox.control(pongFrame)
    } else if (type === Type.goodbye) {
      const said = this.payload(Goodbye, bytes, start, end)
      this.leave()
      this.tell(said === undefined ? "goodbye" : `goodbye: ${said.code}${said.message === "" ? "" : ` (${said.message})`}`)
    }
  }

  private stranger(type: number, bytes: Buffer, start: number): void {
    if (!isKnown(type)) {
      if (isOptional(type)) return
      this.violate("unknown_type", `type ${type}`)
      const stream = readU32(bytes, start + HEADER_OFFSET + At.stream)
      this.send(encodeFrame(Type.error, { stream, a: Reason.unknownType }, { payload: pack({ message: `unknown frame type ${type}` }) }))
      return
    }
    this.violate("role", `type ${type} is not for this role`)
    this.cut("role violation")
  }

  private firstFrame(type: number, bytes: Buffer, start: number, end: number): void {
    if (this.greet !== undefined) return this.hello(type, bytes, start, end)
    if (type === Type.goodbye) return this.housekeeping(type, bytes, start, end)
    const welcome = type === Type.welcome ? this.payload(Welcome, bytes, start, end) : undefined
    if (welcome === undefined) return this.stop("bad_greeting", "no WELCOME")
    this.begin(welcome, "balancer")
    this.handler = this.welcomed!(this, welcome)
  }

  private hello(type: number, bytes: Buffer, start: number, end: number): void {
    const hello = type === Type.hello ? this.payload(Hello, bytes, start, end) : undefined
    if (hello === undefined) return this.stop("bad_greeting", "no valid HELLO")
    if (hello.major !== version.major) {
      return this.refuse("version", "version", `this side speaks version ${version.major}, the peer ${hello.major}`)
    }
    const greeting = this.greet!(this, hello)
    if ("refuse" in greeting) return this.refuse(greeting.refuse, greeting.refuse, greeting.message)
    this.begin(hello, hello.role)
    this.handler = greeting.handler
    this.send(encodeFrame(Type.welcome, {}, { payload: pack(greeting.welcome) }))
  }

  private begin(peer: Hello | Welcome, role: Role): void {
    this.peer = peer
    this.phase = "open"
    this.allowed = tables[role]
    this.reader.limit = this.context.limits.frameBytes
  }

  /** Before the greeting nobody gets an answer. */
  private stop(kind: string, hint: string): void {
    this.violate(kind, hint)
    this.cut(hint)
  }

  private readonly broken = (why: "tooShort" | "tooLong" | "shape"): void => {
    if (this.phase !== "open") return this.stop("not_this_protocol", "the first bytes are not a HELLO frame (HTTP or TLS client?)")
    if (why === "tooLong") return this.stop("frame_too_long", `a frame is longer than ${this.reader.limit} bytes`)
    this.refuse("bad_frame", "bad_frame", why === "tooShort" ? "a frame is too short" : "a frame is not [header, chain, extras, payload]")
  }

  private payload<S extends Parameters<typeof read>[0]>(schema: S, bytes: Buffer, start: number, end: number): S["Type"] | undefined {
    const { limits } = this.context
    return locate(bytes, start, end, limits) ? read(schema, bytes, parts.payloadStart, end, limits) : undefined
  }
}


const nobody = new Uint8Array(256)
const tables: Readonly<Record<Role, Uint8Array>> = {
  client: permissions("client"),
  worker: permissions("worker"),
  balancer: permissions("balancer"),
  admin: permissions("admin")
}
const pingFrame = encodeFrame(Type.ping, {})
const pongFrame = encodeFrame(Type.pong, {})
