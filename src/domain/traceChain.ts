import { mix } from "../structures/hash.ts"
import type { TraceRequest } from "./Trace.ts"

/** Tokens of one block of a chain on the wire: what engines count prefixes in. */
export const BLOCK_TOKENS = 256

/**
 * The prefix chain of a recorded request: eight bytes for each full block of `BLOCK_TOKENS` tokens, first block first.
 *
 * A block that ends inside one of the trace's blocks takes the name of that block and the place inside it, so two chains are equal at
 * least as far as the trace says the prompts are, rounded down to where both kinds of blocks end; never further.
 */
export const traceChain = ({ blocks, promptTokens }: TraceRequest, blockSize: number | null): Uint8Array => {
  if (blockSize === null) return new Uint8Array(0)
  const count = Math.floor(Math.min(promptTokens, blocks.length * blockSize) / BLOCK_TOKENS)
  const chain = new DataView(new ArrayBuffer(count * 8))
  for (let i = 0; i < count; i++) {
    const end = (i + 1) * BLOCK_TOKENS
    const holder = Math.ceil(end / blockSize) - 1
    const block = blocks[holder]!
    const inside = end - holder * blockSize
    const high = Math.floor(block / 2 ** 32)
    chain.setUint32(i * 8, mix(seeded(0x9e3779b9, high), block, inside))
    chain.setUint32(i * 8 + 4, mix(seeded(0x243f6a88, high), inside, block))
  }
  return new Uint8Array(chain.buffer)
}

/** Most blocks have a number of 32 bits. */
const seeded = (seed: number, high: number): number => (high === 0 ? seed : mix(seed, 0, high))
