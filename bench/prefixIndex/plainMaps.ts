import type { PrefixChain } from "../../src/structures/PrefixChain.ts"

/** What a prefix index must do at the least, in whatever form. `match` writes workers and blocks, deepest first, and returns how many. */
export interface PlainIndex {
  readonly stored: (worker: number, chain: PrefixChain, from: number, to: number) => void
  readonly removed: (worker: number, chain: PrefixChain, from: number, to: number) => void
  readonly match: (chain: PrefixChain, workers: Int32Array, blocks: Int32Array) => number
}

/** From a hash to a set of workers, walked block by block: no closure, no bound, no expectations. */
export class MapOfSets implements PlainIndex {
  private readonly sets = new Map<bigint, Set<number>>()

  stored(worker: number, chain: PrefixChain, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const key = bigKey(chain, i)
      const set = this.sets.get(key)
      if (set === undefined) this.sets.set(key, new Set([worker]))
      else set.add(worker)
    }
  }

  removed(worker: number, chain: PrefixChain, from: number, to: number): void {
    for (let i = to - 1; i >= from; i--) {
      const key = bigKey(chain, i)
      const set = this.sets.get(key)
      if (set?.delete(worker) === true && set.size === 0) this.sets.delete(key)
    }
  }

  match(chain: PrefixChain, workers: Int32Array, blocks: Int32Array): number {
    let end = workers.length
    let holders: ReadonlySet<number> = new Set()
    for (let i = 0; i < chain.count; i++) {
      const set = this.sets.get(bigKey(chain, i))
      if (i > 0 && set?.size !== holders.size)
        for (const worker of holders)
          if (set?.has(worker) !== true) {
            workers[--end] = worker
            blocks[end] = i
          }
      if (set === undefined) return toFront(workers, blocks, end)
      holders = set
    }
    for (const worker of holders) {
      workers[--end] = worker
      blocks[end] = chain.count
    }
    return toFront(workers, blocks, end)
  }
}

/** From 53 bits of a hash to a bit for each worker, walked block by block: the cheapest plain form. */
export class MapOfBits implements PlainIndex {
  private readonly sets = new Map<number, Uint32Array>()
  private readonly words: number
  private readonly nobody: Uint32Array

  constructor(workersMax: number) {
    this.words = Math.ceil(workersMax / 32)
    this.nobody = new Uint32Array(this.words)
  }

  stored(worker: number, chain: PrefixChain, from: number, to: number): void {
    for (let i = from; i < to; i++) {
      const key = numberKey(chain, i)
      let bits = this.sets.get(key)
      if (bits === undefined) this.sets.set(key, (bits = new Uint32Array(this.words)))
      bits[worker >>> 5]! |= 1 << (worker & 31)
    }
  }

  removed(worker: number, chain: PrefixChain, from: number, to: number): void {
    for (let i = to - 1; i >= from; i--) {
      const key = numberKey(chain, i)
      const bits = this.sets.get(key)
      if (bits === undefined) continue
      bits[worker >>> 5]! &= ~(1 << (worker & 31))
      if (bits.every((word) => word === 0)) this.sets.delete(key)
    }
  }

  match(chain: PrefixChain, workers: Int32Array, blocks: Int32Array): number {
    let end = workers.length
    let holders = this.nobody
    for (let i = 0; i <= chain.count; i++) {
      const found = i < chain.count ? this.sets.get(numberKey(chain, i)) : undefined
      const bits = found ?? this.nobody
      if (i > 0)
        for (let word = 0; word < this.words; word++)
          for (let gone = holders[word]! & ~bits[word]!; gone !== 0; gone &= gone - 1) {
            workers[--end] = word * 32 + 31 - Math.clz32(gone & -gone)
            blocks[end] = i
          }
      if (found === undefined) break
      holders = bits
    }
    return toFront(workers, blocks, end)
  }
}

const bigKey = ({ high, low }: PrefixChain, i: number): bigint => (BigInt(high[i]!) << 32n) | BigInt(low[i]!)

const numberKey = ({ high, low }: PrefixChain, i: number): number => high[i]! * 0x20_0000 + (low[i]! >>> 11)

const toFront = (workers: Int32Array, blocks: Int32Array, from: number): number => {
  workers.copyWithin(0, from)
  blocks.copyWithin(0, from)
  return workers.length - from
}
