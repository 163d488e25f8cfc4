import * as fc from "fast-check"
import { Unpackr } from "msgpackr"
import {
  type Body,
  encodeFrame,
  type HeaderFields,
  pack,
  type RoutingFields
} from "../../../src/protocol/Codec.ts"
import { FrameReader } from "../../../src/protocol/Frame.ts"
import { At, HEADER_OFFSET, LENGTH_BYTES, readU16, readU32, Type } from "../../../src/protocol/Header.ts"

/** Any msgpack library: nothing of ours is in the way. */
const library = new Unpackr({ useRecords: false, mapsAsObjects: true })

/** A frame as any msgpack library reads it. */
export interface ReadFrame {
  readonly type: number
  readonly flags: number
  readonly attempt: number
  readonly stream: number
  readonly epoch: number
  readonly a: number
  readonly b: number
  readonly c: number
  readonly header: Buffer
  readonly chain: Buffer | null
  readonly extras: unknown
  readonly payload: unknown
}

/** Reads the body of one whole frame with plain msgpackr. */
export const readFrame = (frame: Buffer): ReadFrame => {
  const [header, chain, extras, payload] = library.unpack(frame.subarray(LENGTH_BYTES))
  return {
    type: header[At.type],
    flags: header[At.flags],
    attempt: readU16(header, At.attempt),
    stream: readU32(header, At.stream),
    epoch: readU32(header, At.epoch),
    a: readU32(header, At.a),
    b: readU32(header, At.b),
    c: readU32(header, At.c),
    header,
    chain,
    extras,
    payload
  }
}

/** Cuts whole frames out of a stream with our reader. `broken` is what it said, if it did; `rest` whether a frame is incomplete. */
export const cutFrames = (chunks: ReadonlyArray<Buffer>, limit = 1 << 20) => {
  const frames: Array<Buffer> = []
  let broken: string | undefined
  const reader = new FrameReader(
    {
      frame: (bytes, start, end) => frames.push(Buffer.from(bytes.subarray(start, end))) > 0,
      broken: (why) => {
        broken = why
      }
    },
    limit
  )
  for (const chunk of chunks) {
    reader.push(chunk)
    while (reader.behind) reader.next()
  }
  return { frames, broken, rest: reader.midFrame }
}

/** The frames a peer received, read. */
export const framesIn = (bytes: Buffer): ReadonlyArray<ReadFrame> => {
  const { frames, broken, rest } = cutFrames([bytes])
  if (broken !== undefined || rest)
    throw new Error(`what was written is no stream of frames: ${broken ?? "cut"}`)
  return frames.map(readFrame)
}

export const typeOf = (frame: Buffer): number => frame[HEADER_OFFSET + At.type]!

const u8 = fc.nat(0xff)
const u16 = fc.nat(0xffff)
const u32 = fc.nat({ max: 0xffff_ffff })

const reserved = new Set([...Object.getOwnPropertyNames(Object.prototype), "__proto_", "prototype"])

/** What a message may hold: everything our codec promises to bring back as it was. */
export const plainValue: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom(
      null,
      true,
      false,
      0,
      1,
      -1,
      127,
      128,
      -32,
      -33,
      0xffff_ffff,
      Number.MAX_SAFE_INTEGER,
      0.1
    ),
    fc.integer(),
    fc.double({ noNaN: true }).map((n) => (n === 0 ? 0 : n)),
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(
      fc.string().filter((key) => !reserved.has(key)),
      tie("value"),
      { maxKeys: 8, noNullPrototype: true }
    )
  )
})).value

export const headerFields: fc.Arbitrary<Required<HeaderFields>> = fc.record({
  flags: u8,
  attempt: u16,
  stream: u32,
  epoch: u32,
  a: u32,
  b: u32,
  c: u32
})

export const routingFields: fc.Arbitrary<Required<RoutingFields>> = fc.record({
  idHigh: u32,
  idLow: u32,
  tenant: u16,
  model: u16,
  class: u8,
  promptTokens: u32,
  maxTokens: u32,
  timeoutMs: u32,
  sessionHigh: u32,
  sessionLow: u32
})

export interface Draft {
  readonly type: number
  readonly fields: Required<HeaderFields>
  readonly chain: Buffer | undefined
  readonly extras: unknown
  readonly payload: unknown
  readonly routing: Required<RoutingFields> | undefined
}

/** A frame of any known type with any content. */
export const draft: fc.Arbitrary<Draft> = fc
  .record({
    type: fc.constantFrom(...Object.values(Type)),
    fields: headerFields,
    chain: fc.option(
      fc
        .array(fc.uint8Array({ minLength: 8, maxLength: 8 }), { minLength: 1, maxLength: 40 })
        .map((hashes) => Buffer.concat(hashes)),
      { nil: undefined }
    ),
    extras: fc.option(plainValue),
    payload: fc.option(plainValue),
    routing: routingFields
  })
  .map(({ routing, ...rest }) => ({
    ...rest,
    routing: rest.type === Type.request || rest.type === Type.assign ? routing : undefined
  }))

export const encodeDraft = ({ type, fields, chain, extras, payload, routing }: Draft): Buffer => {
  const body: Body = {
    chain,
    extras: extras === null ? undefined : pack(extras),
    payload: payload === null ? undefined : pack(payload)
  }
  return encodeFrame(type, fields, body, routing)
}

export const anyFrame: fc.Arbitrary<Buffer> = draft.map(encodeDraft)

/** Ways to cut a stream into chunks: lengths, used in turn. */
export const chunking = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 30 })

/** `bytes` in chunks of the given lengths, used over and over; each chunk in memory of its own. */
export const inChunks = (bytes: Buffer, lengths: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const chunks: Array<Buffer> = []
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const length = lengths[turn % lengths.length]!
    chunks.push(Buffer.from(bytes.subarray(at, at + length)))
    at += length
  }
  return chunks
}
