import { describe, expect, test } from "bun:test"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { idleLoad, type WorkerLoad } from "../../src/domain/WorkerLoad.ts"
import { encodeFrame, pack, unpack } from "../../src/protocol/Codec.ts"
import { Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import {
  Failure,
  faultOf,
  Finished,
  Goodbye,
  Heartbeat,
  Hello,
  packExtras,
  Prompt,
  read,
  Challenge,
  Proof,
  readHeartbeat,
  readPayload,
  Register,
  unpackExtras,
  Welcome
} from "../../src/protocol/Message.ts"

const messages = { Hello, Challenge, Proof, Welcome, Goodbye, Register, Heartbeat, Prompt, Finished, Failure }
const names = Object.keys(messages) as ReadonlyArray<keyof typeof messages>

const good = {
  Hello: { major: 1, minor: 0, role: "worker", identity: "worker-1", incarnation: 7 },
  Challenge: { nonce: Buffer.alloc(16, 1) },
  Proof: { proof: Buffer.alloc(32, 2) },
  Welcome: {
    major: 1,
    minor: 0,
    identity: "b",
    incarnation: 1,
    frameBytes: 1 << 20,
    models: ["llama-3-8b", "org/model@v2"]
  },
  Goodbye: { code: "drain", message: "shutting down" },
  Register: { models: ["m"], role: "both", capacity: 64, speed: 1, kvCapacityTokens: 100_000 },
  Heartbeat: { ...idleLoad, running: 3, outputTokens: 12_345_678_901 },
  Prompt: { prompt: "Hëllo \u{1f30d}", outputTokens: 5 },
  Finished: { reason: "stop", worker: "worker-1", queueMs: 0.5, prefillMs: 12, totalMs: 100.25 },
  Failure: { message: "unknown model" }
} as const

const unpacked = (bytes: Buffer): unknown => unpack(bytes, 0, bytes.length, defaultLimits)
const reads = (name: keyof typeof messages, value: unknown): unknown =>
  read(messages[name], unpacked(pack(value)))
const fault = (name: keyof typeof messages, value: unknown): string =>
  faultOf(messages[name], unpacked(pack(value)))

/** UTF-8 cannot carry half a surrogate pair: U+FFFD arrives in its place. */
const isText = (message: unknown): boolean => !/\\ud[89a-f]/.test(JSON.stringify(message))

describe.each(names)("%s", (name) => {
  test("decode ∘ encode is the identity", () => {
    expect(reads(name, good[name])).toEqual(good[name])
    // No generator finds bytes of one length by chance.
    if (name === "Challenge" || name === "Proof") return
    const arbitrary = Arbitrary.schema<Schema.Constraint>(messages[name])
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        for (const message of Effect.runSync(Arbitrary.sampleEffect(arbitrary, { seed, count: 5 }))) {
          if (isText(message)) expect(reads(name, message)).toEqual(message)
        }
      }),
      { numRuns: 20 }
    )
  })

  test("a field it does not know is ignored, one that is missing is a fault that names it", () => {
    expect(reads(name, { ...good[name], added: [1, 2] })).toEqual(good[name])
    for (const field of Object.keys(good[name])) {
      if (field === "outputTokens") continue
      const { [field]: _, ...rest } = good[name] as Record<string, unknown>
      expect(reads(name, rest)).toBeUndefined()
      expect(fault(name, rest)).toBe(`${field}: Missing key`)
    }
  })

  test.each([
    ["nil", null],
    ["a number", 5],
    ["an array", []],
    ["a text", "x"]
  ])("is not %s", (_, value) => {
    expect(reads(name, value)).toBeUndefined()
    expect(fault(name, value)).toStartWith("payload: Expected")
  })
})

