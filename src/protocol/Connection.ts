import { Reason } from "../domain/Outcome.ts"
import { encodeFrame, pack } from "./Codec.ts"
import { FrameReader } from "./Frame.ts"
import { At, HEADER_OFFSET, readU32, Type } from "./Header.ts"
import { helloLimits, type Limits } from "./Limits.ts"
import {
  Challenge,
  Goodbye,
  type GoodbyeCode,
  Hello,
  Proof,
  readPayload,
  version,
  Welcome
} from "./Message.ts"
import { proofOf } from "./credentials.ts"
import { Outbox } from "./Outbox.ts"
import { isKnown, isOptional, permissions, Right, type Role } from "./Roles.ts"
import { scanned } from "./Scan.ts"
import type { Timers } from "./Timers.ts"
import type { SocketEvents, TransportSocket } from "./Transport.ts"
import type { Task, Turn } from "./Turn.ts"

/** Who uses a connection once the greeting is over. */
export interface ConnectionHandler {
  /**
   * A frame the peer's role may send. `start` is its first byte, its header lies at `start + HEADER_OFFSET`. Its bytes are the
   * handler's until the end of the turn. May call `connection.goodbye` or `connection.cut`: nothing is delivered after that.
   */
  readonly frame: (type: number, bytes: Buffer, start: number, end: number) => void
  /** The peer is gone, for whatever reason. Called exactly once, and nothing after it. */
  readonly closed: (why: string) => void
  /** The kernel takes bytes again, after it had refused some. */
  readonly drained?: () => void
}

/** Of a connection that ended before anybody was to use it. */
export const deaf: ConnectionHandler = { frame: () => undefined, closed: () => undefined }

/** What is shared by all connections of a process. */
export interface ConnectionContext {
  readonly turn: Turn
  readonly timers: Timers
  readonly limits: Limits
  /** A peer broke the protocol: for counters and one log line. `kind` is one of those in docs/protocol.md; `hint` never holds payload bytes. */
  readonly violation?: (kind: string, hint: string) => void
  /** A handler threw: its connection was cut. Without this the error is thrown again, as an uncaught one. */
  readonly defect?: (error: unknown) => void
}

/** How a greeting ends. */
export type Verdict =
  | { readonly welcome: Welcome; readonly handler: ConnectionHandler }
  | { readonly refuse: GoodbyeCode; readonly message: string }

/** What the accepting side answers to a HELLO: its verdict, or a nonce, and the verdict on the proof that comes back. */
export type Greeting =
  | Verdict
  | { readonly nonce: Uint8Array; readonly judge: (proof: Uint8Array) => Verdict }

export type Greet = (connection: Connection, hello: Hello) => Greeting

/** What the dialling side says of itself; and its credential, which never leaves it. */
export interface Introduction {
  readonly hello: Hello
  readonly credential?: string | undefined
}

type Phase = "greeting" | "open" | "leaving" | "closed"

