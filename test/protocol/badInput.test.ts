import { heapStats } from "bun:jsc"
import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { encodeFrame, locate, pack, parts, unpack } from "../../src/protocol/Codec.ts"
import { gate, nodeCredential, proofOf } from "../../src/protocol/credentials.ts"
import { FRAMES_PER_SLICE } from "../../src/protocol/Frame.ts"
import { HEADER_OFFSET, Type, writeU32 } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { version } from "../../src/protocol/Message.ts"
import type { Role } from "../../src/protocol/Roles.ts"
import { inChunks } from "./support/frames.ts"
import { greetedPeer, helloFrame, listen, plainPeer, until } from "./support/loopback.ts"
import { visit } from "./support/visit.ts"

/*
 * What a hostile or broken peer sends over a real socket, and what becomes of it. The ids are those of docs/protocol.md, which also says
 * which of them are shown elsewhere.
 */

const routing = { idHigh: 0, idLow: 1, promptTokens: 1, maxTokens: 1 }
/** A REQUEST with this payload, given as msgpack. */
const request = (payload: Uint8Array): Buffer =>
  encodeFrame(Type.request, { stream: 5 }, { payload }, routing)
const goodRequest = request(pack({ prompt: "hi", outputTokens: 3 }))
const heartbeat = (payload: Uint8Array): Buffer => encodeFrame(Type.heartbeat, {}, { payload })
const ping = encodeFrame(Type.ping, {})
const nest = (depth: number): Buffer => Buffer.concat([Buffer.alloc(depth - 1, 0x91), Buffer.from([0x90])])
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex")
/** `{"prompt": "x", <key>: <value>}`, the pair given in hex. */
const withPair = (pair: string): Buffer =>
  Buffer.concat([hex("82 a6"), Buffer.from("prompt"), hex("a178"), hex(pair)])
const outputTokens = "ac6f7574707574546f6b656e73"
const resized = (frame: Buffer): Buffer => {
  writeU32(frame, 0, frame.length - 4)
  return frame
}
const ofLength = (length: number): Buffer => {
  const frame = Buffer.from(ping)
  writeU32(frame, 0, length)
  return frame
}
const repeated = (frame: Buffer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => frame))

/** The wire says nothing; the socket is reset. */
const CUT = "cut"
/** The connection stays, and nothing is said. */
const IGNORED = "ignored"
interface Error {
  readonly error: RegExp
}
/** Otherwise: a GOODBYE with that code, or an ERROR that says that, after which the connection works. */
type Reaction = typeof CUT | typeof IGNORED | { readonly goodbye: string } | Error
const badFrame: Reaction = { goodbye: "bad_frame" }

interface Row {
  readonly id: string
  readonly what: string
  readonly as: Role | "stranger"
  readonly bytes: Buffer
  readonly reaction: Reaction
}
const row = (id: string, what: string, as: Row["as"], bytes: Buffer, reaction: Reaction): Row => ({
  id,
  what,
  as,
  bytes,
  reaction
})