describe("numbers", () => {
  const counts = [
    ["NaN", NaN],
    ["∞", Infinity],
    ["−∞", -Infinity],
    ["−0", -0],
    ["−1", -1],
    ["2⁶³", 2 ** 63],
    ["a text", "5"]
  ] as const

  test.each(counts)("%s is no count: the fault names the field and not the value", (_, bad) => {
    for (const [name, field] of [
      ["Hello", "incarnation"],
      ["Register", "kvCapacityTokens"],
      ["Heartbeat", "running"],
      ["Prompt", "outputTokens"],
      ["Finished", "totalMs"]
    ] as const) {
      const value = { ...good[name], [field]: bad }
      // −0 is written as the integer 0 by most encoders; here is the float.
      const said = unpacked(Object.is(bad, -0) ? withMinusZero(value, field) : pack(value))
      expect(read(messages[name], said)).toBeUndefined()
      expect(faultOf(messages[name], said)).toStartWith(`${field}: Expected`)
    }
  })

  test("an integer beyond 2⁵³ and a fraction are no u32", () => {
    for (const bad of [2 ** 53, 2 ** 32, 1.5]) {
      expect(fault("Prompt", { ...good.Prompt, outputTokens: bad })).toStartWith("outputTokens: Expected")
    }
    const wide = Buffer.concat([
      Buffer.from([0x81, 0xac]),
      Buffer.from("outputTokens"),
      Buffer.from([0xcf]),
      Buffer.alloc(8, 0xff)
    ])
    expect(read(Schema.Struct({ outputTokens: Schema.Int }), unpacked(wide))).toBeUndefined()
  })
})

/** `value` packed with the float −0 in one field. */
const withMinusZero = (value: object, field: string): Buffer => {
  const { [field]: _, ...rest } = value as Record<string, unknown>
  const packed = pack({ ...rest, [field]: null })
  expect(packed.at(-1)).toBe(0xc0)
  return Buffer.concat([packed.subarray(0, -1), Buffer.from([0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0])])
}

describe("names", () => {
  const bad = [
    ["empty", ""],
    ["too long", "x".repeat(129)],
    ["a blank", "a b"],
    ["a line break", "a\nb"],
    ["not ASCII", "wörker"],
    ["a NUL", "a\0"],
    ["U+FFFD, as invalid UTF-8 becomes", "a\u{fffd}"]
  ] as const

  test.each(bad)("%s", (_, name) => {
    expect(fault("Hello", { ...good.Hello, identity: name })).toStartWith("identity: Expected")
    expect(fault("Register", { ...good.Register, models: [name] })).toStartWith("models.0: Expected")
    const extras = packExtras({ modelName: name, tenantName: null, idempotencyKey: null })
    expect(unpackExtras(extras, 0, extras.length, defaultLimits)).toBeUndefined()
  })

  test.each([
    ["overlong", [0xc0, 0xaf]],
    ["a lone surrogate", [0xed, 0xa0, 0x80]],
    ["a cut sequence", [0xe2, 0x82]]
  ])("invalid UTF-8 in an identity: %s", (_, bytes) => {
    const hello = pack({ ...good.Hello, identity: "x".repeat(bytes.length) })
    hello.set(bytes, hello.indexOf("x".repeat(bytes.length)))
    expect(read(Hello, unpacked(hello))).toBeUndefined()
  })
})

describe("what a worker may announce", () => {
  test.each([
    ["no model", { models: [] }, "models"],
    ["257 models", { models: Array.from({ length: 257 }, (_, i) => `m${i}`) }, "models"],
    ["capacity 0", { capacity: 0 }, "capacity"],
    ["capacity 10⁹", { capacity: 1e9 }, "capacity"],
    ["speed 0", { speed: 0 }, "speed"],
    ["speed −1", { speed: -1 }, "speed"],
    ["speed NaN", { speed: NaN }, "speed"],
    ["speed 1001", { speed: 1001 }, "speed"]
  ])("not %s", (_, more, field) => {
    expect(reads("Register", { ...good.Register, ...more })).toBeUndefined()
    expect(fault("Register", { ...good.Register, ...more })).toStartWith(`${field}: Expected`)
  })
})

