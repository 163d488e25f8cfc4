import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { encodeFrame, locate, pack } from "../../src/protocol/Codec.ts"
import {
  Connection,
  type ConnectionHandler,
  type Greeting,
  type Greet
} from "../../src/protocol/Connection.ts"
import { FRAMES_PER_SLICE, TOKENS_PER_SLICE } from "../../src/protocol/Frame.ts"
import { proofOf } from "../../src/protocol/credentials.ts"
import { LENGTH_BYTES, Type } from "../../src/protocol/Header.ts"
import { defaultLimits, type Limits } from "../../src/protocol/Limits.ts"
import { type Hello, version, type Welcome } from "../../src/protocol/Message.ts"
import { type Role, roles } from "../../src/protocol/Roles.ts"
import { framesIn } from "./support/frames.ts"
import { KernelSocket } from "./support/KernelSocket.ts"
import { manualTurn } from "./support/manualTurn.ts"
import { virtualTimers } from "./support/virtualTimers.ts"

const limits: Limits = {
  ...defaultLimits,
  greetingMs: 2000,
  frameMs: 10_000,
  pingMs: 10_000,
  silenceMs: 30_000,
  outboxBytes: 100_000,
  unreadMs: 20_000,
  goodbyeMs: 5000,
  greetingFrameBytes: 4096,
  frameBytes: 50_000
}
const welcome: Welcome = {
  ...version,
  identity: "balancer-1",
  incarnation: 1,
  frameBytes: 50_000,
  models: ["m"]
}
const helloOf = (role: Role, more: object = {}): Buffer =>
  encodeFrame(
    Type.hello,
    {},
    { payload: pack({ ...version, role, identity: "peer", incarnation: 7, ...more }) }
  )
const frameOf = (type: number, stream = 0): Buffer =>
  type === Type.request || type === Type.assign
    ? encodeFrame(type, { stream }, {}, { idHigh: 0, idLow: 1, promptTokens: 1, maxTokens: 1 })
    : encodeFrame(type, { stream })

/** One connection on a socket without a peer; `log` is what its owner was told. */
const stage = (
  side: "accept" | "dial",
  own: { limits?: Partial<Limits>; greet?: Greet; handler?: ConnectionHandler; credential?: string } = {}
) => {
  const socket = new KernelSocket()
  const { timers, advance } = virtualTimers()
  const turn = manualTurn()
  const log: Array<string> = []
  const violations: Array<string> = []
  const context = {
    turn: turn.turn,
    timers,
    limits: { ...limits, ...own.limits },
    violation: (kind: string) => violations.push(kind)
  }
  const handler: ConnectionHandler = own.handler ?? {
    frame: (type) => log.push(`frame ${type}`),
    closed: (why) => log.push(`closed: ${why}`)
  }
  const gone = (_: Connection, why: string) => log.push(`gone: ${why}`)
  const greet = own.greet ?? ((): Greeting => ({ welcome, handler }))
  const hello: Hello = { ...version, role: "client", identity: "peer", incarnation: 7 }
  const connection =
    side === "accept"
      ? Connection.accept(socket, context, greet, gone)
      : Connection.open(socket, context, { hello, credential: own.credential }, () => handler, gone)
  /** This process stands still, and then has a look. */
  const freeze = (ms: number): void => {
    advance(ms)
    connection.sweep(timers.nowMs())
    turn.settle()
  }
  /** Lets time pass, checking deadlines as the server does. */
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= 250) {
      advance(Math.min(250, left))
      connection.sweep(timers.nowMs())
    }
    turn.settle()
  }
  const feed = (...frames: ReadonlyArray<Buffer>): void => {
    connection.data(Buffer.concat(frames))
    turn.settle()
  }
  const sentBytes = (): Buffer => {
    turn.settle()
    return socket.takeReceived()
  }
  /** The frames that were sent since the last call. */
  const sent = () => framesIn(sentBytes())
  return { socket, connection, turn, log, violations, pass, freeze, feed, sent, sentBytes }
}

/** One whose greeting is over. */
const opened = (role: Role, own: Parameters<typeof stage>[1] = {}) => {
  const there = stage(role === "balancer" ? "dial" : "accept", own)
  there.feed(role === "balancer" ? encodeFrame(Type.welcome, {}, { payload: pack(welcome) }) : helloOf(role))
  there.sent()
  return there
}