const table: ReadonlyArray<Row> = [
  row("F3", "length 0", "client", ofLength(0), badFrame),
  row("F3", "length 0 from a stranger", "stranger", ofLength(0), CUT),
  row("F4", "a length above the limit", "client", ofLength(defaultLimits.frameBytes + 1), CUT),
  row("F4", "length 2³¹", "client", ofLength(0x8000_0000), CUT),
  row("F4", "length 2³² − 1", "client", ofLength(0xffff_ffff), CUT),
  row(
    "F4",
    "a greeting above its own limit",
    "stranger",
    ofLength(defaultLimits.greetingFrameBytes + 1),
    CUT
  ),
  row(
    "F8",
    "no payload at all",
    "client",
    resized(Buffer.from(goodRequest.subarray(0, HEADER_OFFSET + 64 + 3)).fill(0x93, 4, 5)),
    badFrame
  ),
  row("F8", "an empty element", "client", resized(Buffer.from(request(Buffer.alloc(0)))), badFrame),
  row("F8", "bytes after the value", "client", resized(Buffer.concat([goodRequest, hex("c0")])), badFrame),
  row("F9", "an array32 bomb", "client", request(hex("ddffffffff")), badFrame),
  row("F9", "a map32 bomb", "client", request(hex("dfffffffff")), badFrame),
  row("F9", "a str32 bomb", "client", request(hex("dbffffffff")), badFrame),
  row("F9", "a bin32 bomb", "client", request(hex("c6ffffffff")), badFrame),
  row("F9", "a chain of array16", "client", request(Buffer.from("dcffff".repeat(24_000), "hex")), badFrame),
  row("F10", "depth 17", "client", request(nest(17)), badFrame),
  row("F10", "depth 10 000", "client", request(nest(10_000)), badFrame),
  row("F10", "depth 1 000 000", "client", request(nest(1_000_000)), badFrame),
  row(
    "F11",
    "a million empty maps",
    "client",
    request(Buffer.concat([hex("dd000f4240"), Buffer.alloc(1_000_000, 0x80)])),
    badFrame
  ),
  row(
    "F11",
    "a million empty arrays",
    "client",
    request(Buffer.concat([hex("dd000f4240"), Buffer.alloc(1_000_000, 0x90)])),
    badFrame
  ),
  row("F12", "0xc1", "client", request(withPair(`a161 c1`)), badFrame),
  ...(
    [
      ["a record definition", "d47240"],
      ["a reference", "d47000"],
      ["an id", "d46900"],
      ["a RegExp", "c7037892a161a0"],
      ["an Error", "c7036592a161a0"],
      ["a bigint", "d54201ff"],
      ["a bundle", "d66200000001"],
      ["a timestamp", "d6ff00000000"]
    ] as const
  ).map(([what, bytes]) => row("F12", what, "client", request(withPair(`a161 ${bytes}`)), badFrame)),
  ...["__proto__", "constructor", "prototype", "toString"].flatMap((key) => {
    const pair = Buffer.concat([pack(key), hex("80")]).toString("hex")
    return [
      row("F13", `the key ${key} in data`, "client", request(withPair(pair)), { error: /payload: Expected/ }),
      row("F13", `the key ${key} in control`, "worker", heartbeat(withPair(pair)), { goodbye: "bad_message" })
    ]
  }),
  row("F14", "a key that is no string", "client", request(withPair("01 02")), badFrame),
  row("F14", "a key twice in data", "client", request(withPair("a6 70726f6d7074 a179")), badFrame),
  row(
    "F14",
    "a key twice in data, written in two ways",
    "client",
    request(withPair("d906 70726f6d7074 a179")),
    badFrame
  ),
  row("F14", "a key twice in control", "worker", heartbeat(hex("82 a161 01 a161 02")), {
    goodbye: "bad_message"
  }),
  ...["c0af", "eda080", "e28241"].map((bytes) =>
    row(
      "F15",
      `an identity with ${bytes}`,
      "stranger",
      Buffer.from(
        helloFrame("client", { identity: "a~".repeat(bytes.length / 4 + 1) })
          .toString("hex")
          .replace("7e", bytes),
        "hex"
      ),
      CUT
    )
  ),
  row(
    "F15",
    "invalid UTF-8 in a prompt: replaced",
    "client",
    request(hex("81 a6 70726f6d7074 a2 c328")),
    IGNORED
  ),
  ...(
    [
      ["NaN", "cb7ff8000000000000"],
      ["∞", "cb7ff0000000000000"],
      ["−0", "cb8000000000000000"],
      ["2⁶³", "cf8000000000000000"],
      ["2⁵³ + 1", "cf0020000000000001"],
      ["−1", "ff"]
    ] as const
  ).map(([what, bytes]) =>
    row("F16", `${what} for a count`, "client", request(withPair(outputTokens + bytes)), {
      error: /^outputTokens: Expected/
    })
  ),
  row("F17", "an unknown type", "client", encodeFrame(99, { stream: 5 }), { error: /unknown frame type 99/ }),
  row("F17", "an unknown optional type", "client", encodeFrame(0x99, { stream: 5 }), IGNORED),
  row("F18", "another protocol", "stranger", Buffer.from("NATS or the like, 0123456789 0123456789"), CUT),
  row("F18", "the length of a frame, and no frame", "stranger", resized(Buffer.alloc(60, 0x42)), CUT),
  row("F19", "a higher major version", "stranger", helloFrame("client", { major: 2 }), {
    goodbye: "version"
  }),
  row("F20", "HTTP", "stranger", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), CUT),
  row("F20", "TLS", "stranger", hex("16030100c8010000c40303"), CUT),
  row("F21", "a REQUEST before HELLO", "stranger", goodRequest, CUT),
  row("F21", "a PING before HELLO", "stranger", ping, CUT),
  row("F21", "a second HELLO", "client", helloFrame("client"), CUT),
  row("F21", "a HELLO that changes the role", "client", helloFrame("admin"), CUT),
  row("F27", "a worker that sends REQUEST", "worker", goodRequest, CUT),
  row("F27", "a worker that sends ADMIN_REQUEST", "worker", encodeFrame(Type.adminRequest, {}), CUT),
  row("F27", "a client that sends TOKEN", "client", encodeFrame(Type.token, { stream: 5 }), CUT),
  row("F31", "a flood of PING", "client", repeated(ping, 20_000), { goodbye: "flood" }),
  row("F34", "a wish for compression", "stranger", helloFrame("client", { compression: ["zstd"] }), IGNORED)
]

