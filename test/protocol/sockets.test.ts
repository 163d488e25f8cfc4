import { describe, expect, onTestFinished, test } from "bun:test"
import { bunTransport } from "../../src/protocol/BunTransport.ts"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import type { Connection } from "../../src/protocol/Connection.ts"
import { dial } from "../../src/protocol/dial.ts"
import { Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { version } from "../../src/protocol/Message.ts"
import { Turn } from "../../src/protocol/Turn.ts"
import { greetedPeer, listen, nextTurn, plainPeer, until } from "./support/loopback.ts"
import { virtualTimers } from "./support/virtualTimers.ts"

/*
 * What Bun's TCP sockets do, as far as the protocol rests on it, and that the protocol does right by it. A test about plain Bun that
 * fails after an upgrade says that a rule may be reconsidered.
 */

const MEBIBYTE = 1024 * 1024

/** A listener that collects its one socket, and a client beside it: plain Bun, half-open allowed. */
const plainPair = async (allowHalfOpen = true) => {
  const server = { socket: undefined as Bun.Socket | undefined, drained: 0, ended: false, closed: false }
  const client = { receivedBytes: 0, ended: false, closed: false, error: "" }
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen,
    socket: {
      open: (socket) => void (server.socket = socket),
      data: () => undefined,
      drain: () => void server.drained++,
      end: () => void (server.ended = true),
      close: () => void (server.closed = true),
      error: () => undefined
    }
  })
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port: listener.port,
    allowHalfOpen,
    socket: {
      data: (_, bytes) => void (client.receivedBytes += bytes.length),
      end: () => void (client.ended = true),
      close: (_, error) => {
        client.closed = true
        if (error !== undefined) client.error = "code" in error ? String(error.code) : "error"
      },
      error: () => undefined
    }
  })
  await until(() => server.socket !== undefined)
  onTestFinished(() => {
    socket.terminate()
    listener.stop(true)
  })
  return { server, serverSocket: server.socket!, client, clientSocket: socket }
}

describe("write", () => {
  test("takes what the kernel has room for, and keeps nothing of the rest", async () => {
    const { server, serverSocket, client, clientSocket } = await plainPair()
    clientSocket.pause()
    const bytes = Buffer.alloc(32 * MEBIBYTE, 7)
    const taken = serverSocket.write(bytes)
    expect(taken).toBeGreaterThan(0)
    expect(taken).toBeLessThan(bytes.length)
    expect(serverSocket.write(bytes)).toBe(0)
    clientSocket.resume()
    await until(() => server.drained > 0 && client.receivedBytes >= taken)
    serverSocket.shutdown()
    await until(() => client.ended)
    expect(client.receivedBytes).toBe(taken)
  })
})

describe("end of a connection, with a peer that is still sending", () => {
  /** Fills the kernel's buffers and ends; the peer speaks once more, then reads. Returns bytes that were taken and never came. */
  const lostBytes = async (finish: (socket: Bun.Socket) => void): Promise<number> => {
    const { serverSocket, server, client, clientSocket } = await plainPair()
    clientSocket.pause()
    const bytes = Buffer.alloc(32 * MEBIBYTE, 7)
    const taken = serverSocket.write(bytes)
    finish(serverSocket)
    clientSocket.write("still here")
    for (let i = 0; i < 10; i++) await nextTurn()
    clientSocket.resume()
    await until(() => client.ended || client.closed)
    expect(server.ended).toBe(false)
    return taken - client.receivedBytes
  }

  test("end() loses bytes that write() has taken", async () => {
    expect(await lostBytes((socket) => socket.end())).toBeGreaterThan(0)
  })

  test("shutdown() loses none", async () => {
    expect(await lostBytes((socket) => socket.shutdown())).toBe(0)
  })

  test("our GOODBYE comes after 8 MiB to a chatty, slow peer, all of it", async () => {
    const { server, connections } = listen({ limits: { outboxBytes: 16 * MEBIBYTE } })
    const peer = await greetedPeer(server.port, "client")
    const ping = encodeFrame(Type.ping, {})
    const frame = encodeFrame(Type.token, { stream: 1 }, { payload: pack("x".repeat(MEBIBYTE / 16 - 100)) })
    const connection = connections[0]!
    for (let i = 0; i < 128; i++) connection.send(frame)
    connection.goodbye("drain", "that was all")
    expect(connection.outbox.pending).toBeGreaterThan(2 * MEBIBYTE)
    const tokens = () => peer.types().filter((type) => type === Type.token).length
    while (!peer.seen.ended) {
      peer.socket.pause()
      peer.send(ping)
      await nextTurn()
      peer.socket.resume()
      await nextTurn()
    }
    expect(tokens()).toBe(128)
    expect(peer.types().at(-1)).toBe(Type.goodbye)
    peer.send(ping)
    peer.socket.shutdown()
    await until(() => server.connectionCount() === 0 && peer.seen.closed)
  })
})

