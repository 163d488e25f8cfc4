import { mix } from "./hash.ts"

/**
 * The hashes of a prompt's prefix blocks, first block first, as two columns of u32. Each stands for its block and everything before it:
 * two chains with an equal hash at some depth are equal up to there. Only the first `count` elements count.
 */
export interface PrefixChain {
  readonly count: number
  readonly high: Uint32Array
  readonly low: Uint32Array
}

const noHashes = new Uint32Array(0)

/** Columns that are not longer stay for the next chain: one prompt of 64 Ki tokens. */
const KEPT_BLOCKS_MAX = 256

/** A chain that is filled again and again. */
export class ChainBuffer implements PrefixChain {
  count = 0
  high = noHashes
  low = noHashes

  /** Forgets the chain; long columns are given back. */
  clear(): void {
    this.count = 0
    if (this.high.length > KEPT_BLOCKS_MAX) this.high = this.low = noHashes
  }

  /** A copy of another chain. */
  take({ count, high, low }: PrefixChain): void {
    this.reserve(count)
    this.high.set(count === high.length ? high : high.subarray(0, count))
    this.low.set(count === low.length ? low : low.subarray(0, count))
  }

  /** Takes over `keys[from .. to)`, whole numbers below 2⁵³: the upper bits of hashes whose other bits are taken to be 0. */
  fill(keys: Float64Array, from: number, to: number): void {
    this.reserve(to - from)
    for (let i = from; i < to; i++) {
      this.high[i - from] = highOf(keys[i]!)
      this.low[i - from] = lowOf(keys[i]!)
    }
  }

  /** Takes over `count` hashes, big-endian u64 from `bytes[start]` on. About 2 ns a block. */
  read(bytes: Uint8Array, start: number, count: number): void {
    this.reserve(count)
    const { high, low } = this
    for (let i = 0, at = start; i < count; i++, at += 8) {
      high[i] = readU32(bytes, at)
      low[i] = readU32(bytes, at + 4)
    }
  }

  private reserve(count: number): void {
    if (count > this.high.length) {
      const size = Math.max(16, 2 ** Math.ceil(Math.log2(count)))
      this.high = new Uint32Array(size)
      this.low = new Uint32Array(size)
    }
    this.count = count
  }
}

/** Of a prompt without a whole block. */
export const emptyChain: PrefixChain = new ChainBuffer()

/** The halves of the hash that a key of 53 bits is the upper part of. */
export const highOf = (key: number): number => Math.floor(key / 2 ** 21)
export const lowOf = (key: number): number => (key * 2 ** 11) >>> 0

/** Mixes block `at` of a chain into a hash state: the 53 bits that are known of it wherever it is known. */
export const mixBlock = (state: number, { high, low }: PrefixChain, at: number): number =>
  mix(state, high[at]!, low[at]! >>> 11)

/**
 * Mixes a salt of 64 bits into each of the `count` hashes that stand big-endian from `bytes[start]` on: chains of different salts share
 * nothing, those of one salt share what they shared. Who does not know the salt cannot tell what a hash becomes. About 8 ns a block.
 */
export const saltChain = (
  bytes: Uint8Array,
  start: number,
  count: number,
  saltHigh: number,
  saltLow: number
): void => {
  for (let i = 0, at = start; i < count; i++, at += 8) {
    const high = readU32(bytes, at)
    const low = readU32(bytes, at + 4)
    writeU32(bytes, at, mix(saltHigh, high, low))
    writeU32(bytes, at + 4, mix(saltLow, low, high))
  }
}

/** The big-endian u32 at `bytes[at]`. */
export const readU32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0

const writeU32 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}