describe("greeting", () => {
  test("HELLO is answered by WELCOME, and what follows reaches the handler", () => {
    const { connection, feed, sent, log } = stage("accept")
    feed(helloOf("client"), frameOf(Type.request, 1))
    expect(sent().map(({ type, payload }) => ({ type, payload }))).toEqual([
      { type: Type.welcome, payload: welcome }
    ])
    expect(connection.isOpen).toBe(true)
    expect(connection.peer).toMatchObject({ role: "client", identity: "peer", incarnation: 7 })
    expect(log).toEqual([`frame ${Type.request}`])
  })

  test("the dialling side says HELLO at once, and is open with WELCOME", () => {
    const { connection, feed, sent, log } = stage("dial")
    expect(sent().map(({ type }) => type)).toEqual([Type.hello])
    feed(encodeFrame(Type.welcome, {}, { payload: pack(welcome) }), frameOf(Type.token, 1))
    expect(connection.peer).toEqual(welcome)
    expect(log).toEqual([`frame ${Type.token}`])
  })

  test("a WELCOME may be long, a HELLO may not", () => {
    const models = Array.from({ length: 300 }, (_, i) => `model-${i}-with-a-long-name`)
    const { connection, feed } = stage("dial")
    feed(encodeFrame(Type.welcome, {}, { payload: pack({ ...welcome, models }) }))
    expect(connection.isOpen).toBe(true)
    const server = stage("accept")
    server.feed(helloOf("client", { models }))
    expect(server.socket.acts).toEqual(["terminate"])
  })

  test("who dialled takes frames as long as WELCOME says, whatever limit it has itself", () => {
    const tokenOf = (length: number) => encodeFrame(Type.token, {}, { payload: pack("x".repeat(length)) })
    const longest = tokenOf(60_000)
    const frameBytes = longest.length - LENGTH_BYTES
    const { feed, log, violations } = stage("dial")
    feed(encodeFrame(Type.welcome, {}, { payload: pack({ ...welcome, frameBytes }) }), longest)
    expect(log).toEqual([`frame ${Type.token}`])
    feed(tokenOf(60_001))
    expect(violations).toEqual(["frame_too_long"])
  })

  test("a peer that says nothing is cut after greetingMs, without a word", () => {
    const { pass, sent, socket, violations, log } = stage("accept")
    pass(2000)
    expect(socket.acts).toEqual([])
    pass(500)
    expect(socket.acts).toEqual(["terminate"])
    expect(sent()).toEqual([])
    expect(violations).toEqual(["greeting_timeout"])
    expect(log).toEqual(["gone: no greeting in time"])
  })

  test("a peer that dribbles its HELLO is cut as well", () => {
    const { connection, pass, socket } = stage("accept")
    for (const byte of helloOf("client").subarray(0, 20)) {
      connection.data(Buffer.from([byte]))
      pass(250)
    }
    expect(socket.acts).toEqual(["terminate"])
  })

  test.each([
    ["a REQUEST", frameOf(Type.request, 1)],
    ["a PING", frameOf(Type.ping)],
    ["an unknown type", frameOf(99)],
    ["a HELLO without fields", encodeFrame(Type.hello, {}, { payload: pack({}) })],
    ["a HELLO of 100 values", helloOf("client", { x: Array.from({ length: 100 }, () => 0) })],
    ["a HELLO for no role", helloOf("king" as Role)],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["TLS", Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01])]
  ])("a stranger that begins with %s is cut without a word", (_, bytes) => {
    const { feed, sent, socket, violations, log } = stage("accept")
    feed(bytes, helloOf("client"))
    expect(sent()).toEqual([])
    expect(socket.acts).toEqual(["terminate"])
    expect(violations).toHaveLength(1)
    expect(log).toHaveLength(1)
  })

  test("the hint says who seems to be speaking", () => {
    const hints: Array<string> = []
    for (const bytes of [Buffer.from("GET / HTTP/1.1\r\n"), Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00])]) {
      const { timers } = virtualTimers()
      const violation = (_: string, hint: string) => hints.push(hint)
      const context = { turn: manualTurn().turn, timers, limits, violation }
      const never = (): never => expect.unreachable()
      Connection.accept(new KernelSocket(), context, never, () => undefined).data(bytes)
    }
    expect(hints).toEqual([
      "192.0.2.1: text on this port: an HTTP client?",
      "192.0.2.1: TLS client on a plaintext port"
    ])
  })

  test.each([
    ["HTTP/1.1 400 Bad Request\r\n", "an HTTP server"],
    ["SSH-2.0-OpenSSH_9.6\r\n", "something else than a balancer"],
    ["\u0015\u0003\u0003\u0000\u0002", "something else than a balancer"]
  ])("who dialled what says %j is told so", (said, who) => {
    const { feed, log } = stage("dial")
    feed(Buffer.from(said, "latin1"))
    expect(log.join()).toContain(`${who} answers there, use the TCP address of the cluster`)
  })

  test("another major version gets GOODBYE, another minor is welcome", () => {
    const other = stage("accept")
    other.feed(helloOf("client", { major: version.major + 1 }))
    expect(other.sent().map(({ type, payload }) => [type, payload])).toEqual([
      [Type.goodbye, { code: "version", message: "this side speaks version 1, the peer 2" }]
    ])
    expect(other.socket.acts).toEqual(["shutdown"])
    const newer = stage("accept")
    newer.feed(helloOf("client", { minor: 99, somethingNew: true }))
    expect(newer.connection.isOpen).toBe(true)
  })

  test("a WELCOME of another major version is cut, of another minor taken", () => {
    const welcomed = (more: Partial<Welcome>) => {
      const there = stage("dial")
      there.feed(encodeFrame(Type.welcome, {}, { payload: pack({ ...welcome, ...more }) }))
      return there
    }
    const other = welcomed({ major: version.major - 1 })
    expect(other.socket.acts).toEqual(["terminate"])
    expect(other.log).toEqual(["gone: this side speaks version 1, the peer 0"])
    expect([other.violations, other.connection.peerCode]).toEqual([["version"], "version"])
    expect(welcomed({ minor: 99 }).connection.isOpen).toBe(true)
  })

  test("who is refused learns why, in order, and never reaches a handler", () => {
    const there = stage("accept", { greet: () => ({ refuse: "unauthorized", message: "wrong credential" }) })
    there.feed(helloOf("client"), frameOf(Type.request, 1))
    expect(there.sent().map(({ payload }) => payload)).toEqual([
      { code: "unauthorized", message: "wrong credential" }
    ])
    expect(there.socket.acts).toEqual(["shutdown"])
    there.connection.closed()
    expect(there.log).toEqual(["gone: unauthorized"])
  })

  test("who is challenged gets in with a proof, and no frame before it counts", () => {
    const nonce = Buffer.alloc(16, 3)
    const judged: Array<string> = []
    const greet = (): Greeting => ({
      nonce,
      judge: (proof) => {
        judged.push(Buffer.from(proof).toString("hex"))
        return {
          welcome,
          handler: { frame: (type) => judged.push(`frame ${type}`), closed: () => undefined }
        }
      }
    })
    const proof = proofOf("secret", { role: "client", identity: "peer", incarnation: 7 }, nonce)
    const there = stage("accept", { greet })
    const here = stage("dial", { credential: "secret" })
    there.feed(here.sentBytes())
    expect(there.connection.isOpen).toBe(false)
    here.feed(there.sentBytes())
    there.feed(here.sentBytes())
    expect([there.connection.isOpen, judged]).toEqual([true, [proof.toString("hex")]])
    here.feed(there.sentBytes())
    expect(here.connection.isOpen).toBe(true)

    const hasty = stage("accept", { greet })
    hasty.feed(helloOf("client"), frameOf(Type.request, 1))
    expect(hasty.sent()).toEqual([])
    expect(hasty.socket.acts).toEqual(["terminate"])
    expect([judged.length, hasty.violations]).toEqual([1, ["bad_greeting"]])
  })

  test.each([
    ["no proof", frameOf(Type.proof)],
    ["a short one", encodeFrame(Type.proof, {}, { payload: pack({ proof: Buffer.alloc(31) }) })],
    ["a text", encodeFrame(Type.proof, {}, { payload: pack({ proof: "x".repeat(32) }) })],
    ["another HELLO", helloOf("client")]
  ])("a stranger that answers a challenge with %s is cut without a word", (_, bytes) => {
    const greet = (): Greeting => ({ nonce: Buffer.alloc(16), judge: () => expect.unreachable() })
    const there = stage("accept", { greet })
    there.feed(helloOf("client"))
    expect(there.sent().map(({ type }) => type)).toEqual([Type.challenge])
    there.feed(bytes)
    expect(there.sent()).toEqual([])
    expect(there.socket.acts).toEqual(["terminate"])
  })

  test("a stranger that is challenged and says nothing is cut when the time of the greeting is up", () => {
    const greet = (): Greeting => ({ nonce: Buffer.alloc(16), judge: () => expect.unreachable() })
    const there = stage("accept", { greet })
    there.feed(helloOf("client"))
    there.pass(2500)
    expect([there.socket.acts, there.violations]).toEqual([["terminate"], ["greeting_timeout"]])
  })

  test("the dialling side answers one challenge, and none that is no nonce", () => {
    const challenge = (nonce: unknown) => encodeFrame(Type.challenge, {}, { payload: pack({ nonce }) })
    const twice = stage("dial")
    twice.feed(challenge(Buffer.alloc(16)))
    expect(twice.sent().map(({ type }) => type)).toEqual([Type.hello, Type.proof])
    twice.feed(challenge(Buffer.alloc(16)))
    expect(twice.socket.acts).toEqual(["terminate"])
    const none = stage("dial")
    none.feed(challenge("0123456789abcdef"))
    expect(none.socket.acts).toEqual(["terminate"])
  })

  test("the dialling side reports why it was refused", () => {
    const { feed, connection, log, socket } = stage("dial")
    feed(encodeFrame(Type.goodbye, {}, { payload: pack({ code: "version", message: "too old" }) }))
    expect(socket.acts).toEqual(["shutdown"])
    connection.ended()
    connection.closed()
    expect(log).toEqual(["gone: goodbye: version (too old)"])
  })

  test("a greeting that ends the connection still closes its handler", () => {
    const there = stage("accept", {
      greet: (connection) => {
        connection.cut("changed my mind")
        return { welcome, handler: { frame: () => undefined, closed: (why) => log.push(`closed: ${why}`) } }
      }
    })
    const { log } = there
    there.feed(helloOf("client"))
    expect(there.connection.isOpen).toBe(false)
    expect(log).toEqual(["gone: changed my mind", "closed: changed my mind"])
    expect(there.sent()).toEqual([])
  })
})

