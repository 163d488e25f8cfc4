import { readU32 } from "../../structures/PrefixChain.ts"

/**
 * Block hashes as they come on the wire (big-endian u64) as keys for the `KvCache`: their upper 53 bits, as numbers. A worker with a million
 * cached blocks sees a false match once in 10⁴ such workers. Blocks of different models have different keys, for no model can use
 * another one's; model 0 keeps the keys as they are. Bytes beyond the last whole hash are ignored. The bytes are not kept.
 */
export const chainKeys = (bytes: Uint8Array, model = 0): Float64Array => {
  const count = bytes.length >>> 3
  const keys = new Float64Array(new ArrayBuffer(count * 12), 0, count)
  const rests = chainRests(keys)
  const mask = maskOf(model)
  for (let i = 0, at = 0; i < count; i++, at += 8) {
    const low = readU32(bytes, at + 4)
    keys[i] = ((readU32(bytes, at) ^ mask) >>> 0) * 0x200000 + (low >>> 11)
    rests[i] = model * 0x800 + (low & 0x7ff)
  }
  return keys
}

/** What is missing from the keys to tell hash and model, see `writeHash`. Only for an array that `chainKeys` made: it lies behind the keys. */
export const chainRests = (keys: Float64Array): Uint32Array =>
  new Uint32Array(keys.buffer, keys.byteLength, keys.length)

/** The model of a block. */
export const modelOf = (rest: number): number => rest >>> 11

/** Writes the hash of a block, as it came on the wire. */
export const writeHash = (into: DataView, at: number, key: number, rest: number): void => {
  into.setUint32(at, Math.floor(key / 0x200000) ^ maskOf(modelOf(rest)))
  into.setUint32(at + 4, (key % 0x200000) * 0x800 + (rest & 0x7ff))
}

const maskOf = (model: number): number => Math.imul(model, 0x9e3779b1)