describe("readHeartbeat", () => {
  const heartbeat = (load: object) => {
    const frame = encodeFrame(Type.heartbeat, {}, { payload: pack(load) })
    return readHeartbeat(frame, 0, frame.length, defaultLimits)
  }

  test("gives counts, whatever numbers came, and says whether they had to be clamped", () => {
    const number = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(-1, 1e308, NaN, Infinity))
    fc.assert(
      fc.property(
        fc.record(Object.fromEntries(Object.keys(idleLoad).map((field) => [field, number]))),
        (load) => {
          const got = heartbeat(load)
          if ("fault" in got) throw new Error(got.fault)
          expect(Schema.is(Heartbeat)(got.load)).toBe(true)
          expect(got.clamped).toBe(!Schema.is(Heartbeat)(load))
        }
      )
    )
  })

  test("clamps to the nearest bound", () => {
    const load = { ...idleLoad, running: -1, waiting: 1e308, promptTokens: NaN, outputTokens: 7 }
    const expected: WorkerLoad = { ...idleLoad, waiting: Number.MAX_SAFE_INTEGER, outputTokens: 7 }
    expect(heartbeat(load)).toEqual({ load: expected, clamped: true })
  })

  test("is understood from a worker that does not know the newer fields", () => {
    const older = Object.fromEntries(Object.entries({ ...idleLoad, running: 3, steps: 5 }).slice(0, 10))
    expect(heartbeat(older)).toEqual({ load: { ...idleLoad, running: 3 }, clamped: false })
  })

  test("refuses what is no load, and names the field", () => {
    expect(heartbeat({ running: 1 })).toEqual({ fault: "waiting: Missing key" })
    expect(heartbeat({ ...idleLoad, running: "many" })).toEqual({ fault: "running: Expected number" })
  })
})

describe("extras of a REQUEST", () => {
  const name = fc.option(fc.stringMatching(/^[\x21-\x7e]{1,128}$/))

  test("decode ∘ encode is the identity, whatever a later version appends", () => {
    fc.assert(
      fc.property(
        name,
        name,
        name,
        fc.array(fc.integer(), { maxLength: 13 }),
        (modelName, tenantName, idempotencyKey, more) => {
          const extras = { modelName, tenantName, idempotencyKey }
          for (const bytes of [packExtras(extras), pack([modelName, tenantName, idempotencyKey, ...more])]) {
            expect(unpackExtras(bytes, 0, bytes.length, defaultLimits)).toEqual(extras)
          }
        }
      )
    )
  })

  test("missing elements are null; anything but a short array is refused", () => {
    const get = (value: unknown) => {
      const bytes = pack(value)
      return unpackExtras(bytes, 0, bytes.length, defaultLimits)
    }
    expect(get(["m"])).toEqual({ modelName: "m", tenantName: null, idempotencyKey: null })
    for (const bad of [null, {}, "m", [5], Array.from({ length: 17 }, () => null)])
      expect(get(bad)).toBeUndefined()
  })
})

test("readPayload reads the payload, also of a frame with more elements than four", () => {
  const frame = encodeFrame(Type.goodbye, {}, { payload: pack(good.Goodbye) })
  expect(readPayload(Goodbye, frame, 0, frame.length, defaultLimits)).toEqual(good.Goodbye)
  const longer = Buffer.concat([frame, Buffer.from([0xa1, 0x78])])
  longer.writeUInt32BE(longer.length - 4)
  longer[4] = 0x95
  expect(readPayload(Goodbye, longer, 0, longer.length, defaultLimits)).toEqual(good.Goodbye)
  expect(
    readPayload(Goodbye, Buffer.concat([frame, Buffer.from([0])]), 0, frame.length + 1, defaultLimits)
  ).toBeUndefined()
})