describe("roles", () => {
  const own: Record<Role, ReadonlyArray<keyof typeof Type>> = {
    client: ["request", "cancel", "credit", "resume"],
    worker: [
      "register",
      "heartbeat",
      "token",
      "done",
      "error",
      "drain",
      "prefilled",
      "kvStored",
      "kvRemoved"
    ],
    balancer: [
      "accepted",
      "rejected",
      "token",
      "done",
      "error",
      "assign",
      "cancel",
      "credit",
      "drain",
      "kvSync",
      "adminReply"
    ],
    admin: ["adminRequest"]
  }
  const types = Object.keys(Type) as ReadonlyArray<keyof typeof Type>
  const pairs = roles.flatMap((role) => types.map((type) => ({ role, type })))

  test.each(pairs)("$role sends $type", ({ role, type }) => {
    const { connection, feed, log, sent, socket, violations } = opened(role)
    feed(frameOf(Type[type], 1), frameOf(Type.ping))
    if (own[role].includes(type)) {
      expect(log).toEqual([`frame ${Type[type]}`])
      expect(connection.isOpen).toBe(true)
    } else if (type === "ping" || type === "pong" || type === "goodbye") {
      expect(violations).toEqual([])
      expect(connection.isOpen).toBe(type !== "goodbye")
      expect(sent().map((frame) => frame.type)).toEqual({ ping: [5, 5], pong: [5], goodbye: [] }[type])
    } else {
      expect(violations).toEqual(["role"])
      expect(socket.acts).toEqual(["terminate"])
      expect(connection.isOutlaw).toBe(true)
      expect(sent()).toEqual([])
      expect(log.map((line) => line.split(":")[0])).toEqual(["closed", "gone"])
    }
  })
})