/** Frames of little meaning (PING, PONG, HEARTBEAT, unknown types) a peer may send in a window. A worker's own pace is 40. */
const CHATTER_MAX = 400
const WINDOW_MS = 10_000
/** Longest time between two sweeps that still counts in full: what lies beyond was our own pause, not the peer's silence. */
const BLIND_MS = 500
/** How much of what a peer may have us scan may come at once. */
const BURST_MS = 1_000

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
  /** How the peer ended it: the code of its GOODBYE, or the kind of rule that it broke. For programs, as the reason is for people. */
  peerCode: string | undefined
  /** The code of our own GOODBYE. */
  ownCode: GoodbyeCode | undefined
  readonly remoteAddress: string
  private readonly socket: TransportSocket
  private readonly context: ConnectionContext
  private readonly reader: FrameReader
  private readonly greet: Greet | undefined
  private readonly welcomed: ((connection: Connection, welcome: Welcome) => ConnectionHandler) | undefined
  private readonly gone: (connection: Connection, why: string) => void
  private handler: ConnectionHandler | undefined
  /** Accepting: takes the PROOF that is awaited. Dialling: what a CHALLENGE is answered from. */
  private judge: ((proof: Uint8Array) => void) | undefined
  private introduction: Introduction | undefined
  private allowed: Uint8Array
  private phase: Phase = "greeting"
  private phaseSinceMs: number
  /** Leaving: when bytes last moved. */
  private movedMs: number
  /**
   * When the last bytes came: the time of the frames being handled, read once a chunk. Later by what this process stood still since, as
   * with all others on a machine that was stopped: they could not be heard.
   */
  heardMs: number
  private sweptMs: number
  private pingedMs: number
  /** Silence after which this peer is pinged: up to a quarter less for some, lest all who came together are pinged together. */
  private patienceMs: number
  /** The split frame that the last sweep saw incomplete, and when one first did. */
  private lateFrame = -1
  private lateSinceMs = 0
  private chatter = 0
  private windowMs: number
  /** When the values scanned so far would have been scanned at the rate allowed. */
  private scannedMs = 0
  /** Whether the peer dialled us as a client, and since when it has too many bytes unread. */
  private isClient = false
  private behindSinceMs: number | undefined
  /** Whether the socket is paused because frames of its last chunk wait for their turn. */
  private paused = false
  private why: string | undefined
  private departed = false
  private outlaw = false

  private constructor(
    socket: TransportSocket,
    context: ConnectionContext,
    side: {
      readonly greet?: Greet
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
    this.patienceMs = context.limits.pingMs
    this.phaseSinceMs = this.movedMs = this.heardMs = this.pingedMs = this.windowMs = this.sweptMs = now
    // Whom we dialled may greet at length: WELCOME lists models. A stranger may not.
    const { frameBytes, greetingFrameBytes } = context.limits
    const sink = { frame: this.frame, broken: this.broken }
    this.reader = new FrameReader(sink, side.greet === undefined ? frameBytes : greetingFrameBytes)
    this.outbox = new Outbox({
      socket,
      turn: context.turn,
      limitBytes: context.limits.outboxBytes,
      nowMs: context.timers.nowMs,
      overflowed: () => this.stop("slow_consumer", "outbox full")
    })
  }

  /** The accepting side: waits for HELLO and lets `greet` decide. `gone` is called once the socket is gone, greeted or not. */
  static accept(
    socket: TransportSocket,
    context: ConnectionContext,
    greet: Greet,
    gone: (connection: Connection, why: string) => void
  ): Connection {
    return new Connection(socket, context, { greet, gone })
  }

  /** The dialling side: says HELLO, answers a CHALLENGE, and waits for WELCOME. */
  static open(
    socket: TransportSocket,
    context: ConnectionContext,
    introduction: Introduction,
    welcomed: (connection: Connection, welcome: Welcome) => ConnectionHandler,
    gone: (connection: Connection, why: string) => void
  ): Connection {
    const connection = new Connection(socket, context, { welcomed, gone })
    connection.introduction = introduction
    connection.send(encodeFrame(Type.hello, {}, { payload: pack(introduction.hello) }))
    return connection
  }

  get isOpen(): boolean {
    return this.phase === "open"
  }

  /** Whether the peer was expelled. */
  get isOutlaw(): boolean {
    return this.outlaw
  }

  /** Appends a whole frame to the data lane. False when the connection takes nothing any more. */
  send(frame: Buffer): boolean {
    return this.outbox.relay(frame, 0, frame.length) >= 0
  }

  /** Ends the connection in order: GOODBYE, everything written so far, FIN; then at most `goodbyeMs` for the peer's FIN. */
  goodbye(code: GoodbyeCode, message: string): void {
    if (this.phase === "leaving" || this.phase === "closed") return
    this.send(encodeFrame(Type.goodbye, {}, { payload: pack({ code, message }) }))
    this.ownCode = code
    this.leave(code)
  }

  /** Ends the connection at once, with no word. */
  cut(why: string): void {
    if (this.phase === "closed") return
    this.phase = "closed"
    this.tell(why)
    this.socket.terminate()
    this.depart()
  }

  /** Counts an offence, cuts the connection, and has the server refuse this identity for a while. */
  expel(kind: string, hint: string): void {
    this.outlaw = true
    this.stop(kind, hint)
  }

  /** Checks every deadline of this connection. */
  sweep(nowMs: number): void {
    const { limits } = this.context
    const pausedMs = Math.max(0, nowMs - this.sweptMs - BLIND_MS)
    this.heardMs = Math.min(nowMs, this.heardMs + pausedMs)
    this.sweptMs = nowMs
    if (this.phase === "open") this.sweepOpen(nowMs, limits)
    else if (this.phase === "greeting") {
      if (nowMs - this.phaseSinceMs > limits.greetingMs) this.stop("greeting_timeout", "no greeting in time")
    } else if (this.phase === "leaving") {
      const isStuck = nowMs - this.movedMs > limits.goodbyeMs
      if (isStuck || nowMs - this.phaseSinceMs > limits.unreadMs) this.cut("no FIN after GOODBYE")
    }
  }

  private sweepOpen(nowMs: number, limits: Limits): void {
    if (nowMs - this.windowMs > WINDOW_MS) {
      this.windowMs = nowMs
      this.chatter = 0
    }
    const blockedSinceMs = this.outbox.blockedSinceMs
    if (blockedSinceMs !== undefined && nowMs - blockedSinceMs > limits.unreadMs) {
      return this.stop("slow_consumer", "bytes left unread")
    }
    if (this.isBehind(nowMs, limits)) return this.stop("slow_consumer", "too many bytes left unread")
    const { midFrame, split } = this.reader
    if (!midFrame) this.lateFrame = -1
    else if (this.lateFrame !== split) {
      this.lateFrame = split
      this.lateSinceMs = nowMs
    } else if (nowMs - this.lateSinceMs > limits.frameMs) {
      return this.refuse("bad_frame", "frame_timeout", "a frame took too long")
    }
    const silenceMs = nowMs - this.heardMs
    if (silenceMs > limits.silenceMs) return this.stop("silent", "silent")
    if (silenceMs > this.patienceMs && nowMs - this.pingedMs > this.patienceMs) {
      this.pingedMs = nowMs
      this.outbox.control(pingFrame)
    }
  }

  /** Whether a client has been too far behind for too long. What it caught up with between two looks, `drain` has noted. */
  private isBehind(nowMs: number, { behindBytes, behindMs }: Limits): boolean {
    const { blockedSinceMs, pending } = this.outbox
    if (!this.isClient || blockedSinceMs === undefined || pending <= behindBytes) return false
    this.behindSinceMs ??= nowMs
    return nowMs - this.behindSinceMs > behindMs
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
    this.context.turn.heard()
    this.read(bytes)
    if (this.paused || !this.isOpen || !this.reader.behind) return
    this.paused = true
    this.socket.pause()
    this.context.turn.soon(this.slice)
  }

  readonly drain = (): void => {
    this.movedMs = this.context.timers.nowMs()
    this.outbox.drained()
    if (this.outbox.pending <= this.context.limits.behindBytes) this.behindSinceMs = undefined
    if (this.isOpen) this.handler?.drained?.()
  }

  readonly ended = (): void => {
    while (this.isOpen && this.reader.behind) this.read()
    this.leave("ended by the peer")
  }

  readonly closed = (): void => {
    this.tell("closed")
    this.depart()
  }

  /** The next slice of a chunk that held too many frames for one turn. */
  private readonly slice: Task = {
    run: () => {
      if (this.isOpen) this.read()
      if (this.isOpen && this.reader.behind) return this.context.turn.soon(this.slice)
      this.paused = false
      if (this.phase !== "closed") this.socket.resume()
    }
  }

  private read(chunk?: Buffer): void {
    const before = scanned.total
    try {
      if (chunk === undefined) this.reader.next()
      else this.reader.push(chunk)
    } catch (error) {
      this.cut("defect")
      this.report(error)
    }
    if (scanned.total > before && this.greet !== undefined) this.charge(scanned.total - before)
  }

  /** Counted once a slice, whoever asked for the scans: frames that are passed on unread cost nothing here. */
  private charge(nodes: number): void {
    const costMs = (nodes * 1000) / this.context.limits.nodesPerSecond
    this.scannedMs = Math.max(this.scannedMs, this.heardMs) + costMs
    if (this.isOpen && this.scannedMs - this.heardMs > BURST_MS)
      this.refuse("flood", "flood", "too many msgpack values")
  }

  private report(error: unknown): void {
    if (this.context.defect !== undefined) this.context.defect(error)
    // The turn lets out what its tasks throw.
    else this.context.turn.soon({ run: () => rethrow(error) })
  }

  /** Nothing more is read or appended; what was written leaves, then FIN. */
  private leave(why: string): void {
    if (this.phase === "leaving" || this.phase === "closed") return
    this.phase = "leaving"
    this.phaseSinceMs = this.movedMs = this.context.timers.nowMs()
    this.outbox.finish()
    this.tell(why)
  }

  /** Tells the handler, once, that there is no more to come. */
  private tell(why: string): void {
    if (this.why !== undefined) return
    this.why = why
    if (this.handler !== undefined) this.dismiss(this.handler, why)
  }

  private dismiss(handler: ConnectionHandler, why: string): void {
    try {
      handler.closed(why)
    } catch (error) {
      this.report(error)
    }
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
    const right = this.allowed[type]!
    if (right === Right.plain) this.handler!.frame(type, bytes, start, end)
    else if (this.phase === "greeting") this.greeting(type, bytes, start, end)
    else if (right === Right.watched) this.watched(type, bytes, start, end)
    else if (isKnown(type)) this.expel("role", `a frame of type ${type} is not for this role`)
    else if (!isOptional(type)) this.unknown(type, bytes, start)
    return this.phase === "open" || this.phase === "greeting"
  }

  private watched(type: number, bytes: Buffer, start: number, end: number): void {
    if (this.isFlood()) return
    if (type === Type.ping) this.outbox.control(pongFrame)
    else if (type === Type.goodbye) this.farewell(bytes, start, end)
    else if (type !== Type.pong) this.handler!.frame(type, bytes, start, end)
  }

  private isFlood(): boolean {
    if (++this.chatter <= CHATTER_MAX) return false
    this.refuse("flood", "flood", "too many PING, PONG, HEARTBEAT or unknown frames")
    return true
  }

  private farewell(bytes: Buffer, start: number, end: number): void {
    const said = readPayload(Goodbye, bytes, start, end, this.context.limits)
    if (said === undefined) return this.leave("goodbye")
    const { code, message } = said
    this.peerCode = code
    this.leave(message === "" ? `goodbye: ${code}` : `goodbye: ${code} (${message})`)
  }

  private unknown(type: number, bytes: Buffer, start: number): void {
    if (this.isFlood()) return
    this.violate("unknown_type", `type ${type}`)
    const stream = readU32(bytes, start + HEADER_OFFSET + At.stream)
    const message = `unknown frame type ${type}`
    this.send(encodeFrame(Type.error, { stream, a: Reason.unknownType }, { payload: pack({ message }) }))
  }

  private greeting(type: number, bytes: Buffer, start: number, end: number): void {
    if (this.judge !== undefined) return this.proof(this.judge, type, bytes, start, end)
    if (this.greet !== undefined) return this.hello(this.greet, type, bytes, start, end)
    if (type === Type.goodbye) return this.farewell(bytes, start, end)
    const { limits } = this.context
    if (type === Type.challenge && this.introduction !== undefined)
      return this.prove(this.introduction, bytes, start, end)
    const welcome = type === Type.welcome ? readPayload(Welcome, bytes, start, end, limits) : undefined
    if (welcome === undefined) return this.stop("bad_greeting", "no WELCOME")
    if (welcome.major !== version.major) return this.stop("version", otherVersion(welcome))
    this.begin(welcome, "balancer")
    // A balancer passes on whole what it takes from others, whatever this side would allow.
    this.reader.limit = Math.max(this.reader.limit, welcome.frameBytes)
    this.attach(this.welcomed!(this, welcome))
  }

  private hello(greet: Greet, type: number, bytes: Buffer, start: number, end: number): void {
    const hello = type === Type.hello ? readPayload(Hello, bytes, start, end, helloLimits) : undefined
    if (hello === undefined) return this.stop("bad_greeting", "no valid HELLO")
    if (hello.major !== version.major) return this.refuse("version", "version", otherVersion(hello))
    const greeting = greet(this, hello)
    if (!("nonce" in greeting)) return this.answer(hello, greeting)
    this.judge = (proof) => this.answer(hello, greeting.judge(proof))
    this.send(encodeFrame(Type.challenge, {}, { payload: pack({ nonce: greeting.nonce }) }))
  }

  private proof(
    judge: (proof: Uint8Array) => void,
    type: number,
    bytes: Buffer,
    start: number,
    end: number
  ): void {
    const said = type === Type.proof ? readPayload(Proof, bytes, start, end, helloLimits) : undefined
    if (said === undefined) return this.stop("bad_greeting", "no valid PROOF")
    this.judge = undefined
    judge(said.proof)
  }

  private answer(hello: Hello, verdict: Verdict): void {
    if ("refuse" in verdict) return this.refuse(verdict.refuse, verdict.refuse, verdict.message)
    if (this.phase === "greeting") this.begin(hello, hello.role)
    this.attach(verdict.handler)
    this.send(encodeFrame(Type.welcome, {}, { payload: pack(verdict.welcome) }))
  }

  /** Once: who has no credential proves the empty one, and learns why that is refused. */
  private prove({ credential = "", hello }: Introduction, bytes: Buffer, start: number, end: number): void {
    this.introduction = undefined
    const said = readPayload(Challenge, bytes, start, end, helloLimits)
    if (said === undefined) return this.stop("bad_greeting", "no valid CHALLENGE")
    const proof = proofOf(credential, hello, said.nonce)
    this.send(encodeFrame(Type.proof, {}, { payload: pack({ proof }) }))
  }

  private begin(peer: Hello | Welcome, role: Role): void {
    this.peer = peer
    this.phase = "open"
    this.allowed = rights[role]
    this.isClient = role === "client"
    this.reader.limit = this.context.limits.frameBytes
    // Incarnations are drawn at random.
    this.patienceMs = this.context.limits.pingMs * (1 - peer.incarnation / 2 ** 34)
  }

  /** The handler may have ended the connection before there was a handler. */
  private attach(handler: ConnectionHandler): void {
    this.handler = handler
    if (this.why !== undefined) this.dismiss(handler, this.why)
  }

  /** Counts a broken rule and ends the connection with no word: to strangers, and to who does not read. */
  private stop(kind: string, hint: string): void {
    this.violate(kind, hint)
    this.peerCode = kind
    this.cut(hint)
  }

  private readonly broken = (why: "tooShort" | "tooLong" | "shape", length: number): void => {
    if (this.phase === "greeting")
      return this.stop("not_this_protocol", stranger(length, this.introduction !== undefined))
    if (why === "tooLong") return this.stop("frame_too_long", `more than ${this.reader.limit} bytes`)
    const hint = why === "tooShort" ? "too short" : "not [header, chain, extras, payload]"
    this.refuse("bad_frame", "bad_frame", `a frame is ${hint}`)
  }
}

