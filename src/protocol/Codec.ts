import { Packr } from "msgpackr"
import {
  At,
  HEADER_BYTES,
  HEADER_OFFSET,
  LENGTH_BYTES,
  REQUEST_HEADER_BYTES,
  writeU16,
  writeU32
} from "./Header.ts"
import type { ScanLimits } from "./Limits.ts"
import { scan, scanned } from "./Scan.ts"

const packr = new Packr({ useRecords: false, int64AsType: "number", mapsAsObjects: true, copyBuffers: true })
const NIL = Buffer.from([0xc0])

/** Packs a value: arrays, strings, numbers, booleans, null, byte arrays, and plain objects as maps. */
export const pack = (value: unknown): Buffer => packr.pack(value)

/**
 * Unpacks the msgpack value in `bytes[from, to)`, after the scan. `undefined` when the bytes are not one acceptable value, which also
 * means: no key twice in a map, and none that is a property of every object. What comes back is plain and a copy, and validated in no
 * other way. Bytes of a string that are not UTF-8 become U+FFFD. About 0.1 µs for a short string, 0.7 µs for a small map.
 */
export const unpack = (bytes: Buffer, from: number, to: number, limits: ScanLimits): unknown => {
  // A short string, as in every TOKEN: no need for more.
  if ((bytes[from]! & 0xe0) === 0xa0 && from + 1 + (bytes[from]! & 31) === to) {
    return bytes.toString("utf8", from + 1, to)
  }
  if (scan(bytes, from, to, limits.depth, limits.nodes) !== to) return undefined
  const { keys } = scanned
  try {
    const value: unknown = packr.unpack(bytes, { start: from, end: to })
    return keys === 0 || plainKeys(value) === keys ? value : undefined
  } catch {
    return undefined
  }
}

/** Keys of every map inside `value`; NaN when one of them is a property of every object. */
const plainKeys = (value: unknown): number => {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return 0
  let count = 0
  if (Array.isArray(value)) for (const child of value) count += plainKeys(child)
  else for (const key in value) count += reserved.has(key) ? NaN : 1 + plainKeys(Reflect.get(value, key))
  return count
}
/** The decoder renames `__proto__` to `__proto_`. */
const reserved = new Set([...Object.getOwnPropertyNames(Object.prototype), "__proto_", "prototype"])

/** Where the four elements of a frame lie. */
export interface Parts {
  /** First byte of the chain's raw hashes and the first after them; equal when there is no chain. */
  chainStart: number
  chainEnd: number
  extrasStart: number
  /** Also the end of the extras. */
  payloadStart: number
  /** The end of the frame, unless it has more elements than this build knows. */
  payloadEnd: number
}

/** Reused: `locate` fills it and says whether the frame is well formed. */
export const parts: Parts = { chainStart: 0, chainEnd: 0, extrasStart: 0, payloadStart: 0, payloadEnd: 0 }

/**
 * Finds chain, extras and payload of the frame `bytes[start, end)`, as a `FrameReader` delivers it, and scans them without unpacking.
 * False when the frame is not well formed. Elements after the payload are scanned and ignored. Cost about 4 ns a value.
 */
export const locate = (bytes: Buffer, start: number, end: number, limits: ScanLimits): boolean => {
  const at = locateChain(bytes, start, end)
  if (at < 0) return false
  parts.extrasStart = at
  let { nodes } = limits
  // The most usual extras are nil.
  if (bytes[at] === 0xc0) parts.payloadStart = at + 1
  else {
    parts.payloadStart = scan(bytes, at, end, limits.depth, nodes)
    if (parts.payloadStart < 0) return false
    nodes -= scanned.nodes
  }
  let last = (parts.payloadEnd = scan(bytes, parts.payloadStart, end, limits.depth, nodes))
  for (let more = bytes[start + LENGTH_BYTES]! - 0x94; more > 0 && last >= 0; more--) {
    nodes -= scanned.nodes
    last = scan(bytes, last, end, limits.depth, nodes)
  }
  return last === end
}

/** The payload of a frame, unpacked; `parts` say where the rest lies. `undefined` when either `locate` or `unpack` refuses it. */
export const unpackPayload = (bytes: Buffer, start: number, end: number, limits: ScanLimits): unknown =>
  locate(bytes, start, end, limits) ? unpack(bytes, parts.payloadStart, parts.payloadEnd, limits) : undefined