describe("types nobody knows", () => {
  test("get an ERROR with their stream, and the connection stays", () => {
    const { connection, feed, sent, violations } = opened("client")
    feed(frameOf(77, 5))
    const [reply] = sent()
    expect(reply).toMatchObject({ type: Type.error, stream: 5, a: Reason.unknownType })
    expect(reply?.payload).toEqual({ message: "unknown frame type 77" })
    expect(violations).toEqual(["unknown_type"])
    expect(connection.isOpen).toBe(true)
  })

  test("are ignored when their high bit is set", () => {
    const { connection, feed, sent, violations, log } = opened("client")
    for (let i = 0; i < 1000; i++) feed(frameOf(0x80 + (i % 128)))
    expect([sent(), violations, log]).toEqual([[], [], []])
    expect(connection.isOpen).toBe(true)
  })
})

describe("floods", () => {
  const flood = [
    ["PING", Type.ping, "client"],
    ["PONG", Type.pong, "client"],
    ["HEARTBEAT", Type.heartbeat, "worker"],
    ["unknown", 99, "client"]
  ] as const

  test.each(flood)("%s: 400 in 10 s are served, one more ends the connection", (_, type, role) => {
    const { connection, feed, sent } = opened(role)
    feed(...Array.from({ length: 400 }, () => frameOf(type)))
    expect(connection.isOpen).toBe(true)
    sent()
    feed(frameOf(type))
    expect(sent().map(({ payload }) => payload)).toMatchObject([{ code: "flood" }])
    const calm = opened(role)
    for (let i = 0; i < 10; i++) {
      calm.feed(...Array.from({ length: 390 }, () => frameOf(type)))
      calm.sent()
      calm.pass(10_500)
    }
    expect(calm.connection.isOpen).toBe(true)
  })
})