/** Whether a peer ended a connection because it does not let this side in as it is: coming back is of no use. */
export const isRefusal = (code: string | undefined): boolean => code === "unauthorized" || code === "version"

const otherVersion = ({ major }: Hello | Welcome): string =>
  `this side speaks version ${version.major}, the peer ${major}`

const rethrow = (error: unknown): never => {
  throw error
}

/** What speaks when the first bytes are no frame, guessed from the four that should be a length. */
const stranger = (length: number, isDialled: boolean): string => {
  if (isDialled)
    return `${length === HTTP ? "an HTTP server" : "something else than a balancer"} answers there, use the TCP address of the cluster`
  if (length >>> 16 === 0x1603) return "TLS client on a plaintext port"
  const isText = [24, 16, 8, 0].every((shift) => isPrintable((length >>> shift) & 0xff))
  return isText ? "text on this port: an HTTP client?" : "the first bytes are not a HELLO frame"
}
/** The four letters, as a length. */
const HTTP = 0x48545450
const isPrintable = (byte: number): boolean => byte >= 0x20 && byte < 0x7f

const nobody = new Uint8Array(256)
const rights: Readonly<Record<Role, Uint8Array>> = {
  client: permissions("client"),
  worker: permissions("worker"),
  balancer: permissions("balancer"),
  admin: permissions("admin")
}
const pingFrame = encodeFrame(Type.ping, {})
const pongFrame = encodeFrame(Type.pong, {})
