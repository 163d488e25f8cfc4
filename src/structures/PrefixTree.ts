import { grow, ints } from "./grow.ts"
import { PairIndex, pairIndexBytes } from "./PairIndex.ts"
import type { PrefixChain } from "./PrefixChain.ts"

const NONE = -1
/** The entry that is no block: first blocks of prompts are behind it. Its hash is 0. */
export const ROOT = 0

/** What a walk up reads lies side by side: an entry's hash, the entry before it, and a number of whoever owns the tree. */
const FIELDS = 4
const LOW = 1
const PARENT = 2
const VALUE = 3

/** Most bytes of a tree of so many entries, a power of two. */
export const prefixTreeBytes = (entries: number): number =>
  entries * (FIELDS + 3) * 4 + pairIndexBytes(entries)

/**
 * Prefix blocks, each behind the block that comes before it in a prompt. An entry is a number; that of a removed one is used again.
 * A hash has one entry at most, and 0 is that of the root. All but `locate` costs O(1); nothing is allocated but for the doubling of
 * the columns.
 */
export class PrefixTree {
  /** Blocks. */
  size = 0
  private fields = new Int32Array(0)
  /** By entry; -1 where there is none. */
  private child = new Int32Array(0)
  private next = new Int32Array(0)
  private previous = new Int32Array(0)
  private readonly entries = new PairIndex()
  /** Entries given out so far, and the last of them that is free again; the others hang behind it by `next`. */
  private given = 0
  private spare = NONE

  constructor() {
    this.clear()
  }

  get bytes(): number {
    return this.fields.byteLength + this.child.byteLength * 3 + this.entries.bytes
  }

  /** The entry of a hash, or -1. */
  find(high: number, low: number): number {
    return this.entries.get(high, low)
  }

  /** The entry before this one; -1 before the root. */
  parentOf(entry: number): number {
    return this.fields[fieldsOf(entry) + PARENT]!
  }

  /** 0 until it is set. */
  valueOf(entry: number): number {
    return this.fields[fieldsOf(entry) + VALUE]!
  }

  setValue(entry: number, value: number): void {
    this.fields[fieldsOf(entry) + VALUE] = value
  }

  /** One of the entries behind this one, or -1. */
  firstChild(entry: number): number {
    return this.child[entry]!
  }

  /** The next entry with the same parent, or -1. */
  nextSibling(entry: number): number {
    return this.next[entry]!
  }

  /**
   * Finds how many leading blocks of `chain` are in the tree one behind the other, at most as many as `path` is long, and writes their
   * entries there. A chain may be made up of pieces that do not belong together, and counts up to the first that does not.
   *
   * What is in the tree is there with all that comes before it, so a search on depth finds where it ends; then a walk back compares
   * every block. O(log blocks) searches, and about 2 ns for each block that is in the tree.
   */
  locate({ count, high, low }: PrefixChain, path: Int32Array): number {
    let known = 0
    let unknown = Math.min(count, path.length)
    let entry = NONE
    while (known < unknown) {
      const middle = (known + unknown) >>> 1
      const found = this.entries.get(high[middle]!, low[middle]!)
      if (found >= 0) {
        entry = found
        known = middle + 1
      } else unknown = middle
    }
    if (known === 0) return 0
    const { fields } = this
    let depth = known
    for (let i = known - 1; i > 0; i--) {
      path[i] = entry
      // Blocks that came together have numbers in a row: a processor that bets on this need not wait for one to find the next.
      let parent = entry - 1
      if (fields[fieldsOf(entry) + PARENT] !== parent) parent = fields[fieldsOf(entry) + PARENT]!
      const at = fieldsOf(parent)
      const blockHigh = high[i - 1]! | 0
      const blockLow = low[i - 1]! | 0
      if (parent > ROOT && fields[at] === blockHigh && fields[at + LOW] === blockLow) entry = parent
      else {
        depth = i
        entry = Math.max(this.entries.get(blockHigh, blockLow), ROOT)
      }
    }
    path[0] = entry
    return this.parentOf(entry) === ROOT ? depth : 0
  }

  /** Adds a block with a hash that has no entry. */
  add(parent: number, high: number, low: number): number {
    const entry = this.take()
    this.entries.set(high, low, entry)
    const at = fieldsOf(entry)
    this.fields[at] = high
    this.fields[at + LOW] = low
    this.fields[at + PARENT] = parent
    this.fields[at + VALUE] = 0
    const sibling = this.child[parent]!
    this.child[parent] = entry
    this.child[entry] = NONE
    this.previous[entry] = NONE
    this.next[entry] = sibling
    if (sibling !== NONE) this.previous[sibling] = entry
    this.size++
    return entry
  }

  /** Removes a block with none behind it. */
  remove(entry: number): void {
    const next = this.next[entry]!
    const previous = this.previous[entry]!
    if (previous === NONE) this.child[this.parentOf(entry)] = next
    else this.next[previous] = next
    if (next !== NONE) this.previous[next] = previous
    const at = fieldsOf(entry)
    this.entries.delete(this.fields[at]!, this.fields[at + LOW]!)
    this.next[entry] = this.spare
    this.spare = entry
    this.size--
  }

  clear(): void {
    this.fields = this.child = this.next = this.previous = new Int32Array(0)
    this.entries.clear()
    this.size = 0
    this.given = 0
    this.spare = NONE
    const root = this.take()
    this.fields[fieldsOf(root) + PARENT] = NONE
    this.child[root] = NONE
    this.entries.set(0, 0, root)
  }

  private take(): number {
    const entry = this.spare
    if (entry !== NONE) {
      this.spare = this.next[entry]!
      return entry
    }
    if (this.given >= this.next.length) this.growTo(this.given)
    return this.given++
  }

  private growTo(entry: number): void {
    this.child = grow(this.child, entry, ints)
    this.next = grow(this.next, entry, ints)
    this.previous = grow(this.previous, entry, ints)
    this.fields = grow(this.fields, this.next.length * FIELDS - 1, ints)
  }
}

/** Where the fields of an entry begin. */
const fieldsOf = (entry: number): number => entry << 2