describe("values that have to be scanned", () => {
  const reading: ConnectionHandler = {
    frame: (type, bytes, start, end) => type === Type.token || locate(bytes, start, end, limits),
    closed: () => undefined
  }
  /** An array counts as well. */
  const thousand = encodeFrame(Type.error, {}, { payload: pack(Array.from({ length: 999 }, () => 0)) })
  const own = { handler: reading, limits: { nodesPerSecond: 100_000 } }
  const feedThousands = (there: ReturnType<typeof opened>, count: number) =>
    there.feed(...Array.from({ length: count }, () => thousand))

  test("a second's worth may come at once, and again as time passes; one frame more is a flood", () => {
    const there = opened("worker", own)
    // The greeting was scanned as well.
    feedThousands(there, 99)
    for (let i = 0; i < 50; i++) {
      there.pass(250)
      feedThousands(there, 25)
    }
    expect(there.connection.isOpen).toBe(true)
    expect(there.violations).toEqual([])
    feedThousands(there, 1)
    expect(there.violations).toEqual(["flood"])
    expect(there.sent().map(({ payload }) => payload)).toContainEqual({
      code: "flood",
      message: "too many msgpack values"
    })
  })

  test("what is passed on unread costs nothing", () => {
    const there = opened("worker", own)
    const token = encodeFrame(Type.token, {}, { payload: pack(Array.from({ length: 999 }, () => 0)) })
    for (let i = 0; i < 20; i++) there.feed(...Array.from({ length: 100 }, () => token))
    expect(there.violations).toEqual([])
  })

  test("whom we dialled may send what it likes", () => {
    const there = opened("balancer", own)
    for (let i = 0; i < 20; i++) feedThousands(there, 100)
    expect(there.violations).toEqual([])
  })
})

describe("signs of life", () => {
  test("a pause of this process is not held against the peer", () => {
    const { freeze, log, pass, sent } = opened("worker")
    pass(1_000)
    freeze(300_000)
    expect(log).toEqual([])
    // From here on it counts.
    pass(10_000)
    expect(sent().map(({ type }) => type)).toEqual([Type.ping])
    pass(20_000)
    expect(log).toEqual(["closed: silent", "gone: silent"])
  })

  test("silence is met with PING, and in the end the connection is cut", () => {
    const { connection, pass, sent, socket, log } = opened("client")
    pass(9_750)
    expect(sent()).toEqual([])
    pass(750)
    expect(sent().map(({ type }) => type)).toEqual([Type.ping])
    pass(5000)
    expect(sent()).toEqual([])
    pass(14_500)
    expect(connection.isOpen).toBe(true)
    pass(250)
    expect(socket.acts).toEqual(["terminate"])
    expect(log).toEqual(["closed: silent", "gone: silent"])
  })

  test("peers are pinged at different times, so that all who came together are not pinged together", () => {
    const { feed, pass, sent } = stage("accept")
    feed(helloOf("client", { incarnation: 2 ** 32 - 1 }))
    sent()
    pass(7_500)
    expect(sent()).toEqual([])
    pass(250)
    expect(sent().map(({ type }) => type)).toEqual([Type.ping])
  })

  test("a peer that answers lives for ever", () => {
    const { connection, feed, pass, sent } = opened("worker")
    for (let i = 0; i < 50; i++) {
      pass(10_250)
      if (sent().some(({ type }) => type === Type.ping)) feed(frameOf(Type.pong))
    }
    expect(connection.isOpen).toBe(true)
  })
})

