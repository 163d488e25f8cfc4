import type { PrefixChain } from "../../../src/structures/PrefixChain.ts"

/** Blocks are small numbers here. 0 stands for none: what is behind it begins a prompt. */
export type Blocks = ReadonlyArray<number>

const ROOT = 0

/** Hashes that differ in one half, or are as near to each other or to the ends of the range as they can be. */
const awkward: ReadonlyArray<readonly [number, number]> = [
  [0, 0],
  [0, 1],
  [1, 0],
  [0xffff_ffff, 0xffff_ffff],
  [0xffff_ffff, 0],
  [0, 0xffff_ffff],
  [0x8000_0000, 0],
  [0, 0x8000_0000],
  [0x7fff_ffff, 0x8000_0000]
]

export const hashOf = (block: number): readonly [high: number, low: number] =>
  awkward[block] ?? [block % 3, block]

export const chainOf = (blocks: Blocks): PrefixChain => ({
  count: blocks.length,
  high: Uint32Array.from(blocks, (block) => hashOf(block)[0]),
  low: Uint32Array.from(blocks, (block) => hashOf(block)[1])
})

export interface Expectation {
  readonly worker: number
  readonly path: Blocks
  endMs: number
}

/** The same index in plain sets: a set of blocks for each worker, a list of expectations, and a search through everything for each answer. */
export class NaivePrefixIndex {
  /** Of each block that somebody holds, the block before it. */
  readonly parents = new Map<number, number>()
  expectations: ReadonlyArray<Expectation> = []
  private readonly cached = new Map<number, Set<number>>()
  private readonly lastUses = new Map<number, number>()
  private readonly blocksMax: number
  private readonly expectationsMax: number
  private uses = 0

  constructor(blocksMax: number, expectationsMax: number) {
    this.blocksMax = blocksMax
    this.expectationsMax = expectationsMax
  }

  heldBy(worker: number): ReadonlySet<number> {
    const own = this.expectations.filter((expectation) => expectation.worker === worker)
    return new Set([...this.cachedBy(worker), ...own.flatMap(({ path }) => path)])
  }

  depth(chain: Blocks, worker: number): number {
    const held = this.heldBy(worker)
    const end = chain.findIndex((block, i) => !this.follows(chain, i) || !held.has(block))
    return end < 0 ? chain.length : end
  }

  stored(worker: number, parent: number, blocks: Blocks): number {
    if (parent !== ROOT && !this.heldBy(worker).has(parent)) return 0
    const cached = this.cachedBy(worker)
    this.confirm(
      worker,
      this.pathTo(parent).filter((block) => !cached.has(block))
    )
    let last = parent
    let taken = 0
    for (const block of blocks) {
      if (block === ROOT || (this.parents.get(block) ?? last) !== last) break
      if (!this.parents.has(block) && !this.makeRoom(last)) break
      this.parents.set(block, last)
      this.confirm(worker, [block])
      last = block
      taken++
    }
    this.touch(last)
    return taken
  }

  removed(worker: number, blocks: Blocks): void {
    const cached = this.cachedBy(worker)
    for (const gone of blocks)
      if (cached.has(gone))
        for (const block of cached) if (this.pathTo(block).includes(gone)) cached.delete(block)
    this.prune()
  }

  expect(worker: number, chain: Blocks, endMs: number): Expectation | undefined {
    if (this.expectations.length === this.expectationsMax) return undefined
    const deepest = chain.findLast((_, i) => this.knows(chain, i)) ?? ROOT
    const path = chain.slice(0, this.depth(chain, worker))
    const expectation = { worker, path, endMs }
    this.expectations = [...this.expectations, expectation]
    for (const block of chain.slice(path.length)) {
      const last = path.at(-1) ?? ROOT
      if (block === ROOT || (this.parents.get(block) ?? last) !== last) break
      if (!this.parents.has(block) && !this.makeRoom(deepest)) break
      this.parents.set(block, last)
      path.push(block)
    }
    if (path.length > 0) this.touch(path.at(-1)!)
    else this.withdraw(expectation)
    return path.length > 0 ? expectation : undefined
  }

  withdraw(ended: Expectation | undefined): void {
    this.endWhere((expectation) => expectation === ended)
  }

  expire(nowMs: number): void {
    this.endWhere(({ endMs }) => endMs <= nowMs)
  }

  shrink(worker: number, blocksMax: number): void {
    const oldest = this.expectations.find((expectation) => expectation.worker === worker)
    if (oldest === undefined || this.heldBy(worker).size <= blocksMax) return
    this.withdraw(oldest)
    this.shrink(worker, blocksMax)
  }

  forget(worker: number): void {
    this.cached.delete(worker)
    this.endWhere((expectation) => expectation.worker === worker)
  }

  private cachedBy(worker: number): Set<number> {
    const cached = this.cached.get(worker) ?? new Set()
    this.cached.set(worker, cached)
    return cached
  }

  private follows(chain: Blocks, i: number): boolean {
    return this.parents.get(chain[i]!) === (chain[i - 1] ?? ROOT)
  }

  /** Whether block `i` and all before it are known one behind the other. */
  private knows(chain: Blocks, i: number): boolean {
    return chain.slice(0, i + 1).every((_, k) => this.follows(chain, k))
  }

  private pathTo(block: number): Blocks {
    return block === ROOT ? [] : [...this.pathTo(this.parents.get(block)!), block]
  }

  private confirm(worker: number, blocks: Blocks): void {
    for (const block of blocks) this.cachedBy(worker).add(block)
    this.endWhere((expectation) => expectation.worker === worker && blocks.includes(expectation.path.at(-1)!))
  }

  private endWhere(ended: (expectation: Expectation) => boolean): void {
    this.expectations = this.expectations.filter((expectation) => !ended(expectation))
    this.prune()
  }

  private touch(block: number): void {
    this.uses++
    for (const used of this.pathTo(block)) this.lastUses.set(used, this.uses)
  }

  /** Drops the least recently used block that has none behind it and is not expected, but for `kept`; false when there is none. */
  private makeRoom(kept: number): boolean {
    if (this.parents.size < this.blocksMax) return true
    const before = new Set(this.parents.values())
    const expected = new Set(this.expectations.flatMap((expectation) => expectation.path))
    const [victim] = [...this.parents.keys()]
      .filter((block) => !before.has(block) && !expected.has(block) && block !== kept)
      .toSorted((a, b) => this.lastUses.get(a)! - this.lastUses.get(b)!)
    if (victim === undefined) return false
    for (const cached of this.cached.values()) cached.delete(victim)
    this.prune()
    return this.makeRoom(kept)
  }

  private prune(): void {
    const held = new Set([
      ...[...this.cached.values()].flatMap((cached) => [...cached]),
      ...this.expectations.flatMap(({ path }) => path)
    ])
    for (const block of this.parents.keys())
      if (!held.has(block)) {
        this.parents.delete(block)
        this.lastUses.delete(block)
      }
  }
}
