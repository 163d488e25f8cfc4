import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { KvCache, type KvCacheSink, type PrefixNode } from "../../src/engines/simulated/KvCache.ts"

const PAGE_TOKENS = 4
const BLOCK_PAGES = 2
const options = (pages: number) => ({
  capacityTokens: pages * PAGE_TOKENS,
  pageTokens: PAGE_TOKENS,
  blockTokens: PAGE_TOKENS * BLOCK_PAGES
})

interface Block {
  readonly parent: number
  readonly depth: number
  users: number
  usedAt: number
}

/** The same cache, block by block, in a plain map: every longest match a walk, every eviction a search over all blocks. */
class NaiveCache {
  readonly blocks = new Map<number, Block>()
  privatePages = 0
  private readonly capacityPages: number
  private tick = 0

  constructor(capacityPages: number) {
    this.capacityPages = capacityPages
  }

  get usedPages(): number {
    const used = [...this.blocks.values()].filter((block) => block.users > 0).length
    return this.privatePages + used * BLOCK_PAGES
  }

  get freePages(): number {
    return this.capacityPages - this.privatePages - this.blocks.size * BLOCK_PAGES
  }

  pin(chain: Float64Array, limit: number): number {
    let depth = 0
    while (depth < limit && this.blocks.has(chain[depth]!)) this.blocks.get(chain[depth++]!)!.users++
    return depth
  }

  unpin(chain: Float64Array, depth: number): void {
    this.tick++
    for (const key of chain.subarray(0, depth)) {
      const block = this.blocks.get(key)!
      block.users--
      block.usedAt = this.tick
    }
  }

  extend(chain: Float64Array, from: number, upTo: number): void {
    for (let depth = from; depth < upTo; depth++) {
      const block = this.blocks.get(chain[depth]!)
      this.privatePages -= BLOCK_PAGES
      if (block === undefined)
        this.blocks.set(chain[depth]!, { parent: chain[depth - 1] ?? 0, depth, users: 1, usedAt: 0 })
      else block.users++
    }
  }

  take(pages: number): boolean {
    if (this.capacityPages - this.usedPages < pages) return false
    while (this.freePages < pages) {
      const parents = new Set([...this.blocks.values()].map((block) => block.parent))
      const idle = [...this.blocks].filter(([key, block]) => block.users === 0 && !parents.has(key))
      const [victim] = idle.toSorted(([, a], [, b]) => a.usedAt - b.usedAt)
      this.blocks.delete(victim![0])
    }
    this.privatePages += pages
    return true
  }
}

/** A chain whose keys name their whole path, so that equal keys mean equal prefixes. */
const chainOf = (path: ReadonlyArray<number>): Float64Array => {
  let key = 0
  return Float64Array.from(path, (step) => (key = key * 4 + step + 1))
}
/** Most steps go straight on, so that chains share long runs and part in the middle of them. */
const chain = fc
  .array(
    fc.nat(7).map((step) => (step === 0 ? 1 : 0)),
    { minLength: 1, maxLength: 14 }
  )
  .map(chainOf)

/** What a listener knows: the cached keys, each with the key of the block it follows. Never one without its parent. */
class Listener implements KvCacheSink {
  readonly known = new Map<number, number | undefined>()
  readonly stored = (chain: Float64Array, from: number, to: number): void =>
    this.add(chain[from - 1], chain, from, to)
  readonly add = (parent: number | undefined, keys: Float64Array, from: number, to: number): void => {
    expect(to).toBeGreaterThan(from)
    let before = parent
    for (const key of keys.subarray(from, to)) {
      if (before !== undefined) expect(this.known.has(before)).toBe(true)
      expect(this.known.has(key)).toBe(false)
      this.known.set(key, before)
      before = key
    }
  }
  readonly removed = (keys: Float64Array, from: number, to: number): void => {
    expect(to).toBeGreaterThan(from)
    for (const key of keys.slice(from, to).toReversed()) {
      expect(this.known.delete(key)).toBe(true)
      expect([...this.known.values()]).not.toContain(key)
    }
  }
}

interface Held {
  readonly chain: Float64Array
  prefix: PrefixNode
  depth: number
}

