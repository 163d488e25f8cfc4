/**
 * The fixed-offset header of a frame.
 *
 * A frame is `u32 length` (big-endian, of what follows), then one msgpack array `[header, chain, extras, payload]`. The header is a
 * `bin8` and the first element, so its bytes always start `HEADER_OFFSET` bytes after the start of the frame: they are read and
 * patched in place, in 2–5 ns, while any msgpack library can still read the whole message.
 *
 * All numbers are big-endian. `docs/protocol.md` lists the meaning of the fields for each type.
 */

/** Frame types. The numbers are part of the wire protocol. A type with the high bit set is optional: unknown ones are ignored. */
export const Type = {
  hello: 1,
  welcome: 2,
  goodbye: 3,
  ping: 4,
  pong: 5,
  challenge: 6,
  proof: 7,
  request: 16,
  accepted: 17,
  rejected: 18,
  token: 19,
  done: 20,
  error: 21,
  cancel: 22,
  credit: 23,
  resume: 24,
  register: 32,
  heartbeat: 33,
  assign: 34,
  drain: 35,
  prefilled: 36,
  kvStored: 40,
  kvRemoved: 41,
  kvSync: 42,
  adminRequest: 48,
  adminReply: 49
} as const
export type Type = (typeof Type)[keyof typeof Type]

/** Bytes of the length prefix. */
export const LENGTH_BYTES = 4
/** From the start of a frame to its header: length, array mark, bin8 mark, header size. */
export const HEADER_OFFSET = LENGTH_BYTES + 3
/** Header size of every frame but REQUEST and ASSIGN. */
export const HEADER_BYTES = 24
/** Header size of REQUEST and ASSIGN: the header and the routing fields. */
export const REQUEST_HEADER_BYTES = 64

/** Byte offsets inside the header. `a`, `b`, `c` mean different things by type, see the named aliases. */
export const At = {
  type: 0,
  flags: 1,
  attempt: 2,
  stream: 4,
  epoch: 8,
  a: 12,
  b: 16,
  c: 20,
  /** TOKEN: index of its first token, and how many tokens it holds. */
  tokenIndex: 12,
  tokenCount: 16,
  /** DONE: tokens of the whole answer, and prompt tokens found in the worker's prefix cache. */
  outputTokens: 12,
  cachedTokens: 16,
  /** REJECTED and ERROR: why, when to try again, and how many tokens had been delivered. */
  reason: 12,
  retryAfterMs: 16,
  delivered: 20,
  /** CREDIT: the worker may send tokens with an index below this, and TOKEN frames up to so many bytes in all. */
  creditUpTo: 12,
  creditUpToBytes: 16,
  /** KV_STORED and KV_REMOVED: index into the models of REGISTER, and the number of the frame. */
  kvModel: 12,
  kvSequence: 16,
  /** PREFILLED: prompt tokens whose KV cache is kept, and how many of them the prefix cache had. */
  kvTokens: 12,
  prefixTokens: 16,
  /** ASSIGN of a request that is handed over: beside `kvTokens`, the hash of the name of the worker that keeps its KV cache. */
  keeperHigh: 16,
  keeperLow: 20,
  /** REQUEST and ASSIGN. */
  idHigh: 24,
  idLow: 28,
  tenant: 32,
  model: 34,
  class: 36,
  promptTokens: 40,
  maxTokens: 44,
  timeoutMs: 48,
  sessionHigh: 52,
  sessionLow: 56
} as const

/** Bits of the flags byte. */
export const Flag = {
  /** REQUEST and DONE: `extras` holds something; without it the extras are not looked at. */
  extras: 1,
  /** REQUEST: never try a second worker once the request was sent to one. */
  sideEffects: 2,
  /** ASSIGN: read the prompt, say PREFILLED, and keep the KV cache for another worker. */
  prefillOnly: 4,
  /** ASSIGN: another worker has read the prompt, and keeps its KV cache. */
  handedOver: 8,
  /** KV_REMOVED: everything is gone, of every model. */
  everything: 1
} as const

export const readU16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!

export const readU32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0

export const writeU16 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 8
  bytes[at + 1] = value
}

export const writeU32 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}
