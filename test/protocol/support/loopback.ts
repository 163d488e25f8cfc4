import { onTestFinished } from "bun:test"
import { bunTransport } from "../../../src/protocol/BunTransport.ts"
import { encodeFrame, locate, pack, parts, unpack } from "../../../src/protocol/Codec.ts"
import type { Connection, ConnectionHandler, Greet } from "../../../src/protocol/Connection.ts"
import { type Gate, guarded, openGate } from "../../../src/protocol/credentials.ts"
import { FrameReader } from "../../../src/protocol/Frame.ts"
import { At, HEADER_OFFSET, readU32, Type } from "../../../src/protocol/Header.ts"
import { defaultLimits, type Limits } from "../../../src/protocol/Limits.ts"
import { faultOf, Prompt, read, readHeartbeat, version, type Welcome } from "../../../src/protocol/Message.ts"
import type { Role } from "../../../src/protocol/Roles.ts"
import { type Server, serve } from "../../../src/protocol/Server.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { Reason } from "../../../src/domain/Outcome.ts"
import { type ReadFrame, readFrame } from "./frames.ts"
import { virtualTimers } from "./virtualTimers.ts"

/** Lets the event loop turn once: sockets are read and written. */
export const nextTurn = (): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  new Turn().soon({ run: resolve })
  return promise
}

/** Waits, for as many turns of the event loop as it takes. */
export const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await nextTurn()
}

export const helloFrame = (role: Role, more: object = {}): Buffer =>
  encodeFrame(
    Type.hello,
    {},
    { payload: pack({ ...version, role, identity: `${role}-1`, incarnation: 7, ...more }) }
  )

const welcome: Welcome = {
  ...version,
  identity: "balancer",
  incarnation: 1,
  frameBytes: defaultLimits.frameBytes,
  models: []
}

/** What a handler has to do with what it reads, and no more: links do the same. */
class Link implements ConnectionHandler {
  private readonly connection: Connection
  private readonly limits: Limits
  private readonly handled: (type: number) => void

  constructor(connection: Connection, limits: Limits, handled: (type: number) => void) {
    this.connection = connection
    this.limits = limits
    this.handled = handled
  }

  readonly frame = (type: number, bytes: Buffer, start: number, end: number): void => {
    const { connection, limits } = this
    this.handled(type)
    if (type === Type.request) this.request(bytes, start, end)
    else if (type === Type.heartbeat && "fault" in readHeartbeat(bytes, start, end, limits)) {
      connection.refuse("bad_message", "bad_message", "HEARTBEAT is not valid")
    }
  }

  readonly closed = (): void => undefined

  private request(bytes: Buffer, start: number, end: number): void {
    const { connection, limits } = this
    const stream = readU32(bytes, start + HEADER_OFFSET + At.stream)
    if (!locate(bytes, start, end, limits)) {
      return connection.refuse("bad_frame", "bad_frame", "a REQUEST is not well formed")
    }
    const payload = unpack(bytes, parts.payloadStart, parts.payloadEnd, limits)
    if (read(Prompt, payload) === undefined) {
      const message = faultOf(Prompt, payload)
      connection.send(
        encodeFrame(Type.error, { stream, a: Reason.badRequest }, { payload: pack({ message }) })
      )
    } else connection.outbox.plain(Type.accepted, stream, 0)
  }
}

/** A server on a real port, on virtual time. It is gone when the test is over. */
export const listen = (
  options: {
    readonly limits?: Partial<Limits>
    readonly greet?: Greet
    readonly gate?: Gate
    readonly connectionsMax?: number
  } = {}
) => {
  const limits = { ...defaultLimits, ...options.limits }
  const { timers, advance } = virtualTimers()
  const violations: Array<{ readonly kind: string; readonly hint: string }> = []
  const defects: Array<unknown> = []
  /** Types that reached a handler. */
  const handled: Array<number> = []
  const connections: Array<Connection> = []
  const turn = new Turn()
  const server: Server = serve({
    transport: bunTransport,
    context: {
      turn,
      timers,
      limits,
      violation: (kind, hint) => violations.push({ kind, hint }),
      defect: (error) => defects.push(error)
    },
    host: "127.0.0.1",
    port: 0,
    connectionsMax: options.connectionsMax ?? 1000,
    greet:
      options.greet ??
      ((connection, hello) => {
        connections.push(connection)
        const link = new Link(connection, limits, (type) => handled.push(type))
        return guarded(options.gate ?? openGate, hello, () => ({ welcome, handler: link }))
      })
  })
  onTestFinished(() => {
    server.close("the test is over", () => undefined)
    // Whoever does not answer GOODBYE is cut.
    advance(defaultLimits.unreadMs + defaultLimits.goodbyeMs + 1000)
  })
  return { server, turn, advance, violations, defects, handled, connections }
}

/** A peer with a plain socket: it sends what it is told to, and notes what it sees. */
export const plainPeer = async (port: number) => {
  const frames: Array<ReadFrame> = []
  const seen = { ended: false, closed: false, receivedBytes: 0 }
  const reader = new FrameReader(
    {
      frame: (bytes, start, end) => frames.push(readFrame(Buffer.from(bytes.subarray(start, end)))) > 0,
      broken: (why) => {
        throw new Error(`the server wrote no frames: ${why}`)
      }
    },
    1 << 24
  )
  let unsent: Buffer = Buffer.alloc(0)
  const write = (): void => {
    const taken = socket.write(unsent)
    if (taken > 0) unsent = unsent.subarray(taken)
  }
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    allowHalfOpen: true,
    socket: {
      binaryType: "buffer",
      open: (opened) => void opened.setNoDelay(true),
      data: (_, bytes) => {
        seen.receivedBytes += bytes.length
        reader.push(bytes)
        while (reader.behind) reader.next()
      },
      drain: write,
      end: () => {
        seen.ended = true
      },
      close: () => {
        seen.closed = true
      },
      error: () => undefined
    }
  })
  onTestFinished(() => socket.terminate())
  return {
    socket,
    seen,
    frames,
    types: () => frames.map(({ type }) => type),
    /** The payload of the GOODBYE it got, if it did. */
    goodbye: () => frames.find(({ type }) => type === Type.goodbye)?.payload,
    /** Sends all of it, as fast as the server reads. */
    send: (...all: ReadonlyArray<Uint8Array>): void => {
      const waits = unsent.length > 0
      unsent = Buffer.concat([unsent, ...all])
      if (!waits) write()
    },
    allSent: () => unsent.length === 0
  }
}
export type PlainPeer = Awaited<ReturnType<typeof plainPeer>>

/** A plain peer whose greeting is over. */
export const greetedPeer = async (port: number, role: Role, more: object = {}): Promise<PlainPeer> => {
  const peer = await plainPeer(port)
  peer.send(helloFrame(role, more))
  await until(() => peer.frames.length === 1)
  return peer
}
