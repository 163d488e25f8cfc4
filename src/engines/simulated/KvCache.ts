import { assert } from "../../structures/assert.ts"

/** A run of prefix blocks that are used together. Sequences hold the one their prefix ends in, and read `end`; the rest is the cache's. */
export interface PrefixNode {
  /** Blocks from the start of the chain to the end of this run. */
  end: number
  /** The run is `keys[from .. from + length)`; what follows it in `keys` is not cached, but may become so. */
  keys: Float64Array
  from: number
  length: number
  parent: PrefixNode | undefined
  children: number
  /** Sequences that end here, and children that are in use: while it is above 0 the run cannot be evicted. */
  users: number
  /** Links of the queue of released runs, in which it may still stand when it is in use again. */
  older: PrefixNode | undefined
  newer: PrefixNode | undefined
  released: boolean
}

const makeNode = (
  parent: PrefixNode | undefined,
  keys: Float64Array,
  from: number,
  length: number
): PrefixNode => ({
  end: (parent === undefined ? 0 : parent.end) + length,
  keys,
  from,
  length,
  parent,
  children: 0,
  users: 0,
  older: undefined,
  newer: undefined,
  released: false
})

/** Who is told what is cached. Prefix blocks come before those that follow them, and go after them. */
export interface KvCacheSink {
  /** The blocks `chain[from .. to)` are cached: `chain` is the very array that was given to `extend`. */
  readonly stored: (chain: Float64Array, from: number, to: number) => void
  /** The blocks `keys[from .. to)` are cached no more. */
  readonly removed: (keys: Float64Array, from: number, to: number) => void
}

export interface KvCacheOptions {
  readonly capacityTokens: number
  /** The unit of allocation. */
  readonly pageTokens: number
  /** Tokens of one prefix block; a multiple of `pageTokens`. */
  readonly blockTokens: number
  readonly sink?: KvCacheSink | undefined
}

/**
 * The KV cache of one engine: pages that sequences hold privately, and prefix blocks they share.
 *
 * A block is known by a key: any number that stands for the block's content and everything before it, so that two chains with an equal
 * key at some depth are equal up to there. Blocks nobody uses stay until their pages are needed; then the least recently released goes
 * first, and no block before those that follow it. So what is cached is always closed under prefixes, and a longest match costs a few
 * steps of a radix tree with a binary search in each, whatever the length of the prompt.
 *
 * `freePages + usedPages + idle cached pages = capacityPages` at all times; a key is cached at most once.
 */
export class KvCache {
  readonly capacityPages: number
  readonly pageTokens: number
  readonly blockTokens: number
  /** Holding nothing at all. */
  freePages: number
  /** Held by sequences, privately or as a shared prefix. */
  usedPages = 0
  private readonly blockPages: number
  private readonly sink: KvCacheSink | undefined
  private readonly root = makeNode(undefined, new Float64Array(0), 0, 0)
  /** By the first key of its run. */
  private readonly nodes = new Map<number, PrefixNode>()
  private oldest: PrefixNode | undefined
  private newest: PrefixNode | undefined

  constructor(options: KvCacheOptions) {
    assert(options.blockTokens % options.pageTokens === 0, "a prefix block is a whole number of pages")
    this.pageTokens = options.pageTokens
    this.blockTokens = options.blockTokens
    this.sink = options.sink
    this.blockPages = options.blockTokens / options.pageTokens
    this.capacityPages = this.freePages = Math.floor(options.capacityTokens / options.pageTokens)
  }

  /** Pages `take` can give: free ones, and cached ones nobody uses. */
  get availablePages(): number {
    return this.capacityPages - this.usedPages
  }

  /** Pins the longest cached prefix of `chain` that is at most `limit` blocks. Every pin must be undone by `unpin`. */
  pin(chain: Float64Array, limit: number): PrefixNode {
    let node = this.root
    while (node.end < limit) {
      const child = this.nodes.get(chain[node.end]!)
      if (child === undefined || child.parent !== node) break
      const common = commonLength(child, chain, node.end, limit)
      node = common < child.length ? this.split(child, common) : child
    }
    this.use(node)
    return node
  }

  /**
   * Visits everything that is cached, in runs `keys[from .. to)`, parents first. `parent` is the key of the block a run follows, undefined
   * at the start of a prompt. Cost O(runs · log runs).
   */
  forEachRun(
    visit: (parent: number | undefined, keys: Float64Array, from: number, to: number) => void
  ): void {
    for (const { parent, keys, from, length } of [...this.nodes.values()].toSorted((a, b) => a.end - b.end))
      visit(lastKey(parent!), keys, from, from + length)
  }

  /** Undoes one `pin`: the prefix is the most recently released from then on. */
  unpin(held: PrefixNode): void {
    let node: PrefixNode | undefined = held
    while (node !== undefined && --node.users === 0) {
      this.usedPages -= node.length * this.blockPages
      node = node.parent
    }
    if (held.released) this.unlink(held)
    if (held !== this.root) this.linkNewest(held)
  }

  /** Moves `pages` into use, evicting as needed. All or nothing: false when there are not as many. */
  take(pages: number): boolean {
    if (pages > this.availablePages) return false
    while (this.freePages < pages) this.evict(pages - this.freePages)
    this.freePages -= pages
    this.usedPages += pages
    return true
  }

  /** Gives back pages that were taken and did not become prefix blocks. */
  give(pages: number): void {
    this.freePages += pages
    this.usedPages -= pages
  }

