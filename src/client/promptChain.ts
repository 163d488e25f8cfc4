import { mix } from "../structures/hash.ts"

/** UTF-8 bytes of a block: about 256 tokens at four bytes a token, the smallest block worth an entry in a prefix index. */
export const BLOCK_BYTES = 1024

/**
 * The prefix block hashes of a prompt: eight bytes for each full block of 1 KiB of its UTF-8 form, first block first.
 *
 * Hash i depends on blocks 0 … i and nothing else, so prompts share their leading hashes exactly as far as they share leading blocks
 * (up to a collision, 2⁻⁶⁴ a pair). The last, partial block has none. Not keyed: the balancer mixes the tenant's salt in.
 * Cost about 2 µs a block.
 */
export const promptChain = (prompt: string): Uint8Array => {
  const bytes = new TextEncoder().encode(prompt)
  const count = Math.floor(bytes.length / BLOCK_BYTES)
  // Bun runs on little-endian machines only, so the words are the same everywhere.
  const words = new Uint32Array(bytes.buffer, 0, (count * BLOCK_BYTES) / 4)
  const chain = new DataView(new ArrayBuffer(count * 8))
  let high = 0x9e3779b9
  let low = 0x243f6a88
  for (let block = 0; block < count; block++) {
    const end = ((block + 1) * BLOCK_BYTES) / 4
    for (let at = end - BLOCK_BYTES / 4; at < end; at += 2) {
      // Two lanes that see the words in a different order.
      const first = words[at]!
      const second = words[at + 1]!
      high = mix(high, first, second)
      low = mix(low, second, first)
    }
    chain.setUint32(block * 8, high)
    chain.setUint32(block * 8 + 4, low)
  }
  return new Uint8Array(chain.buffer)
}
