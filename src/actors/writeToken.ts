import { encodeFrame } from "../protocol/Codec.ts"
import {
  At,
  HEADER_BYTES,
  HEADER_OFFSET,
  LENGTH_BYTES,
  Type,
  writeU16,
  writeU32
} from "../protocol/Header.ts"
import type { Outbox } from "../protocol/Outbox.ts"
import { assert } from "../structures/assert.ts"
import { type Attempt, TOKEN_FRAME_BYTES } from "./WorkerState.ts"

/** From the start of a TOKEN frame to its payload: header, no chain, no extras. */
const PAYLOAD_OFFSET = HEADER_OFFSET + HEADER_BYTES + 2
const template = encodeFrame(Type.token, {}).subarray(0, PAYLOAD_OFFSET)
/** Longest msgpack string with a one-byte mark. */
const FIXED_TEXT_MAX = 31
/** Mark and length of a longer one. */
const LONG_MARK_BYTES = 5
assert(PAYLOAD_OFFSET + LONG_MARK_BYTES === TOKEN_FRAME_BYTES, "a worker knows how long its TOKEN frames are")

/**
 * Appends one TOKEN frame with everything the attempt has ready, written in place. Returns its bytes, at most `TOKEN_FRAME_BYTES` and
 * those of the text; 0 when the outbox takes nothing any more.
 * About 60 ns for a short ASCII token; no object is allocated.
 */
export const writeToken = (outbox: Outbox, attempt: Attempt): number => {
  const text = attempt.ready
  const ascii = isAscii(text)
  const textBytes = ascii ? text.length : Buffer.byteLength(text)
  const markBytes = textBytes <= FIXED_TEXT_MAX ? 1 : LONG_MARK_BYTES
  const size = PAYLOAD_OFFSET + markBytes + textBytes
  const at = outbox.reserve(size)
  if (at < 0) return 0
  const { bytes } = outbox
  template.copy(bytes, at)
  writeU32(bytes, at, size - LENGTH_BYTES)
  const header = at + HEADER_OFFSET
  writeU16(bytes, header + At.attempt, attempt.attempt)
  writeU32(bytes, header + At.stream, attempt.stream)
  writeU32(bytes, header + At.epoch, attempt.epoch)
  writeU32(bytes, header + At.tokenIndex, attempt.sent)
  writeU32(bytes, header + At.tokenCount, attempt.readyCount)
  const mark = at + PAYLOAD_OFFSET
  if (markBytes === 1) bytes[mark] = 0xa0 | textBytes
  else {
    bytes[mark] = 0xdb
    writeU32(bytes, mark + 1, textBytes)
  }
  const start = mark + markBytes
  if (ascii) for (let i = 0; i < textBytes; i++) bytes[start + i] = text.charCodeAt(i)
  else bytes.write(text, start, textBytes)
  return size
}

/** Only for short texts, where a call out of the engine costs more than the loop. */
const isAscii = (text: string): boolean => {
  if (text.length > FIXED_TEXT_MAX) return false
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}
