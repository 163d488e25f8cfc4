import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { encodeFrame, locate, pack, parts, unpack } from "../../src/protocol/Codec.ts"
import { At, HEADER_OFFSET, readU16, readU32, Type, writeU16, writeU32 } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { draft, encodeDraft, plainValue, readFrame } from "./support/frames.ts"

const u32 = fc.nat({ max: 0xffff_ffff })
const limits = { depth: 32, nodes: 1 << 20 }

test("numbers in a header come back as they were written, and touch nothing else", () => {
  fc.assert(
    fc.property(u32, fc.nat(20), (value, at) => {
      const bytes = new Uint8Array(24)
      writeU32(bytes, at, value)
      expect(readU32(bytes, at)).toBe(value)
      writeU16(bytes, at, value & 0xffff)
      expect(readU16(bytes, at)).toBe(value & 0xffff)
      bytes.fill(0, at, at + 4)
      expect(bytes.some((byte) => byte !== 0)).toBe(false)
    })
  )
})

test("decode ∘ encode is the identity on values", () => {
  fc.assert(
    fc.property(plainValue, fc.nat(50), (value, before) => {
      const bytes = Buffer.concat([Buffer.alloc(before), pack(value), Buffer.from([0xc0])])
      expect(unpack(bytes, before, bytes.length - 1, limits)).toEqual(value)
    }),
    { numRuns: 500 }
  )
})

test("decode ∘ encode is the identity on frames, and any msgpack library reads them", () => {
  fc.assert(
    fc.property(draft, fc.nat(9), (drafted, before) => {
      const frame = encodeDraft(drafted)
      const { type, fields, chain, extras, payload, routing } = drafted
      const { header, ...read } = readFrame(frame)
      const written: object = { type, ...fields, chain: chain ?? null, extras, payload }
      expect<object>(read).toEqual(written)
      expect(header.length).toBe(routing === undefined ? 24 : 64)
      if (routing !== undefined) {
        expect({
          idHigh: readU32(header, At.idHigh),
          idLow: readU32(header, At.idLow),
          tenant: readU16(header, At.tenant),
          model: readU16(header, At.model),
          class: header[At.class],
          promptTokens: readU32(header, At.promptTokens),
          maxTokens: readU32(header, At.maxTokens),
          timeoutMs: readU32(header, At.timeoutMs),
          sessionHigh: readU32(header, At.sessionHigh),
          sessionLow: readU32(header, At.sessionLow)
        }).toEqual(routing)
      }

      const chunk = Buffer.concat([Buffer.alloc(before), frame, Buffer.from([0xc1])])
      const end = before + frame.length
      expect(locate(chunk, before, end, limits)).toBe(true)
      expect(Buffer.from(chunk.subarray(parts.chainStart, parts.chainEnd))).toEqual(Buffer.from(chain ?? []))
      expect(parts.payloadEnd).toBe(end)
      const { extrasStart, payloadStart, payloadEnd } = parts
      expect(unpack(chunk, extrasStart, payloadStart, limits)).toEqual(extras)
      expect(unpack(chunk, payloadStart, payloadEnd, limits)).toEqual(payload)
    }),
    { numRuns: 300 }
  )
})

