import { assert } from "./assert.ts"
import { grow, nones } from "./grow.ts"

const NONE = -1
/** Slots are small numbers from tables with at most this many rows; the bound keeps a wrong slot from taking memory. */
export const SLOTS_MAX = 65_536

/**
 * Doubly linked lists threaded through slots: each slot is in one list at most. Every operation is O(1) and allocates nothing,
 * but for the growth of the columns to the largest slot seen (12 bytes a slot, slots < 65 536).
 */
export class SlotLists {
  private readonly firsts: Int32Array
  private readonly lasts: Int32Array
  private list = new Int32Array(0)
  private following = new Int32Array(0)
  private preceding = new Int32Array(0)

  constructor(listCount: number) {
    this.firsts = new Int32Array(listCount).fill(NONE)
    this.lasts = new Int32Array(listCount).fill(NONE)
  }

  /** First slot of a list, or -1 when it is empty. */
  first(list: number): number {
    return this.firsts[list]!
  }

  last(list: number): number {
    return this.lasts[list]!
  }

  /** The slot after a listed one, or -1 at the end. */
  after(slot: number): number {
    return this.following[slot]!
  }

  before(slot: number): number {
    return this.preceding[slot]!
  }

  /** The list a slot is in, or -1. */
  listOf(slot: number): number {
    return this.list[slot] ?? NONE
  }

  /** Calls `visit` with each slot that is in a list now. It may take that one out, and add others at ends. */
  each(list: number, visit: (slot: number) => void): void {
    const last = this.lasts[list]!
    let next = this.firsts[list]!
    while (next !== NONE) {
      const slot = next
      next = slot === last ? NONE : this.following[slot]!
      visit(slot)
    }
  }

  pushBack(list: number, slot: number): void {
    this.insertAfter(list, this.lasts[list]!, slot)
  }

  /** Puts a slot that is in no list behind `behind`, a slot of `list`, or in front of all when `behind` is -1. */
  insertAfter(list: number, behind: number, slot: number): void {
    if (slot >= this.list.length) this.growTo(slot)
    assert(this.list[slot] === NONE, "a slot is in one list at most")
    const next = behind === NONE ? this.firsts[list]! : this.following[behind]!
    this.list[slot] = list
    this.preceding[slot] = behind
    this.following[slot] = next
    if (behind === NONE) this.firsts[list] = slot
    else this.following[behind] = slot
    if (next === NONE) this.lasts[list] = slot
    else this.preceding[next] = slot
  }

  /** Takes a slot out of its list; false when it is in none. */
  remove(slot: number): boolean {
    const list = this.listOf(slot)
    if (list === NONE) return false
    const next = this.following[slot]!
    const previous = this.preceding[slot]!
    if (previous === NONE) this.firsts[list] = next
    else this.following[previous] = next
    if (next === NONE) this.lasts[list] = previous
    else this.preceding[next] = previous
    this.list[slot] = NONE
    return true
  }

  private growTo(slot: number): void {
    assert(slot < SLOTS_MAX, "slots are below 65 536")
    this.list = grow(this.list, slot, nones)
    this.following = grow(this.following, slot, nones)
    this.preceding = grow(this.preceding, slot, nones)
  }
}