describe("over a real socket", () => {
  test.each(table.map((entry, i) => ({ ...entry, name: `${entry.id} ${entry.what}`, i })))(
    "$name",
    async ({ as, bytes, reaction }) => {
      const { server, handled, violations, defects } = listen()
      const peer = as === "stranger" ? await plainPeer(server.port) : await greetedPeer(server.port, as)
      const greeting = peer.frames.length
      // What follows in the same segment must not be taken for anything.
      peer.send(bytes, goodRequest)
      if (reaction === CUT) {
        await until(() => peer.seen.closed)
        expect(peer.frames.length).toBe(greeting)
        expect(violations.length).toBe(1)
      } else if (typeof reaction === "object" && "goodbye" in reaction) {
        await until(() => peer.seen.ended)
        expect(peer.goodbye()).toMatchObject({ code: reaction.goodbye })
        peer.socket.shutdown()
        await until(() => peer.seen.closed)
        expect(handled.filter((type) => type === Type.request).length).toBeLessThanOrEqual(1)
      } else {
        await until(() => peer.types().includes(Type.accepted))
        const said = peer.frames.find(({ type }) => type === Type.error)
        if (reaction === IGNORED) expect(said).toBeUndefined()
        else {
          expect(said).toMatchObject({ stream: 5 })
          expect([Reason.badRequest, Reason.unknownType] as ReadonlyArray<number>).toContain(said!.a)
          expect(said!.payload).toEqual({ message: expect.stringMatching(reaction.error) })
        }
        expect(server.connectionCount()).toBe(1)
        peer.socket.shutdown()
      }
      await until(() => server.connectionCount() === 0)
      expect(defects).toEqual([])
    }
  )
})