describe("half frames", () => {
  const half = frameOf(Type.request, 1).subarray(0, 30)

  test("one that does not end in frameMs ends the connection, however it dribbles", () => {
    const { connection, pass, sent, log } = opened("client")
    for (const byte of half) {
      connection.data(Buffer.from([byte]))
      pass(250)
    }
    expect(connection.isOpen).toBe(true)
    pass(3000)
    expect(sent().map(({ payload }) => payload)).toEqual([
      { code: "bad_frame", message: "a frame took too long" }
    ])
    expect(log).toEqual(["closed: bad_frame"])
  })

  test("a busy peer whose chunks never end with a frame is left alone", () => {
    const { connection, pass, log } = opened("client")
    const stream = Buffer.concat(Array.from({ length: 100 }, () => frameOf(Type.request, 1)))
    connection.data(stream.subarray(0, 10))
    for (let at = 10; at + 144 < stream.length; at += 72) {
      connection.data(stream.subarray(at, at + 72))
      pass(500)
    }
    expect(connection.isOpen).toBe(true)
    expect(log.length).toBeGreaterThan(50)
  })

  test("what a peer left half said when it went is forgotten", () => {
    const { connection, feed, log, socket } = opened("client")
    feed(half)
    connection.ended()
    expect(log).toEqual(["closed: ended by the peer"])
    expect(socket.acts).toEqual(["shutdown"])
  })
})

describe("a peer that does not read", () => {
  test("is cut when too much piles up, and its handler hears of it once", () => {
    const { connection, socket, violations, log } = opened("client")
    socket.room = 0
    const frame = encodeFrame(Type.token, { stream: 1 }, { payload: pack("x".repeat(1000)) })
    let sent = 0
    while (connection.send(frame)) sent++
    expect(sent * frame.length).toBeLessThanOrEqual(limits.outboxBytes)
    expect(violations).toEqual(["slow_consumer"])
    expect(log).toEqual(["closed: outbox full", "gone: outbox full"])
    expect(connection.send(frame)).toBe(false)
    connection.closed()
    expect(log).toHaveLength(2)
  })

  test("is cut when bytes wait for unreadMs", () => {
    const { connection, feed, pass, socket, turn, violations } = opened("client")
    socket.room = 5
    connection.send(frameOf(Type.accepted, 1))
    turn.settle()
    for (let i = 0; i < 19; i++) {
      pass(1000)
      feed(frameOf(Type.pong))
    }
    expect(connection.isOpen).toBe(true)
    pass(2000)
    expect(violations).toEqual(["slow_consumer"])
    expect(socket.acts).toEqual(["terminate"])
  })
})

