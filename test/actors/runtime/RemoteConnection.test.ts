import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ActorRef } from "../../../src/actors/runtime/ActorRef.ts"
import { spawn } from "../../../src/actors/runtime/Cell.ts"
import { Dispatcher } from "../../../src/actors/runtime/Dispatcher.ts"
import { type Down, isNormal, type Process, Watchers } from "../../../src/actors/runtime/Process.ts"
import { LinkLost, type RemoteLink, RemoteRef } from "../../../src/actors/runtime/RemoteRef.ts"
import { bunTransport } from "../../../src/protocol/BunTransport.ts"
import { encodeFrame } from "../../../src/protocol/Codec.ts"
import type { Connection, ConnectionHandler } from "../../../src/protocol/Connection.ts"
import { dial } from "../../../src/protocol/dial.ts"
import { At, HEADER_OFFSET, readU32, Type } from "../../../src/protocol/Header.ts"
import { defaultLimits } from "../../../src/protocol/Limits.ts"
import { serve } from "../../../src/protocol/Server.ts"
import { systemTimers } from "../../../src/protocol/Timers.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { live } from "../../support/effectTest.ts"

const NORMAL = 1
const CRASH = 2
const greeting = { major: 1, minor: 0, identity: "test", incarnation: 1 }
const fieldOf = (bytes: Buffer, start: number) => readU32(bytes, start + HEADER_OFFSET + At.stream)

/** Reaches a far actor of numbers: CREDIT in the user lane, CANCEL in the control lane, DRAIN asks it to end, ERROR says it has. */
const farSide = (connection: Connection, incarnation: number) => {
  const id = "far"
  const watchers = new Watchers()
  const down = (exit: Exit.Exit<void, unknown>) => watchers.announce({ id, incarnation, exit })
  const link: RemoteLink<number> = {
    send: (message, lane) => {
      if (!connection.isOpen) return false
      if (lane === "user") return connection.send(encodeFrame(Type.credit, { stream: message }))
      connection.outbox.control(encodeFrame(Type.cancel, { stream: message }))
      return true
    },
    end: (how) => void connection.send(encodeFrame(Type.drain, { stream: how === "stop" ? NORMAL : CRASH })),
    onDown: (listener) => void watchers.watch(({ exit }) => listener(exit))
  }
  const handler: ConnectionHandler = {
    frame: (_, bytes, start) => down(fieldOf(bytes, start) === NORMAL ? Exit.void : Exit.fail("crash")),
    closed: () => down(Exit.fail(new LinkLost({ actor: id })))
  }
  return { ref: new RemoteRef({ id, incarnation }, link), handler }
}

/** Gives the actor at this end to the other side. */
const nearSide = (connection: Connection, near: ActorRef<number>): ConnectionHandler => {
  near.watch(({ exit }) => {
    connection.send(encodeFrame(Type.error, { stream: isNormal(exit) ? NORMAL : CRASH }))
  })
  return {
    frame: (type, bytes, start) => {
      const field = fieldOf(bytes, start)
      if (type === Type.credit) near.tell(field)
      else if (type === Type.cancel) near.tellControl(field)
      else near[field === NORMAL ? "stop" : "kill"]()
    },
    closed: () => near.kill()
  }
}

const setUp = Effect.gen(function* () {
  const turn = new Turn()
  const dispatcher = new Dispatcher(turn, systemTimers.nowMs)
  const context = { turn, timers: systemTimers, limits: defaultLimits }
  let greeted: (ref: RemoteRef<number>) => void = () => {}
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      serve({
        transport: bunTransport,
        context,
        host: "127.0.0.1",
        port: 0,
        connectionsMax: 4,
        greet: (connection, { incarnation }) => {
          const { handler, ref } = farSide(connection, incarnation)
          // Once the greeting is over.
          turn.soon({ run: () => greeted(ref) })
          return { welcome: { ...greeting, frameBytes: defaultLimits.frameBytes, models: [] }, handler }
        }
      })
    ),
    (server) => Effect.callback<void>((resume) => server.close("", () => resume(Effect.void)))
  )
  /** Connects the side where the actor lives; comes back with both ends of it. */
  const connect = (incarnation: number, receive: (message: number) => void) =>
    Effect.promise(async () => {
      const near = spawn<number>({ id: "near", capacity: 1_000, dispatcher, receive })
      const arrived = Promise.withResolvers<RemoteRef<number>>()
      const welcomed = Promise.withResolvers<Connection>()
      greeted = arrived.resolve
      dial({
        transport: bunTransport,
        context,
        host: server.host,
        port: server.port,
        introduction: { hello: { ...greeting, incarnation, role: "worker" } },
        gone: () => {},
        welcomed: (connection) => {
          welcomed.resolve(connection)
          return nearSide(connection, near)
        }
      })
      return { near, far: await arrived.promise, connection: await welcomed.promise }
    })
  return { connect }
})

const downOf = (process: Process) =>
  Effect.callback<Down>((resume) => {
    process.watch((down) => resume(Effect.succeed(down)))
  })

live("over a TCP connection: order, control first, a crash is a Down", () =>
  Effect.gen(function* () {
    const { connect } = yield* setUp
    const seen: Array<number> = []
    const { far } = yield* connect(7, (message) => {
      if (message === 99) throw new Error("bug")
      seen.push(message)
    })
    for (let n = 100; n < 200; n++) expect(far.tell(n)).toBe("accepted")
    expect(far.tellControl(1)).toBe("accepted")
    far.tell(99)
    expect(yield* downOf(far)).toEqual({ id: "far", incarnation: 7, exit: Exit.fail("crash") })
    expect(seen).toEqual([1, ...Array.from({ length: 100 }, (_, index) => 100 + index)])
    expect(far.tell(1)).toBe("dead")
  })
)

live("over a TCP connection: a stop is passed on, a lost connection is a Down at both ends", () =>
  Effect.gen(function* () {
    const { connect } = yield* setUp
    const first = yield* connect(1, () => {})
    first.far.stop()
    expect((yield* downOf(first.near)).exit).toEqual(Exit.void)
    expect((yield* downOf(first.far)).exit).toEqual(Exit.void)
    const second = yield* connect(2, () => {})
    second.connection.cut("test")
    const lost = Exit.fail(new LinkLost({ actor: "far" }))
    expect(yield* downOf(second.far)).toEqual({ id: "far", incarnation: 2, exit: lost })
    expect(isNormal((yield* downOf(second.near)).exit)).toBe(false)
  })
)