describe("over a real socket, with time", () => {
  test("F1 a header that is cut, from a stranger: cut at 2 s", async () => {
    const { server, advance, violations } = listen()
    const peer = await plainPeer(server.port)
    peer.send(helloFrame("client").subarray(0, 12))
    await until(() => server.connectionCount() === 1)
    advance(2000)
    expect(server.connectionCount()).toBe(1)
    advance(500)
    await until(() => peer.seen.closed)
    expect(peer.frames).toEqual([])
    expect(violations.map(({ kind }) => kind)).toEqual(["greeting_timeout"])
    expect(server.connectionCount()).toBe(0)
  })

  test("F1 and F5 a frame that is begun and dribbles, after the greeting: GOODBYE at 10 s", async () => {
    const { server, advance, violations } = listen()
    const peer = await greetedPeer(server.port, "client")
    const long = request(Buffer.concat([hex("c6000fff00"), Buffer.alloc(0xfff00)]))
    for (let second = 0; second <= 10; second++) {
      const heard = peer.seen.receivedBytes
      peer.send(
        second === 0
          ? Buffer.concat([ping, long.subarray(0, 100)])
          : long.subarray(100 + second, 101 + second)
      )
      if (second === 0) await until(() => peer.seen.receivedBytes > heard)
      advance(1000)
    }
    await until(() => peer.seen.ended)
    expect(peer.goodbye()).toEqual({ code: "bad_frame", message: "a frame took too long" })
    expect(violations.map(({ kind }) => kind)).toEqual(["frame_timeout"])
  })

  test.each(["FIN", "RST"])("F2 a body that is cut by %s: no part of it reaches a handler", async (how) => {
    const { server, handled, defects } = listen()
    const peer = await greetedPeer(server.port, "client")
    peer.send(ping, goodRequest.subarray(0, 60))
    await until(() => peer.types().includes(Type.pong))
    if (how === "FIN") peer.socket.shutdown()
    else peer.socket.terminate()
    await until(() => server.connectionCount() === 0)
    expect(handled).toEqual([])
    expect(defects).toEqual([])
  })

  test("F6 a frame of the largest size in 1-byte and in 1 400-byte segments is taken", async () => {
    const { server } = listen()
    const peer = await greetedPeer(server.port, "client")
    const text = Buffer.alloc(defaultLimits.frameBytes - 200, 0x61)
    const large = request(pack({ prompt: text.toString() }))
    for (const chunk of [...inChunks(goodRequest, [1]), ...inChunks(large, [1400])]) {
      peer.send(chunk)
      await until(peer.allSent)
    }
    await until(() => peer.types().filter((type) => type === Type.accepted).length === 2)
  })

  test.each([false, true])(
    "F6 what follows a greeting in its segment is taken, however large (proved: %p)",
    async (proved) => {
      const { server } = listen(proved ? { gate: gate({ client: ["secret"] }) } : {})
      const claim = { role: "client", identity: "client-1", incarnation: 7 } as const
      const large = request(pack({ prompt: "a".repeat(500_000) }))
      const peer = await plainPeer(server.port)
      if (proved) {
        peer.send(helloFrame("client"))
        await until(() => peer.frames.length === 1)
        const { nonce } = peer.frames[0]!.payload as { readonly nonce: Uint8Array }
        const proof = proofOf("secret", claim, nonce)
        peer.send(encodeFrame(Type.proof, {}, { payload: pack({ proof }) }), large)
      } else peer.send(helloFrame("client"), large)
      await until(() => peer.types().includes(Type.accepted))
    }
  )

  test("F7 10 000 tiny frames in one segment are taken in slices of 256, and others get their turn", async () => {
    const { server, turn, handled } = listen()
    const flooder = await greetedPeer(server.port, "client")
    const other = await greetedPeer(server.port, "client", { identity: "other" })
    /** Frames handled within each turn of the event loop. */
    const perTurn: Array<number> = []
    let before = 0
    const note = {
      run: () => {
        perTurn.push(handled.length - before)
        before = handled.length
        if (handled.length < 10_000) turn.soon(note)
      }
    }
    turn.soon(note)
    flooder.send(repeated(encodeFrame(Type.cancel, { stream: 1 }), 10_000))
    other.send(ping)
    await until(() => handled.length === 10_000 && other.types().includes(Type.pong))
    // One slice when the chunk comes, and one at the end of that turn.
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(2 * (FRAMES_PER_SLICE + 1))
  })

  test("F11 two million values at once are read, more than that is a flood; a second later they are read again", async () => {
    const values = request(Buffer.concat([hex("81a161 dd 0000f000"), Buffer.alloc(0xf000, 0xc0)]))
    const { server, advance, handled } = listen()
    const peer = await greetedPeer(server.port, "client")
    // Each is scanned when it comes, when it is unpacked, and when its fault is named.
    const fit = Math.floor(defaultLimits.nodesPerSecond / (3 * 0xf003))
    for (let round = 1; round <= 3; round++) {
      peer.send(repeated(values, fit))
      await until(() => handled.length === round * fit)
      expect(server.connectionCount()).toBe(1)
      advance(1000)
    }
    peer.send(repeated(values, 2 * fit))
    await until(() => peer.seen.ended)
    expect(peer.goodbye()).toEqual({ code: "flood", message: "too many msgpack values" })
  })

  test("F21 and F27 who breaks the rules of a role is refused for 10 s, then 20 s; another identity is not", async () => {
    const { server, advance } = listen()
    const offend = async () => {
      const peer = await greetedPeer(server.port, "worker")
      expect(peer.types()).toEqual([Type.welcome])
      peer.send(goodRequest)
      await until(() => peer.seen.closed)
    }
    const refused = async () => (await greetedPeer(server.port, "worker")).goodbye()
    await offend()
    expect(await refused()).toEqual({
      code: "quarantined",
      message: "rules were broken under this identity: come back in 10 s"
    })
    expect((await greetedPeer(server.port, "worker", { identity: "worker-2" })).types()).toEqual([
      Type.welcome
    ])
    advance(9999)
    expect(await refused()).toMatchObject({ code: "quarantined" })
    advance(1)
    await offend()
    expect(await refused()).toMatchObject({ message: expect.stringContaining("20 s") })
  })

  test("F22 a greeting that was overheard lets nobody in", async () => {
    const { server, handled, violations } = listen({ gate: gate({ worker: ["secret"] }) })
    const hello = { ...version, role: "worker", identity: "worker-1", incarnation: 7 } as const
    const peer = await greetedPeer(server.port, "worker")
    const { nonce } = peer.frames[0]!.payload as { readonly nonce: Uint8Array }
    const proof = encodeFrame(Type.proof, {}, { payload: pack({ proof: proofOf("secret", hello, nonce) }) })
    peer.send(proof)
    await until(() => peer.frames.length === 2)
    expect(peer.types()).toEqual([Type.challenge, Type.welcome])
    const thief = await greetedPeer(server.port, "worker")
    thief.send(proof, heartbeat(pack({})))
    await until(() => thief.seen.ended)
    expect(thief.goodbye()).toEqual({ code: "unauthorized", message: "not authorised as worker" })
    expect([handled, violations.map(({ kind }) => kind)]).toEqual([[], ["unauthorized"]])
  })

  test("F23 the credential of one node is not that of another", async () => {
    const { server } = listen({ gate: gate({ worker: ["secret"] }) })
    const own = { role: "worker", identity: "worker-1" } as const
    const greeting = async (identity: string, role: Role = "worker") => {
      const peer = await greetedPeer(server.port, role, { identity })
      const { nonce } = peer.frames[0]!.payload as { readonly nonce: Uint8Array }
      const claim = { role, identity, incarnation: 7 }
      peer.send(
        encodeFrame(
          Type.proof,
          {},
          { payload: pack({ proof: proofOf(nodeCredential("secret", own), claim, nonce) }) }
        )
      )
      await until(() => peer.frames.length === 2)
      return peer.goodbye() ?? peer.types()
    }
    expect(await greeting("worker-1")).toEqual([Type.challenge, Type.welcome])
    expect(await greeting("worker-2")).toMatchObject({ code: "unauthorized" })
  })

  test("F31 HEARTBEATs at 10 000 a second end the connection, at 4 a second they do not", async () => {
    const load = heartbeat(
      pack({
        running: 1,
        waiting: 0,
        kvUsedTokens: 0,
        kvCapacityTokens: 1,
        requestsDone: 0,
        requestsFailed: 0,
        requestsCancelled: 0,
        promptTokens: 0,
        cachedPromptTokens: 0,
        outputTokens: 0
      })
    )
    const { server, advance, handled } = listen()
    const calm = await greetedPeer(server.port, "worker")
    for (let i = 1; i <= 600; i++) {
      calm.send(load)
      if (i % 40 === 0) await until(() => handled.length === i)
      advance(250)
    }
    expect(server.connectionCount()).toBe(1)
    const wild = await greetedPeer(server.port, "worker", { identity: "wild" })
    wild.send(repeated(load, 10_000))
    await until(() => wild.seen.ended)
    expect(wild.goodbye()).toMatchObject({ code: "flood" })
  })
})