describe("a client that reads too slowly", () => {
  const behind = { outboxBytes: 1_000_000, behindBytes: 10_000, behindMs: 1_000 }
  const frame = encodeFrame(Type.token, { stream: 1 }, { payload: pack("x".repeat(1_000)) })
  const lagging = (role: Role = "client") => {
    const there = opened(role, { limits: behind })
    const { connection, socket, turn } = there
    /** Leaves this many bytes unread; what is more is read. */
    const leave = (bytes: number): void => {
      socket.room = 0
      while (connection.outbox.pending <= bytes) connection.send(frame)
      turn.settle()
      socket.room = connection.outbox.pending - bytes
      connection.drain()
      expect(connection.outbox.pending).toBe(bytes)
    }
    return { ...there, leave }
  }

  test("is cut when it has been more than behindBytes behind for longer than behindMs", () => {
    const { leave, pass, violations, socket, log } = lagging()
    leave(10_001)
    pass(1_250)
    expect(socket.acts).toEqual([])
    // It reads on, but never catches up.
    leave(500_000)
    pass(250)
    expect(violations).toEqual(["slow_consumer"])
    expect(socket.acts).toEqual(["terminate"])
    expect(log).toEqual(["closed: too many bytes left unread", "gone: too many bytes left unread"])
  })

  test("stays when it catches up within behindMs, even between two looks, however far it was behind", () => {
    const { leave, pass, connection } = lagging()
    for (let i = 0; i < 20; i++) {
      leave(900_000)
      pass(1_250)
      leave(10_000)
      leave(800_000)
    }
    expect(connection.isOpen).toBe(true)
  })

  test("stays with behindBytes unread until unreadMs", () => {
    const { leave, pass, feed, connection } = lagging()
    leave(10_000)
    for (let i = 0; i < 9; i++) {
      pass(2_000)
      feed(frameOf(Type.pong))
    }
    expect(connection.isOpen).toBe(true)
  })

  test.each(["worker", "balancer"] as const)(
    "is no client: a %s may take longer, prompts are long",
    (role) => {
      const { leave, pass, connection } = lagging(role)
      leave(500_000)
      pass(5_000)
      expect(connection.isOpen).toBe(true)
    }
  )
})

describe("leaving", () => {
  test("GOODBYE comes after everything that was written, then FIN, and nothing after", () => {
    const { connection, sent, socket, log, feed } = opened("client")
    connection.send(frameOf(Type.token, 1))
    connection.goodbye("drain", "bye")
    connection.goodbye("done", "again")
    expect(connection.send(frameOf(Type.token, 2))).toBe(false)
    feed(frameOf(Type.request, 3))
    expect(sent().map(({ type }) => type)).toEqual([Type.token, Type.goodbye])
    expect(socket.acts).toEqual(["shutdown"])
    connection.ended()
    connection.closed()
    expect(log).toEqual(["closed: drain", "gone: drain"])
    expect(socket.acts).toEqual(["shutdown"])
  })

  test("a peer that never sends FIN is cut after goodbyeMs", () => {
    const { connection, pass, socket, log } = opened("client")
    connection.goodbye("drain", "bye")
    pass(5000)
    expect(socket.acts).toEqual(["shutdown"])
    pass(250)
    expect(socket.acts).toEqual(["shutdown", "terminate"])
    expect(log).toEqual(["closed: drain", "gone: drain"])
  })

  test("a slow peer has time as long as it reads, but not for ever", () => {
    const slow = opened("client")
    slow.socket.room = 0
    slow.connection.send(encodeFrame(Type.token, {}, { payload: pack("x".repeat(1000)) }))
    slow.connection.goodbye("drain", "bye")
    const read = (): void => {
      slow.socket.room = 200
      slow.connection.drain()
    }
    for (let i = 0; i < 3; i++) {
      slow.pass(4500)
      read()
    }
    expect(slow.socket.acts).toEqual([])
    for (let i = 0; i < 4; i++) read()
    expect(slow.socket.acts).toEqual(["shutdown"])
    const endless = opened("client")
    endless.socket.room = 0
    endless.connection.goodbye("drain", "bye")
    for (let i = 0; i < 6; i++) {
      endless.pass(3500)
      endless.socket.room = 1
      endless.connection.drain()
    }
    expect(endless.socket.acts).toEqual(["terminate"])
  })

  test("the peer's GOODBYE is answered by FIN, after what is still to be sent", () => {
    const { connection, feed, sent, socket, log } = opened("worker")
    connection.send(frameOf(Type.assign, 1))
    feed(
      encodeFrame(Type.goodbye, {}, { payload: pack({ code: "drain", message: "" }) }),
      frameOf(Type.token, 1)
    )
    expect(sent().map(({ type }) => type)).toEqual([Type.assign])
    expect(socket.acts).toEqual(["shutdown"])
    expect(log).toEqual(["closed: goodbye: drain"])
  })

  test("a FIN without GOODBYE ends it too, and a reset", () => {
    const fin = opened("client")
    fin.connection.ended()
    expect(fin.socket.acts).toEqual(["shutdown"])
    const reset = opened("client")
    reset.connection.closed()
    expect(reset.log).toEqual(["closed: closed", "gone: closed"])
  })

  test("a handler may end the connection: what else lay in the chunk is not delivered", () => {
    for (const act of ["goodbye", "cut", "expel"] as const) {
      const seen: Array<number> = []
      const there = opened("client", {
        handler: {
          frame: (type) => {
            seen.push(type)
            if (act === "goodbye") there.connection.goodbye("done", "")
            else if (act === "cut") there.connection.cut("enough")
            else there.connection.expel("mischief", "enough")
          },
          closed: () => undefined
        }
      })
      there.feed(frameOf(Type.request, 1), frameOf(Type.request, 2))
      expect(seen).toEqual([Type.request])
      expect(there.connection.isOutlaw).toBe(act === "expel")
    }
  })
})

