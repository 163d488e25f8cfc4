import { describe, expect, spyOn, test } from "bun:test"
import * as fc from "fast-check"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { FRAMES_PER_SLICE, FrameReader, TOKENS_PER_SLICE } from "../../src/protocol/Frame.ts"
import { HEADER_OFFSET, LENGTH_BYTES, Type, writeU32 } from "../../src/protocol/Header.ts"
import { anyFrame, chunking, cutFrames, inChunks } from "./support/frames.ts"

const ping = encodeFrame(Type.ping, {})
const limit = 1 << 20

describe("any split or merge of writes reassembles", () => {
  const law = (frames: ReadonlyArray<Buffer>, lengths: ReadonlyArray<number>): void => {
    const cut = cutFrames(inChunks(Buffer.concat(frames), lengths))
    expect(cut.frames).toEqual([...frames])
    expect(cut.broken).toBeUndefined()
    expect(cut.rest).toBe(false)
  }

  test("in chunks of any length", () => {
    fc.assert(fc.property(fc.array(anyFrame, { maxLength: 12 }), chunking, law))
  })

  test("byte by byte, and all in one", () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 4 }), (frames) => {
        law(frames, [1])
        law(frames, [limit])
      }),
      { numRuns: 30 }
    )
  })

  test("an incomplete last frame is never delivered", () => {
    fc.assert(
      fc.property(
        fc.array(anyFrame, { maxLength: 4 }),
        anyFrame,
        fc.nat(),
        chunking,
        (frames, last, cut, lengths) => {
          const part = last.subarray(0, 1 + (cut % (last.length - 1)))
          const got = cutFrames(inChunks(Buffer.concat([...frames, part]), lengths))
          expect(got.frames).toEqual([...frames])
          expect(got.rest).toBe(true)
        }
      )
    )
  })
})

describe("what is no frame", () => {
  const withLength = (length: number): Buffer => {
    const frame = Buffer.from(ping)
    writeU32(frame, 0, length)
    return frame
  }

  test.each([
    ["length 0", withLength(0), "tooShort"],
    ["length 1", withLength(1), "tooShort"],
    ["length below the smallest frame", withLength(ping.length - LENGTH_BYTES - 1), "tooShort"],
    ["length one above the limit", withLength(limit + 1), "tooLong"],
    ["length 2³¹", withLength(0x8000_0000), "tooLong"],
    ["length 2³² − 1", withLength(0xffff_ffff), "tooLong"],
    ["no array", Buffer.from(ping).fill(0x84, 4, 5), "shape"],
    ["an array of three", Buffer.from(ping).fill(0x93, 4, 5), "shape"],
    ["a header that is no bin8", Buffer.from(ping).fill(0xc5, 5, 6), "shape"],
    ["a header that is too small", Buffer.from(ping).fill(23, 6, 7), "shape"],
    ["a header that leaves no room for the rest", Buffer.from(ping).fill(25, 6, 7), "shape"],
    [
      "a REQUEST without routing fields",
      Buffer.from(ping).fill(Type.request, HEADER_OFFSET, HEADER_OFFSET + 1),
      "shape"
    ],
    [
      "an ASSIGN without routing fields",
      Buffer.from(ping).fill(Type.assign, HEADER_OFFSET, HEADER_OFFSET + 1),
      "shape"
    ]
  ])("%s", (_, bytes, why) => {
    for (const lengths of [[1], [3], [1000]]) {
      const got = cutFrames([ping, ...inChunks(bytes, lengths), ping])
      expect(got.broken).toBe(why)
      expect(got.frames).toEqual([ping])
    }
  })

  test("more elements and a longer header are fine", () => {
    const body = [
      Buffer.from([0x95, 0xc4, 30]),
      Buffer.alloc(30, 7),
      Buffer.from([0xc0, 0xc0, 0xc0, 0xa1, 0x78])
    ]
    const frame = Buffer.concat([Buffer.alloc(4), ...body])
    writeU32(frame, 0, frame.length - 4)
    expect(cutFrames([frame]).frames).toEqual([frame])
  })
})

test("a stopped reader stays stopped, and says so once", () => {
  let frames = 0
  let broken = 0
  const sink = { frame: () => ++frames < 2, broken: () => void broken++ }
  const stopped = new FrameReader(sink, limit)
  for (let i = 0; i < 3; i++) stopped.push(Buffer.concat([ping, ping, ping]))
  expect([frames, broken]).toEqual([2, 0])
  const bad = new FrameReader({ frame: () => true, broken: () => void broken++ }, limit)
  for (let i = 0; i < 40; i++) bad.push(Buffer.from([0]))
  expect(broken).toBe(1)
})

