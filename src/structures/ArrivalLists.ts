import { floats, grow } from "./grow.ts"
import { SlotLists } from "./SlotLists.ts"

const NONE = -1

/**
 * Lists of slots, each sorted by when the slots arrived. A new slot belongs at the end of its list, one that is put back near the front
 * and beside the one put back before it, so each is sorted in from there: O(1), but O(slots put back) for those put back out of order.
 * Of slots that arrived at the same time, one put back goes first, then the one added first. 20 bytes for each slot up to the largest
 * seen.
 */
export class ArrivalLists {
  private readonly lists: SlotLists
  /** By list, the slot put back last; -1 when it has left. */
  private readonly putBackLast: Int32Array
  private arrivedMs = new Float64Array(0)

  constructor(listCount: number) {
    this.lists = new SlotLists(listCount)
    this.putBackLast = new Int32Array(listCount).fill(NONE)
  }

  /** The slot of a list that arrived first, or -1 when it is empty. */
  first(list: number): number {
    return this.lists.first(list)
  }

  /** The list a slot is in, or -1. */
  listOf(slot: number): number {
    return this.lists.listOf(slot)
  }

  add(list: number, slot: number, arrivedMs: number): void {
    const { lists } = this
    let behind = lists.last(list)
    while (behind >= 0 && this.arrivedMs[behind]! > arrivedMs) behind = lists.before(behind)
    this.insert(list, behind, slot, arrivedMs)
  }

  putBack(list: number, slot: number, arrivedMs: number): void {
    const { lists } = this
    let behind = this.putBackLast[list]!
    while (behind >= 0 && this.arrivedMs[behind]! >= arrivedMs) behind = lists.before(behind)
    let ahead = behind < 0 ? lists.first(list) : lists.after(behind)
    while (ahead >= 0 && this.arrivedMs[ahead]! < arrivedMs) {
      behind = ahead
      ahead = lists.after(ahead)
    }
    this.insert(list, behind, slot, arrivedMs)
    this.putBackLast[list] = slot
  }

  /** Takes a slot out of its list; false when it is in none. */
  remove(slot: number): boolean {
    const list = this.lists.listOf(slot)
    if (list < 0) return false
    if (slot === this.putBackLast[list]) this.putBackLast[list] = NONE
    return this.lists.remove(slot)
  }

  private insert(list: number, behind: number, slot: number, arrivedMs: number): void {
    this.lists.insertAfter(list, behind, slot)
    if (slot >= this.arrivedMs.length) this.arrivedMs = grow(this.arrivedMs, slot, floats)
    this.arrivedMs[slot] = arrivedMs
  }
}