describe("memory", () => {
  /** Growth of the JavaScript heap while `run` is called 20 times, with no collection in between. */
  const grownBytes = (run: () => unknown): number => {
    run()
    const before = process.memoryUsage().heapUsed
    for (let i = 0; i < 20; i++) run()
    return process.memoryUsage().heapUsed - before
  }
  const bombs = table.filter(({ id }) => ["F8", "F9", "F10", "F11", "F12"].includes(id))

  test.each(bombs)("$id $what is refused without unpacking anything", ({ bytes }) => {
    const frame = Buffer.from(bytes)
    const refuse = () => {
      const isWell = locate(frame, 0, frame.length, defaultLimits)
      expect(isWell && unpack(frame, parts.payloadStart, parts.payloadEnd, defaultLimits) !== undefined).toBe(
        false
      )
    }
    // A million values unpacked once would be 30 MB.
    expect(grownBytes(refuse)).toBeLessThan(2_000_000)
  })

  test("nothing stays of whoever sent any of it", async () => {
    const { server, advance, connections, handled, violations } = listen()
    let visitors = 0
    const rounds = async (count: number): Promise<number> => {
      for (let round = 0; round < count; round++) {
        for (const { as, bytes } of table) {
          const hello = as === "stranger" ? [] : [helloFrame(as, { identity: `visitor-${visitors++}` })]
          await visit(server.port, Buffer.concat([...hello, bytes]))
        }
        await until(() => server.connectionCount() === 0)
        advance(1000)
        violations.length = handled.length = connections.length = 0
        Bun.gc(true)
      }
      return heapStats().objectCount
    }
    const before = await rounds(3)
    // Fewer objects than half of the visitors. The names of those that were expelled stay: 1,024 of them at most.
    expect((await rounds(20)) - before).toBeLessThan(10 * table.length)
  })

  test("F4 a thousand connections that announce 4 GiB each cost nothing that stays", async () => {
    const { server } = listen()
    const round = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const peer = await plainPeer(server.port)
        peer.send(ofLength(0xffff_ffff))
        await until(() => peer.seen.closed)
      }
      Bun.gc(true)
      return process.memoryUsage().rss
    }
    const before = await round(200)
    expect((await round(800)) - before).toBeLessThan(32 * 1024 * 1024)
    expect(server.connectionCount()).toBe(0)
  })
})
