import { encodeFrame, pack } from "../../../src/protocol/Codec.ts"
import { HEADER_OFFSET, LENGTH_BYTES, Type, writeU32 } from "../../../src/protocol/Header.ts"
import { maySend, type Role, roles } from "../../../src/protocol/Roles.ts"
import type { Rng } from "../../../src/structures/Rng.ts"
import { goldenFrames } from "./goldenFrames.ts"

const corpus: ReadonlyArray<Buffer> = [
  ...Object.values(goldenFrames).filter((frame) => frame[HEADER_OFFSET] !== Type.goodbye),
  encodeFrame(Type.token, { stream: 5 }, { payload: pack("x".repeat(3000)) }),
  encodeFrame(
    Type.request,
    { stream: 5 },
    { payload: pack({ prompt: "y".repeat(20_000) }) },
    { idHigh: 0, idLow: 1, promptTokens: 1, maxTokens: 1 }
  ),
  encodeFrame(0x99, {}),
  encodeFrame(99, { stream: 5 })
]

/** Msgpack that costs much to unpack, or should not be unpacked at all. */
const bombs: ReadonlyArray<Buffer> = [
  "ddffffffff",
  "dfffffffff",
  "dbffffffff",
  "c6ffffffff",
  "c1",
  "d47240",
  "d6ff00000000",
  "cb7ff8000000000000",
  "cfffffffffffffffff",
  "81a95f5f70726f746f5f5f80",
  "82a16101a16102",
  "810102",
  "91".repeat(40),
  "dcffff".repeat(40),
  "90".repeat(500)
].map((hex) => Buffer.from(hex, "hex"))

type Mutation = (frame: Buffer, rng: Rng) => Buffer

/** Damage behind the header: the frame is cut out as before, and whoever reads it has to deal with it. */
const inBody: ReadonlyArray<Mutation> = [
  (frame, rng) => {
    const at = headerEnd(frame)
    frame[at + rng.int(frame.length - at)] = rng.int(256)
    return frame
  },
  (frame, rng) => {
    const at = headerEnd(frame)
    frame[at + rng.int(frame.length - at)]! ^= 1 << rng.int(8)
    return frame
  },
  (frame, rng) => repaired(Buffer.concat([frame, noise(rng.int(40), rng)])),
  (frame, rng) => {
    const at = headerEnd(frame) + rng.int(frame.length - headerEnd(frame))
    return repaired(Buffer.concat([frame.subarray(0, at), bombs[rng.int(bombs.length)]!, frame.subarray(at)]))
  },
  (frame, rng) => {
    const bomb = bombs[rng.int(bombs.length)]!
    return repaired(Buffer.concat([frame.subarray(0, headerEnd(frame)), Buffer.from([0xc0, 0xc0]), bomb]))
  }
]

/** Damage anywhere, after which the stream may make no sense. */
const anywhere: ReadonlyArray<Mutation> = [
  (frame, rng) => {
    frame[HEADER_OFFSET + rng.int(24)] = rng.int(256)
    return frame
  },
  (frame, rng) => {
    frame[HEADER_OFFSET] = rng.int(256)
    return frame
  },
  (frame, rng) => {
    frame[rng.int(HEADER_OFFSET)] = rng.int(256)
    return frame
  },
  (frame, rng) => repaired(frame.subarray(0, HEADER_OFFSET + rng.int(frame.length - HEADER_OFFSET))),
  (frame, rng) => {
    const other = corpus[rng.int(corpus.length)]!
    const at = HEADER_OFFSET + rng.int(Math.min(frame.length, other.length) - HEADER_OFFSET)
    return repaired(Buffer.concat([frame.subarray(0, at), other.subarray(at)]))
  },
  (_, rng) => Buffer.from(corpus[rng.int(corpus.length)]!),
  (_, rng) => noise(1 + rng.int(200), rng)
]

const headerEnd = (frame: Buffer): number =>
  Math.min(frame.length - 1, HEADER_OFFSET + frame[HEADER_OFFSET - 1]!)

const noise = (length: number, rng: Rng): Buffer => Buffer.from(Array.from({ length }, () => rng.int(256)))

const repaired = (bytes: Buffer): Buffer => {
  const frame = Buffer.from(bytes)
  if (frame.length >= LENGTH_BYTES) writeU32(frame, 0, frame.length - LENGTH_BYTES)
  return frame
}

const corpusOf = new Map(
  roles.map((role) => [role, corpus.filter((frame) => maySend[role].has(frame[HEADER_OFFSET]!))])
)

/** A frame as this role may send it: one in five as it is, one in thirty damaged anywhere, the others in their body. Same generator state, same bytes. */
export const fuzzedFrame = (role: Role, rng: Rng): Buffer => {
  const own = corpusOf.get(role)!
  const frame = Buffer.from(own[rng.int(own.length)]!)
  const dice = rng.int(30)
  if (dice < 6) return frame
  const mutations = dice === 6 ? anywhere : inBody
  return mutations[rng.int(mutations.length)]!(frame, rng)
}
