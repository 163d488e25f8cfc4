import { describe, expect, test } from "bun:test"
import { bunTransport } from "../../src/protocol/BunTransport.ts"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { deaf } from "../../src/protocol/Connection.ts"
import { Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { version } from "../../src/protocol/Message.ts"
import { serve } from "../../src/protocol/Server.ts"
import type { SocketEvents, TransportSocket } from "../../src/protocol/Transport.ts"
import { Turn } from "../../src/protocol/Turn.ts"
import { readFrame } from "./support/frames.ts"
import { greetedPeer, helloFrame, listen, plainPeer, until } from "./support/loopback.ts"
import { manualTurn } from "./support/manualTurn.ts"
import { virtualTimers } from "./support/virtualTimers.ts"

test("one connection too many is told so, very many too many are cut without a word", async () => {
  const { server } = listen({ connectionsMax: 2 })
  const taken = [await greetedPeer(server.port, "client"), await greetedPeer(server.port, "worker")]
  const peers = await Promise.all(Array.from({ length: 80 }, () => plainPeer(server.port)))
  await until(() => peers.every(({ seen }) => seen.ended || seen.closed))
  const told = peers.filter((peer) => peer.frames.length > 0)
  expect(told.length).toBe(64)
  for (const peer of told) expect(peer.goodbye()).toEqual({ code: "limit", message: "too many connections" })
  for (const peer of peers) peer.socket.shutdown()
  await until(() => server.connectionCount() === 2)
  expect(taken.map(({ seen }) => seen.ended)).toEqual([false, false])
  const next = await plainPeer(server.port)
  await until(() => next.seen.ended)
  taken[0]!.socket.shutdown()
  next.socket.shutdown()
  await until(() => server.connectionCount() === 1)
  expect((await greetedPeer(server.port, "client")).types()).toEqual([Type.welcome])
})

describe("of one address", () => {
  const silent = (port: number, count: number) =>
    Promise.all(Array.from({ length: count }, () => plainPeer(port)))

  test("64 may be connected and silent: one more is let in, and the oldest is cut once it had a second to greet", async () => {
    const { server, advance, violations } = listen()
    const oldest = await plainPeer(server.port)
    await until(() => server.connectionCount() === 1)
    const second = await plainPeer(server.port)
    await until(() => server.connectionCount() === 2)
    advance(500)
    await silent(server.port, 62)
    await until(() => server.connectionCount() === 64)
    advance(500)
    const newcomer = await greetedPeer(server.port, "client")
    expect(newcomer.types()).toEqual([Type.welcome])
    await until(() => oldest.seen.closed)
    expect([oldest.frames.length, second.seen.closed]).toEqual([0, false])
    expect(violations.map(({ kind }) => kind)).toEqual(["connections"])
    expect(server.connectionCount()).toBe(64)
  })

  test("hundreds may dial at once and greet when they come round to it", async () => {
    const { server, advance, violations } = listen()
    const peers = await silent(server.port, 300)
    await until(() => server.connectionCount() === 300)
    advance(750)
    for (const peer of peers) peer.send(helloFrame("client"))
    await until(() => peers.every((peer) => peer.frames.length === 1))
    expect(violations).toEqual([])
    expect(server.connectionCount()).toBe(300)
  })

  test("those that have greeted count no more", async () => {
    const { server, advance } = listen()
    for (let i = 0; i < 70; i++) await greetedPeer(server.port, "client", { identity: `c${i}` })
    advance(1500)
    await silent(server.port, 64)
    await until(() => server.connectionCount() === 134)
    expect(server.connectionCount()).toBe(134)
  })
})

test("close says GOODBYE to everyone, greeted or not, and is done when the last socket is gone", async () => {
  const { server, advance } = listen()
  const polite = await greetedPeer(server.port, "client")
  const stubborn = await greetedPeer(server.port, "worker")
  const silent = await plainPeer(server.port)
  await until(() => server.connectionCount() === 3)
  let done = 0
  server.close("good night", () => done++)
  await until(() => [polite, stubborn, silent].every(({ seen }) => seen.ended))
  expect(polite.goodbye()).toEqual({ code: "drain", message: "good night" })
  polite.socket.shutdown()
  await until(() => server.connectionCount() === 2)
  expect(done).toBe(0)
  advance(defaultLimits.goodbyeMs + 500)
  expect([server.connectionCount(), done]).toEqual([0, 1])
  expect(plainPeer(server.port)).rejects.toThrow()
})

test("who breaks the rules is refused where it comes from, and nobody else under the same identity is", () => {
  const { timers } = virtualTimers()
  const { settle, turn } = manualTurn()
  const accepts: Array<(socket: TransportSocket) => SocketEvents> = []
  const welcome = { ...version, identity: "b", incarnation: 1, frameBytes: 4096, models: [] }
  serve({
    transport: {
      listen: (host, port, accept) => {
        accepts.push(accept)
        return { host, port, close: () => undefined }
      },
      connect: () => expect.unreachable()
    },
    context: { turn, timers, limits: defaultLimits },
    host: "virtual",
    port: 1,
    connectionsMax: 8,
    greet: () => ({ welcome, handler: deaf })
  })
  /** What the first answer to a worker's HELLO is. */
  const greeted = (remoteAddress: string) => {
    const types: Array<number> = []
    const peer = accepts[0]!({
      remoteAddress,
      write: (bytes, from, length) => {
        types.push(readFrame(Buffer.from(bytes.subarray(from, from + length))).type)
        return length
      },
      shutdown: () => undefined,
      terminate: () => undefined,
      pause: () => undefined,
      resume: () => undefined
    })
    peer.data(helloFrame("worker"))
    settle()
    return { peer, type: types[0] }
  }
  const offender = greeted("10.0.0.1")
  expect(offender.type).toBe(Type.welcome)
  offender.peer.data(encodeFrame(Type.adminRequest, {}, { payload: pack({}) }))
  expect(greeted("10.0.0.1").type).toBe(Type.goodbye)
  expect(greeted("10.0.0.2").type).toBe(Type.welcome)
})

test("a port that is taken is an error with the system's code, and leaves no timer", () => {
  const { server } = listen()
  const { timers, alarmCount } = virtualTimers()
  const context = { turn: new Turn(), timers, limits: defaultLimits }
  const greet = (): never => expect.unreachable()
  const bind = () =>
    serve({
      transport: bunTransport,
      context,
      host: "127.0.0.1",
      port: server.port,
      connectionsMax: 1,
      greet
    })
  expect(bind).toThrow(expect.objectContaining({ code: "EADDRINUSE" }))
  expect(alarmCount()).toBe(0)
})

test("it is bound to the host it was told, and to nothing else", async () => {
  const { server } = listen()
  expect(server.host).toBe("127.0.0.1")
  expect(server.port).toBeGreaterThan(0)
  const other = Bun.connect({ hostname: "127.0.0.2", port: server.port, socket: { data: () => undefined } })
  expect(other).rejects.toThrow()
  await other.catch(() => undefined)
})