test("a handler that throws loses its connection, and the error is reported", () => {
  const errors: Array<unknown> = []
  const socket = new KernelSocket()
  const { timers } = virtualTimers()
  const turn = manualTurn()
  const context = { turn: turn.turn, timers, limits }
  const handler: ConnectionHandler = {
    frame: () => {
      throw new Error("defect in a link")
    },
    closed: (why) => errors.push(why)
  }
  const accept = (more: object) =>
    Connection.accept(
      socket,
      { ...context, ...more },
      () => ({ welcome, handler }),
      () => undefined
    )
  accept({ defect: (error: unknown) => errors.push(error) }).data(
    Buffer.concat([helloOf("client"), frameOf(Type.request, 1)])
  )
  expect(errors).toEqual(["defect", new Error("defect in a link")])
  expect(socket.acts).toEqual(["terminate"])
  accept({}).data(Buffer.concat([helloOf("client"), frameOf(Type.request, 1)]))
  expect(() => turn.settle()).toThrow("defect in a link")
})

test("a handler that throws when it is closed takes nothing with it", () => {
  const errors: Array<unknown> = []
  const gone: Array<string> = []
  const { timers } = virtualTimers()
  const context = { turn: manualTurn().turn, timers, limits, defect: (error: unknown) => errors.push(error) }
  const handler: ConnectionHandler = {
    frame: () => undefined,
    closed: () => {
      throw new Error("defect in a link")
    }
  }
  const connection = Connection.accept(
    new KernelSocket(),
    context,
    () => ({ welcome, handler }),
    (_, why) => gone.push(why)
  )
  connection.data(helloOf("client"))
  connection.closed()
  expect(errors).toEqual([new Error("defect in a link")])
  expect(gone).toEqual(["closed"])
})

describe("many frames in one chunk", () => {
  const count = 3 * FRAMES_PER_SLICE + 5
  const many = Buffer.concat(Array.from({ length: count }, (_, i) => frameOf(Type.request, i + 1)))

  test("are handled a slice a turn, with the socket paused", () => {
    const { connection, turn, log, socket } = opened("client", { limits: { frameBytes: 1 << 20 } })
    connection.data(many)
    expect(log.length).toBe(FRAMES_PER_SLICE)
    expect(socket.acts).toEqual(["pause"])
    turn.end()
    expect(log.length).toBe(2 * FRAMES_PER_SLICE)
    turn.settle()
    expect(log.length).toBe(count)
    expect(socket.acts).toEqual(["pause", "resume"])
  })

  test("are all handled before the peer's FIN", () => {
    const { connection, log } = opened("client")
    connection.data(many)
    connection.ended()
    expect(log.length).toBe(count + 1)
    expect(log.at(-1)).toBe("closed: ended by the peer")
  })

  test("are dropped when the connection ends, and the socket reads on for the FIN", () => {
    const { connection, turn, log, socket } = opened("client")
    connection.data(many)
    connection.goodbye("drain", "")
    turn.settle()
    expect(log.length).toBe(FRAMES_PER_SLICE + 1)
    expect(socket.acts).toEqual(["pause", "shutdown", "resume"])
  })

  test("TOKENs, which are passed on unread, are handled sixteen times as many a turn", () => {
    const { connection, log } = opened("worker")
    connection.data(Buffer.concat(Array.from({ length: 2 * TOKENS_PER_SLICE }, () => frameOf(Type.token))))
    expect(log.length).toBe(16 * FRAMES_PER_SLICE)
  })
})