/** Finds the chain; returns the offset after it, or -1. */
const locateChain = (bytes: Buffer, start: number, end: number): number => {
  const at = start + HEADER_OFFSET + bytes[start + HEADER_OFFSET - 1]!
  const mark = bytes[at]!
  if (mark === 0xc0) {
    parts.chainStart = parts.chainEnd = at
    return at + 1
  }
  if (mark < 0xc4 || mark > 0xc6) return -1
  const first = at + 1 + (1 << (mark - 0xc4))
  if (first > end) return -1
  let length = 0
  for (let i = at + 1; i < first; i++) length = length * 256 + bytes[i]!
  parts.chainStart = first
  parts.chainEnd = first + length
  return length % 8 === 0 && parts.chainEnd <= end ? parts.chainEnd : -1
}

/** The numbers of a header; what is left out is 0. */
export interface HeaderFields {
  readonly flags?: number
  readonly attempt?: number
  readonly stream?: number
  readonly epoch?: number
  readonly a?: number
  readonly b?: number
  readonly c?: number
}

/** The routing fields of a REQUEST; what is left out is 0. */
export interface RoutingFields {
  readonly idHigh: number
  readonly idLow: number
  readonly tenant?: number
  readonly model?: number
  readonly class?: number
  readonly promptTokens: number
  readonly maxTokens: number
  readonly timeoutMs?: number
  readonly sessionHigh?: number
  readonly sessionLow?: number
}

/** The elements of a frame after its header, each packed; what is left out is nil. */
export interface Body {
  /** Raw u64 block hashes, big-endian, eight bytes each. */
  readonly chain?: Uint8Array | undefined
  readonly extras?: Uint8Array | undefined
  readonly payload?: Uint8Array | undefined
}

/** A whole frame in a buffer of its own. For what is not on the hot path: one allocation and three copies. */
export const encodeFrame = (
  type: number,
  fields: HeaderFields,
  body: Body = {},
  routing?: RoutingFields
): Buffer => {
  const headerBytes = routing === undefined ? HEADER_BYTES : REQUEST_HEADER_BYTES
  const chain = body.chain === undefined || body.chain.length === 0 ? NIL : pack(Buffer.from(body.chain))
  const extras = body.extras ?? NIL
  const payload = body.payload ?? NIL
  const size = HEADER_OFFSET + headerBytes + chain.length + extras.length + payload.length
  const frame = Buffer.alloc(size)
  writeU32(frame, 0, size - LENGTH_BYTES)
  frame[4] = 0x94
  frame[5] = 0xc4
  frame[6] = headerBytes
  const header = HEADER_OFFSET
  frame[header + At.type] = type
  frame[header + At.flags] = fields.flags ?? 0
  writeU16(frame, header + At.attempt, fields.attempt ?? 0)
  writeU32(frame, header + At.stream, fields.stream ?? 0)
  writeU32(frame, header + At.epoch, fields.epoch ?? 0)
  writeU32(frame, header + At.a, fields.a ?? 0)
  writeU32(frame, header + At.b, fields.b ?? 0)
  writeU32(frame, header + At.c, fields.c ?? 0)
  if (routing !== undefined) writeRouting(frame, header, routing)
  frame.set(chain, header + headerBytes)
  frame.set(extras, header + headerBytes + chain.length)
  frame.set(payload, header + headerBytes + chain.length + extras.length)
  return frame
}

const writeRouting = (frame: Buffer, header: number, routing: RoutingFields): void => {
  writeU32(frame, header + At.idHigh, routing.idHigh)
  writeU32(frame, header + At.idLow, routing.idLow)
  writeU16(frame, header + At.tenant, routing.tenant ?? 0)
  writeU16(frame, header + At.model, routing.model ?? 0)
  frame[header + At.class] = routing.class ?? 0
  writeU32(frame, header + At.promptTokens, routing.promptTokens)
  writeU32(frame, header + At.maxTokens, routing.maxTokens)
  writeU32(frame, header + At.timeoutMs, routing.timeoutMs ?? 0)
  writeU32(frame, header + At.sessionHigh, routing.sessionHigh ?? 0)
  writeU32(frame, header + At.sessionLow, routing.sessionLow ?? 0)
}
