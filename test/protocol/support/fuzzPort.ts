import { bunTransport } from "../../../src/protocol/BunTransport.ts"
import { encodeFrame, locate, pack, parts, unpack } from "../../../src/protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../../../src/protocol/Connection.ts"
import { FrameReader } from "../../../src/protocol/Frame.ts"
import { At, Flag, HEADER_OFFSET, Type, writeU32 } from "../../../src/protocol/Header.ts"
import { defaultLimits } from "../../../src/protocol/Limits.ts"
import {
  Prompt,
  read,
  readHeartbeat,
  readPayload,
  Register,
  unpackExtras,
  version
} from "../../../src/protocol/Message.ts"
import { type Role, roles } from "../../../src/protocol/Roles.ts"
import { type Server, serve } from "../../../src/protocol/Server.ts"
import { systemTimers } from "../../../src/protocol/Timers.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { makeRng, type Rng } from "../../../src/structures/Rng.ts"
import { fuzzedFrame } from "./frameFuzzer.ts"
import { visit } from "./visit.ts"

/** Frames sent on one connection, of which the server reads those before the one that ends it; and connections at a time. */
const FRAMES_PER_CONNECTION = 64
const CONNECTIONS = 8

export interface FuzzReport {
  readonly connections: number
  /** Frames that reached a handler, and rules that were seen broken: each by one frame more. */
  readonly handled: number
  readonly violations: number
  /** Errors thrown by our own code. Must be empty. */
  readonly defects: ReadonlyArray<unknown>
  /** What a bystander on the same port saw. It must be answered to the end, and read frames only. */
  readonly bystander: {
    readonly pongs: number
    readonly pings: number
    readonly relayed: number
    readonly broken: boolean
  }
  readonly connectionsLeft: number
  readonly rssGrowthBytes: number
}

/** Does what links do with every frame, and relays a worker's TOKENs to the bystander unread. */
class Links {
  handled = 0
  bystander: Connection | undefined

  of(connection: Connection): ConnectionHandler {
    const limits = defaultLimits
    return {
      frame: (type, bytes, start, end) => {
        this.handled++
        if (type === Type.token) this.relay(bytes, start, end)
        else if (type === Type.heartbeat) readHeartbeat(bytes, start, end, limits)
        else if (type === Type.register) readPayload(Register, bytes, start, end, limits)
        else if (type === Type.request) {
          if (!locate(bytes, start, end, limits))
            return connection.refuse("bad_frame", "bad_frame", "REQUEST")
          const { extrasStart, payloadStart, payloadEnd } = parts
          if ((bytes[start + HEADER_OFFSET + At.flags]! & Flag.extras) !== 0)
            unpackExtras(bytes, extrasStart, payloadStart, limits)
          read(Prompt, unpack(bytes, payloadStart, payloadEnd, limits))
        }
      },
      closed: () => undefined
    }
  }

  private relay(bytes: Buffer, start: number, end: number): void {
    const { outbox } = this.bystander!
    const at = outbox.relay(bytes, start, end)
    if (at >= 0) writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, 1)
  }
}

/** Sends fuzzed frames to a port of its own until `frames` of them had an effect, and reports what became of it. */
export const fuzzPort = async (options: {
  readonly frames: number
  readonly seed: number
}): Promise<FuzzReport> => {
  const rng = makeRng(options.seed)
  const links = new Links()
  const defects: Array<unknown> = []
  let violations = 0
  const turn = new Turn()
  const server = serve({
    transport: bunTransport,
    context: {
      turn,
      timers: systemTimers,
      limits: defaultLimits,
      violation: () => violations++,
      defect: (error) => defects.push(error)
    },
    host: "127.0.0.1",
    port: 0,
    connectionsMax: 1000,
    greet: (connection, hello) => {
      if (hello.identity === "bystander") links.bystander = connection
      const welcome = {
        ...version,
        identity: "b",
        incarnation: 1,
        frameBytes: defaultLimits.frameBytes,
        models: []
      }
      return { welcome, handler: links.of(connection) }
    }
  })
  const bystander = await watch(server)
  Bun.gc(true)
  const rssBefore = process.memoryUsage().rss
  let connections = 0
  const attackOn = async (own: Rng): Promise<void> => {
    while (links.handled + violations < options.frames) {
      connections++
      await attack(server.port, own, `fuzz-${connections}`)
      bystander.ping()
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, i) => attackOn(rng.split(i))))
  const seen = await bystander.leave()
  const { promise, resolve } = Promise.withResolvers<void>()
  const connectionsLeft = server.connectionCount()
  server.close("the end", resolve)
  await promise
  Bun.gc(true)
  return {
    connections,
    handled: links.handled,
    violations,
    defects,
    bystander: seen,
    connectionsLeft,
    rssGrowthBytes: process.memoryUsage().rss - rssBefore
  }
}

const hello = (role: Role, identity: string): Buffer =>
  encodeFrame(Type.hello, {}, { payload: pack({ ...version, role, identity, incarnation: 1 }) })

/** One connection that sends frames in random segments and leaves; one in twenty does not greet. Ends when the socket is closed. */
const attack = async (port: number, rng: Rng, identity: string): Promise<void> => {
  const role = roles[rng.int(roles.length)]!
  const frames = Array.from({ length: FRAMES_PER_CONNECTION }, () => fuzzedFrame(role, rng))
  const bytes = Buffer.concat(rng.int(20) === 0 ? frames : [hello(role, identity), ...frames])
  await visit(port, bytes, () => 1 + rng.int(rng.int(8) === 0 ? 20 : 20_000))
}

/** A client that does nothing but PING, and what a worker's TOKENs look like to it. */
const watch = async (server: Server) => {
  const seen = { pongs: 0, pings: 0, relayed: 0, broken: false }
  const left = Promise.withResolvers<void>()
  const welcomed = Promise.withResolvers<void>()
  const reader = new FrameReader(
    {
      frame: (bytes, start) => {
        const type = bytes[start + HEADER_OFFSET]
        if (type === Type.pong) seen.pongs++
        else if (type === Type.token) seen.relayed++
        else welcomed.resolve()
        return true
      },
      broken: () => {
        seen.broken = true
      }
    },
    defaultLimits.frameBytes
  )
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: server.port,
    allowHalfOpen: true,
    socket: {
      binaryType: "buffer",
      open: (opened) => void opened.write(hello("client", "bystander")),
      data: (_, bytes) => {
        reader.push(bytes)
        while (reader.behind) reader.next()
      },
      close: () => left.resolve(),
      error: () => undefined
    }
  })
  await welcomed.promise
  const ping = encodeFrame(Type.ping, {})
  return {
    ping: (): void => {
      // It is no flooder itself: 400 in 10 s are its own limit.
      if (seen.pings === 300) return
      seen.pings++
      socket.write(ping)
    },
    leave: async () => {
      socket.shutdown()
      await left.promise
      return seen
    }
  }
}