describe("the KV cache", () => {
  const operation = fc.oneof(
    fc.record({ kind: fc.constant("pin" as const), chain, limit: fc.nat(20) }),
    fc.record({ kind: fc.constant("extend" as const), which: fc.nat(20), blocks: fc.nat(10) }),
    fc.record({ kind: fc.constant("unpin" as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant("take" as const), pages: fc.nat(12) })
  )

  test("agrees with a naive map: matches, eviction order, page counts, what its sink is told; pages are conserved", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10, max: 60 }),
        fc.array(operation, { minLength: 50, maxLength: 200 }),
        (capacity, operations) => {
          const listener = new Listener()
          const cache = new KvCache({ ...options(capacity), sink: listener })
          const naive = new NaiveCache(capacity)
          const held: Array<Held> = []
          const chains: Array<Float64Array> = []
          for (const step of operations) {
            if (step.kind === "pin") {
              const limit = Math.min(step.limit, step.chain.length)
              const prefix = cache.pin(step.chain, limit)
              expect(prefix.end).toBe(naive.pin(step.chain, limit))
              held.push({ chain: step.chain, prefix, depth: prefix.end })
              chains.push(step.chain)
            } else if (step.kind === "take") {
              expect(cache.take(step.pages)).toBe(naive.take(step.pages))
              cache.give(naive.privatePages)
              naive.privatePages = 0
            } else if (held.length > 0 && step.kind === "extend") {
              const sequence = held[step.which % held.length]!
              const upTo = Math.min(sequence.chain.length, sequence.depth + step.blocks)
              const pages = (upTo - sequence.depth) * BLOCK_PAGES
              expect(cache.take(pages)).toBe(naive.take(pages))
              if (naive.privatePages < pages) continue
              sequence.prefix = cache.extend(sequence.prefix, sequence.chain, upTo)
              naive.extend(sequence.chain, sequence.depth, upTo)
              sequence.depth = upTo
              expect(sequence.prefix.end).toBe(upTo)
            } else if (held.length > 0 && step.kind === "unpin") {
              const [sequence] = held.splice(step.which % held.length, 1)
              cache.unpin(sequence!.prefix)
              naive.unpin(sequence!.chain, sequence!.depth)
            }
            expect(cache.usedPages).toBe(naive.usedPages)
            expect(cache.freePages).toBe(naive.freePages)
            expect(cache.freePages).toBeGreaterThanOrEqual(0)
            expect(new Set(listener.known.keys())).toEqual(new Set(naive.blocks.keys()))
          }
          const visitor = new Listener()
          cache.forEachRun(visitor.add)
          expect(visitor.known).toEqual(listener.known)
          for (const known of chains) {
            const depth = naive.pin(known, known.length)
            const prefix = cache.pin(known, known.length)
            expect(prefix.end).toBe(depth)
          }
        }
      ),
      { numRuns: 400 }
    )
  })

  test("keeps its counts when chains contradict each other", () => {
    const wild = fc.array(fc.nat(5), { maxLength: 8 }).map((keys) => Float64Array.from(keys))
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 24 }), fc.array(wild, { maxLength: 40 }), (capacity, chains) => {
        const known = new Set<number>()
        const cache = new KvCache({
          ...options(capacity),
          sink: {
            stored: (chain, from, to) => chain.subarray(from, to).forEach((key) => known.add(key)),
            removed: (keys, from, to) => keys.subarray(from, to).forEach((key) => known.delete(key))
          }
        })
        for (const chain of chains) {
          const pinned = cache.pin(chain, chain.length)
          const from = pinned.end
          expect(from).toBeLessThanOrEqual(chain.length)
          const pages = (chain.length - from) * BLOCK_PAGES
          if (!cache.take(pages)) {
            cache.unpin(pinned)
            continue
          }
          const prefix = cache.extend(pinned, chain, chain.length)
          cache.give((chain.length - prefix.end) * BLOCK_PAGES)
          cache.unpin(prefix)
          expect(cache.usedPages).toBe(0)
          expect(known.size * BLOCK_PAGES).toBeLessThanOrEqual(capacity - cache.freePages)
        }
        expect(cache.take(capacity)).toBe(true)
        expect(cache.freePages).toBe(0)
        expect([...known]).toEqual([])
      }),
      { examples: [[6, [[0, 1, 1], [0], [0, 2, 1]].map((keys) => Float64Array.from(keys))]] }
    )
  })
})