  /**
   * Makes the blocks `[held.end, upTo)` of `chain` cached and moves the caller's pin to their end, which is returned. The pages of these
   * blocks, taken by the caller, belong to the cache from then on; of blocks that another sequence cached meanwhile they become free.
   *
   * The end comes before `upTo` when a key is cached after another prefix (chains that contradict each other): nothing happens to the rest.
   */
  extend(held: PrefixNode, chain: Float64Array, upTo: number): PrefixNode {
    let node = held
    while (node.end < upTo) {
      const known = this.nodes.get(chain[node.end]!)
      if (known === undefined) {
        // The keys appended are used already, the caller's pages among them, so `usedPages` stays as it is.
        node = this.append(node, held, chain, upTo)
        break
      }
      if (known.parent !== node) break
      const common = commonLength(known, chain, node.end, upTo)
      node = common < known.length ? this.split(known, common) : known
      this.give(common * this.blockPages)
    }
    if (node !== held) {
      this.use(node)
      this.unpin(held)
    }
    return node
  }

  private append(node: PrefixNode, held: PrefixNode, chain: Float64Array, upTo: number): PrefixNode {
    const length = upTo - node.end
    this.sink?.stored(chain, node.end, upTo)
    const grown = node.from + node.length + length
    const growing =
      node === held &&
      node !== this.root &&
      node.users === 1 &&
      node.children === 0 &&
      grown <= node.keys.length &&
      isRun(node.keys, grown - length, chain, node.end, length)
    if (growing) {
      node.length += length
      node.end = upTo
      return node
    }
    // A copy of the rest of the chain: the run grows into it, and no long chain is kept for the sake of a short end.
    const child = makeNode(node, chain.slice(node.end), 0, length)
    this.nodes.set(child.keys[0]!, child)
    node.children++
    // Counted here and again by `use`, which takes an unused node's pages for idle ones.
    this.usedPages -= length * this.blockPages
    return child
  }

  /** Cuts a run after its first `length` blocks; returns the new node of these. The rest keeps its identity, users and place. */
  private split(node: PrefixNode, length: number): PrefixNode {
    const head = makeNode(node.parent, node.keys, node.from, length)
    this.nodes.set(head.keys[head.from]!, head)
    head.children = 1
    head.users = node.users > 0 ? 1 : 0
    node.parent = head
    node.from += length
    node.length -= length
    this.nodes.set(node.keys[node.from]!, node)
    return head
  }

  private use(from: PrefixNode): void {
    let node: PrefixNode | undefined = from
    while (node !== undefined && node.users++ === 0) {
      this.usedPages += node.length * this.blockPages
      node = node.parent
    }
  }

  /** Evicts up to so many pages of the run that was released first. */
  private evict(pages: number): void {
    const node = this.oldest
    assert(node !== undefined, "what is available is free or was released")
    // A run in use, or with others behind it, comes back to the queue with its last user or last child.
    if (node.users > 0 || node.children > 0) return this.unlink(node)
    const blocks = Math.min(node.length, Math.ceil(pages / this.blockPages))
    node.length -= blocks
    node.end -= blocks
    const gone = node.from + node.length
    this.sink?.removed(node.keys, gone, gone + blocks)
    this.freePages += blocks * this.blockPages
    if (node.length > 0) return
    this.unlink(node)
    const key = node.keys[node.from]!
    if (this.nodes.get(key) === node) this.nodes.delete(key)
    const parent = node.parent!
    if (--parent.children === 0 && parent !== this.root && parent.users === 0 && !parent.released)
      this.linkOldest(parent)
  }

  private linkNewest(node: PrefixNode): void {
    node.released = true
    node.older = this.newest
    if (this.newest === undefined) this.oldest = node
    else this.newest.newer = node
    this.newest = node
  }

  /** It was released before all that wait: else it would be waiting itself. */
  private linkOldest(node: PrefixNode): void {
    node.released = true
    node.newer = this.oldest
    if (this.oldest === undefined) this.newest = node
    else this.oldest.older = node
    this.oldest = node
  }

  private unlink(node: PrefixNode): void {
    if (node.older === undefined) this.oldest = node.newer
    else node.older.newer = node.newer
    if (node.newer === undefined) this.newest = node.older
    else node.newer.older = node.older
    node.older = node.newer = undefined
    node.released = false
  }
}

/** The key of a run's last block; undefined for the root. */
const lastKey = ({ keys, from, length }: PrefixNode): number | undefined => keys[from + length - 1]

/** Whether both have the same `length` keys. Each of them is looked at: chains may contradict each other. */
const isRun = (
  keys: Float64Array,
  from: number,
  chain: Float64Array,
  at: number,
  length: number
): boolean => {
  for (let i = 0; i < length; i++) if (keys[from + i] !== chain[at + i]) return false
  return true
}

/** How many keys of the run stand in `chain` from `at` on, before `limit`. At least 1, for the caller found the run by its first key. */
const commonLength = (node: PrefixNode, chain: Float64Array, at: number, limit: number): number => {
  const { keys, from } = node
  let high = Math.min(node.length, limit - at)
  if (keys[from + high - 1] === chain[at + high - 1]) return high
  let low = 1
  while (low < high - 1) {
    const middle = (low + high) >>> 1
    if (keys[from + middle - 1] === chain[at + middle - 1]) low = middle
    else high = middle
  }
  return low
}
