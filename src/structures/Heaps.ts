import { assert } from "./assert.ts"
import { bytes, grow, ints, nones } from "./grow.ts"
import { SLOTS_MAX } from "./SlotLists.ts"

const NONE = -1

/**
 * Heaps threaded through slots: each slot is in one heap at most. `before(a, b)` says whether slot `a` stands before slot `b`: a strict
 * order that holds still while both are in the heap, but for the slot that `update` is called with next.
 *
 * `first` is O(1); every other operation is O(log n) at worst in the size of the heap and allocates nothing, but for the growth of the
 * columns to the largest slot seen (17 bytes a slot, slots < 65 536).
 *
 * Source: leftist trees; Crane, Linear Lists and Priority Queues as Balanced Binary Trees, 1972. Removal climbs while ranks change.
 */
export class Heaps {
  private readonly before: (a: number, b: number) => boolean
  private readonly roots: Int32Array
  private heap = new Int32Array(0)
  private parent = new Int32Array(0)
  private left = new Int32Array(0)
  private right = new Int32Array(0)
  /** Nodes on the way to the right: never more than to the left, so that it is short. */
  private rank = new Uint8Array(0)

  constructor(heapCount: number, before: (a: number, b: number) => boolean) {
    this.before = before
    this.roots = new Int32Array(heapCount).fill(NONE)
  }

  /** The slot that stands before all others of a heap, or -1 when it is empty. */
  first(heap: number): number {
    return this.roots[heap]!
  }

  /** The heap a slot is in, or -1. */
  heapOf(slot: number): number {
    return this.heap[slot] ?? NONE
  }

  insert(heap: number, slot: number): void {
    if (slot >= this.heap.length) this.growTo(slot)
    assert(this.heap[slot] === NONE, "a slot is in one heap at most")
    this.heap[slot] = heap
    this.left[slot] = NONE
    this.right[slot] = NONE
    this.rank[slot] = 1
    this.hang(this.merged(this.roots[heap]!, slot), NONE, NONE, heap)
  }

  /** Takes a slot out of its heap; false when it is in none. */
  remove(slot: number): boolean {
    const heap = this.heapOf(slot)
    if (heap === NONE) return false
    this.heap[slot] = NONE
    let above = this.parent[slot]!
    this.hang(this.merged(this.left[slot]!, this.right[slot]!), above, slot, heap)
    while (above !== NONE && this.settled(above)) above = this.parent[above]!
    return true
  }

  /** Puts a slot of a heap where it belongs, after what orders it has changed. */
  update(slot: number): void {
    const heap = this.heapOf(slot)
    this.remove(slot)
    this.insert(heap, slot)
  }

  /** Hangs a tree below `above` in the place of `old`, or makes it the root. */
  private hang(tree: number, above: number, old: number, heap: number): void {
    if (tree !== NONE) this.parent[tree] = above
    if (above === NONE) this.roots[heap] = tree
    else if (this.left[above] === old) this.left[above] = tree
    else this.right[above] = tree
  }

  /** One tree of two. As deep as their ways to the right are long together: at most 34 for 65 536 slots. */
  private merged(a: number, b: number): number {
    if (a === NONE) return b
    if (b === NONE) return a
    if (this.before(b, a)) return this.mergedBelow(b, a)
    return this.mergedBelow(a, b)
  }

  private mergedBelow(top: number, other: number): number {
    const right = this.merged(this.right[top]!, other)
    this.right[top] = right
    this.parent[right] = top
    this.settled(top)
    return top
  }

  /** Keeps the way to the right the shorter one. Says whether the rank changed. */
  private settled(slot: number): boolean {
    const left = this.left[slot]!
    const right = this.right[slot]!
    const leftRank = left === NONE ? 0 : this.rank[left]!
    const rightRank = right === NONE ? 0 : this.rank[right]!
    if (leftRank < rightRank) {
      this.left[slot] = right
      this.right[slot] = left
    }
    const rank = Math.min(leftRank, rightRank) + 1
    if (rank === this.rank[slot]) return false
    this.rank[slot] = rank
    return true
  }

  private growTo(slot: number): void {
    assert(slot < SLOTS_MAX, "slots are below 65 536")
    this.heap = grow(this.heap, slot, nones)
    this.parent = grow(this.parent, slot, ints)
    this.left = grow(this.left, slot, ints)
    this.right = grow(this.right, slot, ints)
    this.rank = grow(this.rank, slot, bytes)
  }
}
