/**
 * Block hashes as they come on the wire (big-endian u64) as keys for the `KvCache`: their upper 53 bits, as numbers. A worker with a million
 * cached blocks sees a false match once in 10⁴ such workers. Bytes beyond the last whole hash are ignored. The bytes are not kept.
 */
export const chainKeys = (bytes: Uint8Array): Float64Array => {
  const keys = new Float64Array(bytes.length >>> 3)
  for (let i = 0, at = 0; i < keys.length; i++, at += 8)
    keys[i] = u32(bytes, at) * 0x200000 + (u32(bytes, at + 4) >>> 11)
  return keys
}

const u32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