describe("locate", () => {
  /** A TOKEN frame with these bytes after its header. */
  const frameOf = (elements: number, ...rest: ReadonlyArray<number>): Buffer => {
    const frame = Buffer.concat([
      encodeFrame(Type.token, {}).subarray(0, HEADER_OFFSET + 24),
      Buffer.from(rest)
    ])
    writeU32(frame, 0, frame.length - 4)
    frame[4] = 0x90 + elements
    return frame
  }
  const isWell = (frame: Buffer): boolean => locate(frame, 0, frame.length, defaultLimits)

  test.each([
    ["nothing but nils", frameOf(4, 0xc0, 0xc0, 0xc0)],
    ["an empty chain", frameOf(4, 0xc4, 0, 0xc0, 0xc0)],
    ["a chain of one hash, bin16", frameOf(4, 0xc5, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0xc0, 0xc0)],
    ["eleven elements more than known", frameOf(15, ...Array.from({ length: 14 }, () => 0xc0))]
  ])("accepts %s", (_, frame) => {
    expect(isWell(frame)).toBe(true)
  })

  test.each([
    ["bytes after the last element", frameOf(4, 0xc0, 0xc0, 0xc0, 0xc0)],
    ["an element too few", frameOf(5, 0xc0, 0xc0, 0xc0)],
    ["a chain that is no bytes", frameOf(4, 0x01, 0xc0, 0xc0)],
    ["a chain of seven bytes", frameOf(4, 0xc4, 7, 1, 2, 3, 4, 5, 6, 7, 0xc0, 0xc0)],
    ["a chain beyond the frame", frameOf(4, 0xc4, 8, 0xc0, 0xc0)],
    ["a chain of 4 GiB", frameOf(4, 0xc6, 0xff, 0xff, 0xff, 0xf8)],
    ["a chain length beyond the frame", frameOf(4, 0xc6, 0, 0)],
    ["an extension in the extras", frameOf(4, 0xc0, 0xd4, 0x72, 0x40, 0xc0)],
    ["an extension in the payload", frameOf(4, 0xc0, 0xc0, 0xd4, 0x72, 0x40)],
    ["an extension in an unknown element", frameOf(5, 0xc0, 0xc0, 0xc0, 0xd4, 0x72, 0x40)]
  ])("refuses %s", (_, frame) => {
    expect(isWell(frame)).toBe(false)
  })

  test("counts the values of the whole frame", () => {
    const half = pack(Array.from({ length: 40_000 }, () => 0))
    const extras = encodeFrame(Type.request, {}, { extras: half })
    const payload = encodeFrame(Type.request, {}, { payload: half })
    expect([extras, payload].map(isWell)).toEqual([true, true])
    expect(isWell(encodeFrame(Type.request, {}, { extras: half, payload: half }))).toBe(false)
  })

  test("agrees with a plain msgpack library on damaged frames", () => {
    fc.assert(
      fc.property(draft, fc.array(fc.tuple(fc.nat(), fc.nat(0xff)), { maxLength: 3 }), (drafted, damages) => {
        const frame = encodeDraft(drafted)
        const bodyAt = HEADER_OFFSET + frame[HEADER_OFFSET - 1]!
        for (const [at, byte] of damages) frame[bodyAt + (at % (frame.length - bodyAt))] = byte
        // Throws when it is not one value, to the last byte.
        if (isWell(frame)) readFrame(frame)
      }),
      { numRuns: 2000 }
    )
  })
})

describe("unpack refuses", () => {
  test.each([
    ["nothing", Buffer.alloc(0)],
    ["a byte too many", Buffer.from([0x01, 0x01])],
    ["a key twice", Buffer.from([0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2])],
    ["a key twice, deep inside", Buffer.from([0x91, 0x81, 0xa1, 0x62, 0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2])],
    ["the key __proto__", pack(JSON.parse('{"__proto__":{"admin":true}}'))],
    ["the key constructor", pack({ constructor: 1 })],
    ["the key prototype", pack({ prototype: 1 })],
    ["the key toString", pack({ a: [{ toString: 1 }] })]
  ])("%s", (_, bytes) => {
    expect(unpack(bytes, 0, bytes.length, defaultLimits)).toBeUndefined()
  })
})

test("what unpack returns does not change with the buffer it came from", () => {
  const bytes = Buffer.from(
    pack({ raw: Buffer.from("abcd"), text: "a text that is longer than thirty-one bytes" })
  )
  const value = unpack(bytes, 0, bytes.length, defaultLimits)
  bytes.fill(0)
  expect(value).toEqual({ raw: Buffer.from("abcd"), text: "a text that is longer than thirty-one bytes" })
})

test("invalid UTF-8 in a text becomes U+FFFD", () => {
  for (const bytes of [
    [0xa2, 0xc3, 0x28],
    [0xa2, 0xc0, 0xaf],
    [0xa3, 0xed, 0xa0, 0x80],
    [0xd9, 2, 0xc3, 0x28]
  ]) {
    expect(unpack(Buffer.from(bytes), 0, bytes.length, defaultLimits)).toContain("\u{fffd}")
  }
})
