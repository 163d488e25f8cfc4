import { assert } from "./assert.ts"
import { grow, ints } from "./grow.ts"
import { PairIndex, pairIndexBytes } from "./PairIndex.ts"

/** The set without workers. */
export const EMPTY = 0
const NONE = -1
/** In place of a right half: the node is a leaf, and its left half is a bit for each of 32 workers. */
const LEAF = -1

/** The set that came of another one when a worker joined it, or left it. */
interface Change {
  from: number
  worker: number
  to: number
}

/** Most bytes of sets made of so many nodes, a power of two. */
export const workerSetsBytes = (nodes: number): number => nodes * 12 + pairIndexBytes(nodes)

/**
 * Sets of workers, each kept once: equal sets have equal ids. A set is a binary trie over worker numbers with 32 of them to a leaf, and
 * tries share the parts that are equal. So a set that differs from another in one worker takes at most `depth` more nodes, and what
 * two sets have in common is passed over when they are compared.
 *
 * An id that is given out is a reference, which must be released; a set without references is gone. Costs O(depth), and O(1) when one
 * worker joins or leaves equal sets one after the other; `difference` O(depth · workers found). Nothing is allocated but for the
 * doubling of the columns.
 * Source: hash consing (Ershov, "On programming of arithmetic operations", 1958).
 */
export class WorkerSets {
  /** Nodes from the root of a set to a leaf. */
  readonly depth: number
  /** Nodes in use. */
  size = 0
  private readonly nodesMax: number
  /** By node: its left half, and its right half. */
  private halves = new Int32Array(0)
  private references = new Int32Array(0)
  /** From the halves of a node to its id. */
  private readonly ids = new PairIndex()
  /** Ids used so far, and the last of them that is free again; the others hang behind it by their left halves. */
  private given = 0
  private spare = NONE
  /** The nodes on the way to a leaf, by level. */
  private readonly spine: Int32Array
  private readonly joined: Change = { from: NONE, worker: NONE, to: NONE }
  private readonly left: Change = { from: NONE, worker: NONE, to: NONE }

  /** One node of `nodesMax` is the empty set. */
  constructor(workersMax: number, nodesMax: number) {
    this.depth = 1 + Math.ceil(Math.log2(Math.max(32, workersMax) / 32))
    this.nodesMax = nodesMax
    this.spine = new Int32Array(this.depth)
    this.clear()
  }

  get bytes(): number {
    return this.halves.byteLength + this.references.byteLength + this.ids.bytes
  }

  /** Nodes that can still be made. */
  get room(): number {
    return this.nodesMax - 1 - this.size
  }

  has(set: number, worker: number): boolean {
    let node = set
    for (let level = this.depth - 1; level > 0; level--) node = this.halves[halfOf(node, worker, level)]!
    return ((this.halves[node << 1]! >>> (worker & 31)) & 1) === 1
  }

  /** The set with one worker more. There must be room for `depth` nodes. */
  with(set: number, worker: number): number {
    const next = this.change(set, worker, true)
    assert(next !== NONE, "there is room for one more set")
    return next
  }

  /** The set with one worker less, or -1 when there is no room for it. */
  without(set: number, worker: number): number {
    return this.change(set, worker, false)
  }

  /** Gives a reference back. */
  release(set: number): void {
    if (set === EMPTY || --this.references[set]! > 0) return
    const left = this.halves[set << 1]!
    const right = this.halves[(set << 1) + 1]!
    this.ids.delete(left, right)
    if (right !== LEAF) {
      this.release(left)
      this.release(right)
    }
    forgetChange(this.joined, set)
    forgetChange(this.left, set)
    this.halves[set << 1] = this.spare
    this.spare = set
    this.size--
  }

  /** Writes the workers of `set` that are not in `other` to `into` from `at` on, in order; returns where they end. */
  difference(set: number, other: number, into: Int32Array, at: number): number {
    return this.visit(set, other, this.depth - 1, 0, into, at)
  }

  clear(): void {
    this.halves = this.references = new Int32Array(0)
    this.ids.clear()
    this.joined.from = this.left.from = NONE
    this.size = 0
    this.growTo(EMPTY)
    this.given = EMPTY + 1
    this.spare = NONE
  }

  private visit(
    set: number,
    other: number,
    level: number,
    first: number,
    into: Int32Array,
    at: number
  ): number {
    if (set === other) return at
    const { halves } = this
    const mine = set << 1
    const its = other << 1
    if (level > 0) {
      const middle = this.visit(halves[mine]!, halves[its]!, level - 1, first, into, at)
      return this.visit(halves[mine + 1]!, halves[its + 1]!, level - 1, first + (16 << level), into, middle)
    }
    let end = at
    for (let bits = halves[mine]! & ~halves[its]!; bits !== 0; bits &= bits - 1)
      into[end++] = first + 31 - Math.clz32(bits & -bits)
    return end
  }

  private change(set: number, worker: number, member: boolean): number {
    const last = member ? this.joined : this.left
    if (last.from === set && last.worker === worker) {
      this.references[last.to]!++
      return last.to
    }
    const { depth, spine } = this
    let node = set
    for (let level = depth - 1; level > 0; level--) {
      spine[level] = node
      node = this.halves[halfOf(node, worker, level)]!
    }
    const bit = 1 << (worker & 31)
    const bits = member ? this.halves[node << 1]! | bit : this.halves[node << 1]! & ~bit
    let made = bits === 0 ? EMPTY : this.node(bits, LEAF)
    for (let level = 1; level < depth && made !== NONE; level++) {
      const below = made
      const half = halfOf(spine[level]!, worker, level)
      const beside = this.halves[half ^ 1]!
      if (below === EMPTY && beside === EMPTY) continue
      made = (half & 1) === 1 ? this.node(beside, below) : this.node(below, beside)
      this.release(below)
    }
    if (made === NONE) return NONE
    last.from = set
    last.worker = worker
    last.to = made
    return made
  }

  /** The node of two halves, with a reference for who asked; -1 when it would be a new one and there is no room. */
  private node(left: number, right: number): number {
    const known = this.ids.get(left, right)
    if (known >= 0) {
      this.references[known]!++
      return known
    }
    if (this.room === 0) return NONE
    const node = this.take()
    this.halves[node << 1] = left
    this.halves[(node << 1) + 1] = right
    this.references[node] = 1
    if (right !== LEAF) {
      this.references[left]!++
      this.references[right]!++
    }
    this.ids.set(left, right, node)
    this.size++
    return node
  }

  private take(): number {
    const node = this.spare
    if (node !== NONE) {
      this.spare = this.halves[node << 1]!
      return node
    }
    if (this.given === this.references.length) this.growTo(this.given)
    return this.given++
  }

  private growTo(node: number): void {
    this.references = grow(this.references, node, ints)
    this.halves = grow(this.halves, this.references.length * 2 - 1, ints)
  }
}

/** Where the id of the half of a node stands in which a worker is. */
const halfOf = (node: number, worker: number, level: number): number =>
  (node << 1) + ((worker >>> (4 + level)) & 1)

/** A change is void when one of its sets is gone. */
const forgetChange = (change: Change, set: number): void => {
  if (change.from === set || change.to === set) change.from = NONE
}