test("nothing is allocated beyond the limit, whatever the bytes", () => {
  const sizes: Array<number> = []
  const spy = spyOn(Buffer, "allocUnsafe").mockImplementation((size) => {
    sizes.push(size)
    return Buffer.alloc(size)
  })
  try {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 10 }),
        fc.integer({ min: 40, max: 4096 }),
        (chunks, limit) => {
          sizes.length = 0
          cutFrames(
            chunks.map((chunk) => Buffer.from(chunk)),
            limit
          )
          expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(limit + LENGTH_BYTES)
        }
      ),
      { numRuns: 2000 }
    )
    sizes.length = 0
    cutFrames([Buffer.from([0xff, 0xff, 0xff, 0xff])])
    cutFrames([Buffer.from([0xff, 0xff]), Buffer.from([0xff, 0xff])])
    // The second one waits in four bytes for the rest of its length.
    expect(sizes).toEqual([LENGTH_BYTES])
  } finally {
    spy.mockRestore()
  }
})

test("a frame of 1 MiB in 1 400-byte chunks is copied once", () => {
  const frame = encodeFrame(Type.token, {}, { payload: pack("x".repeat(limit - 100)) })
  const chunks = inChunks(frame, [1400])
  let copied = 0
  const copy = Buffer.prototype.copy
  const spy = spyOn(Buffer.prototype, "copy").mockImplementation(function (
    this: Buffer,
    ...args: Parameters<typeof copy>
  ) {
    const bytes = copy.apply(this, args)
    copied += bytes
    return bytes
  })
  let frames = 0
  const reader = new FrameReader({ frame: () => ++frames > 0, broken: () => undefined }, limit)
  try {
    for (const chunk of chunks) reader.push(chunk)
  } finally {
    spy.mockRestore()
  }
  expect(frames).toBe(1)
  expect(copied).toBeLessThan(frame.length + 2 * 1400)
})

test("a chunk of many frames is delivered in slices, in order, and a new chunk pushes out the old one", () => {
  const streams: Array<number> = []
  const reader = new FrameReader(
    {
      frame: (bytes, start) => streams.push(bytes.readUInt32BE(start + HEADER_OFFSET + 4)) > 0,
      broken: () => undefined
    },
    limit
  )
  const slice = TOKENS_PER_SLICE
  const numbered = Array.from({ length: 3 * slice + 7 }, (_, stream) => encodeFrame(Type.token, { stream }))
  const cutAt = slice * 2 + 3
  reader.push(Buffer.concat(numbered.slice(0, cutAt)))
  expect([streams.length, reader.behind]).toEqual([slice, true])
  reader.next()
  expect([streams.length, reader.behind]).toEqual([2 * slice, true])
  reader.push(Buffer.concat(numbered.slice(cutAt)))
  expect([streams.length, reader.behind]).toEqual([cutAt + slice, true])
  reader.next()
  expect(reader.behind).toBe(false)
  expect(streams).toEqual(numbered.map((_, stream) => stream))
})

test("a slice holds 4,096 TOKENs, or 256 frames that ask for work, or of both in proportion; and no fewer while there are more", () => {
  const [token, other] = [encodeFrame(Type.token, {}), encodeFrame(Type.cancel, {})]
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 1500 })), { maxLength: 8 }),
      (runs) => {
        let slice = { tokens: 0, others: 0 }
        const reader = new FrameReader(
          {
            frame: (bytes, start) => {
              slice[bytes[start + HEADER_OFFSET] === Type.token ? "tokens" : "others"]++
              return true
            },
            broken: () => undefined
          },
          limit
        )
        const share = () => slice.tokens / TOKENS_PER_SLICE + slice.others / FRAMES_PER_SLICE
        reader.push(
          Buffer.concat(
            runs.flatMap(([isToken, count]) => Array.from({ length: count }, () => (isToken ? token : other)))
          )
        )
        while (reader.behind) {
          // The last one may be no TOKEN and have found room for a TOKEN only.
          expect(share()).toBeLessThan(1 + 1 / FRAMES_PER_SLICE)
          expect(share()).toBeGreaterThanOrEqual(1)
          slice = { tokens: 0, others: 0 }
          reader.next()
        }
        expect(share()).toBeLessThan(1 + 1 / FRAMES_PER_SLICE)
      }
    )
  )
})