describe("a closed socket is told of, once, so that none is kept", () => {
  const gone = async (server: { readonly connectionCount: () => number }) =>
    until(() => server.connectionCount() === 0)

  test("after both sides sent FIN, whoever began", async () => {
    const { server, connections } = listen()
    const first = await greetedPeer(server.port, "client")
    connections[0]!.goodbye("done", "")
    await until(() => first.seen.ended)
    expect(server.connectionCount()).toBe(1)
    first.socket.shutdown()
    await gone(server)
    await until(() => first.seen.closed)
    const second = await greetedPeer(server.port, "client")
    second.socket.shutdown()
    await gone(server)
    await until(() => second.seen.closed)
  })

  test("after terminate, on either side", async () => {
    const { server, connections } = listen()
    const first = await greetedPeer(server.port, "client")
    connections[0]!.cut("test")
    await gone(server)
    await until(() => first.seen.closed)
    const second = await greetedPeer(server.port, "client")
    second.socket.terminate()
    await gone(server)
    expect(second.seen.closed).toBe(true)
  })

  test("after a peer's FIN in the middle of what we send: it gets the rest", async () => {
    const { server, connections } = listen({ limits: { outboxBytes: 16 * MEBIBYTE } })
    const peer = await greetedPeer(server.port, "client")
    const frame = encodeFrame(Type.token, { stream: 1 }, { payload: pack("x".repeat(MEBIBYTE / 2)) })
    for (let i = 0; i < 16; i++) connections[0]!.send(frame)
    peer.socket.shutdown()
    await gone(server)
    await until(() => peer.seen.closed)
    expect(peer.types().filter((type) => type === Type.token).length).toBe(16)
  })

  test("five hundred times over", async () => {
    const { server, connections } = listen()
    for (let i = 0; i < 500; i++) {
      const peer = await greetedPeer(server.port, "client")
      if (i % 4 === 0) peer.socket.shutdown()
      else if (i % 4 === 1) peer.socket.terminate()
      else if (i % 4 === 2) connections[i]!.cut("test")
      else {
        connections[i]!.goodbye("done", "")
        await until(() => peer.seen.ended)
        peer.socket.shutdown()
      }
    }
    await gone(server)
  })

  test("a peer that never answers our FIN is cut", async () => {
    const { server, connections, advance } = listen()
    const peer = await greetedPeer(server.port, "client")
    connections[0]!.goodbye("done", "")
    await until(() => peer.seen.ended)
    advance(defaultLimits.goodbyeMs)
    expect(server.connectionCount()).toBe(1)
    advance(500)
    expect(server.connectionCount()).toBe(0)
    await until(() => peer.seen.closed)
  })
})

test("Bun has no deadline for a greeting; ours cuts sockets that say nothing", async () => {
  const { server, advance } = listen({ limits: { greetingMs: 40 } })
  const peers = await Promise.all(Array.from({ length: 20 }, () => plainPeer(server.port)))
  await until(() => server.connectionCount() === 20)
  advance(500)
  expect(server.connectionCount()).toBe(0)
  await until(() => peers.every(({ seen }) => seen.closed))
})

test("pause stops the reading, resume goes on, and no byte is lost", async () => {
  const { server, connections } = listen()
  const peer = await greetedPeer(server.port, "client")
  const frame = encodeFrame(Type.cancel, { stream: 1 })
  // More than a slice in every chunk.
  peer.send(...Array.from({ length: 100_000 }, () => frame))
  await until(peer.allSent)
  peer.socket.shutdown()
  await until(() => server.connectionCount() === 0)
  expect(connections.length).toBe(1)
})

describe("dial", () => {
  const { timers } = virtualTimers()
  const context = { turn: new Turn(), timers, limits: defaultLimits }
  const hello = { ...version, role: "client", identity: "dialler", incarnation: 1 } as const

  test("greets, and its frames arrive", async () => {
    const { server, handled } = listen()
    const said: Array<string> = []
    let connection: Connection | undefined
    dial({
      transport: bunTransport,
      context,
      host: "127.0.0.1",
      port: server.port,
      introduction: { hello },
      welcomed: (opened, welcome) => {
        connection = opened
        said.push(welcome.identity)
        return { frame: () => undefined, closed: (why) => said.push(`closed: ${why}`) }
      },
      gone: (why) => said.push(`gone: ${why}`)
    })
    await until(() => connection !== undefined)
    connection!.send(encodeFrame(Type.cancel, { stream: 1 }))
    await until(() => handled.length === 1)
    connection!.goodbye("done", "")
    await until(() => said.length === 3)
    expect(said).toEqual(["balancer", "closed: done", "gone: done"])
    await until(() => server.connectionCount() === 0)
  })

  test("says once why it failed", async () => {
    const { server } = listen()
    server.close("", () => undefined)
    const said: Array<string> = []
    const never = () => expect.unreachable()
    dial({
      transport: bunTransport,
      context,
      host: "127.0.0.1",
      port: server.port,
      introduction: { hello },
      welcomed: never,
      gone: (why) => said.push(why)
    })
    await until(() => said.length > 0)
    for (let i = 0; i < 5; i++) await nextTurn()
    expect(said).toEqual(["Failed to connect"])
  })
})
