import { floats, grow, ints, nones } from "./grow.ts"

const NONE = -1

/** Bytes a slot takes. */
export const SLOT_HEAP_BYTES = 16

/**
 * Finds the slot of the least key. Every slot has a key, 0 until it is set, and is in the heap or not. `first` costs O(1), the others
 * O(log size), and setting the key of a slot outside O(1); nothing is allocated but for the growth of the columns to the largest slot
 * seen. Of slots with equal keys any may come first. Keys are not NaN.
 */
export class SlotHeap {
  size = 0
  /** By slot. */
  private keys = new Float64Array(0)
  private places = new Int32Array(0)
  /** A binary heap of slots. */
  private order = new Int32Array(0)

  get bytes(): number {
    return this.keys.byteLength + this.places.byteLength + this.order.byteLength
  }

  /** The slot of the least key in the heap, or -1. */
  get first(): number {
    return this.size > 0 ? this.order[0]! : NONE
  }

  keyOf(slot: number): number {
    return this.keys[slot] ?? 0
  }

  setKey(slot: number, key: number): void {
    if (slot >= this.keys.length) this.growTo(slot)
    const before = this.keys[slot]!
    this.keys[slot] = key
    const place = this.places[slot]!
    if (place === NONE) return
    if (key < before) this.rise(slot, place)
    else this.sink(slot, place)
  }

  /** Does nothing when the slot is in the heap. */
  add(slot: number): void {
    if (slot >= this.keys.length) this.growTo(slot)
    if (this.places[slot] === NONE) this.rise(slot, this.size++)
  }

  /** Does nothing when the slot is not in the heap. */
  remove(slot: number): void {
    const place = this.places[slot] ?? NONE
    if (place === NONE) return
    this.places[slot] = NONE
    const last = this.order[--this.size]!
    if (last === slot) return
    if (this.keys[last]! < this.keys[slot]!) this.rise(last, place)
    else this.sink(last, place)
  }

  clear(): void {
    this.size = 0
    this.keys = new Float64Array(0)
    this.places = new Int32Array(0)
    this.order = new Int32Array(0)
  }

  /** Puts a slot at the empty `place`, or above it. */
  private rise(slot: number, place: number): void {
    const { keys, order } = this
    const key = keys[slot]!
    let at = place
    while (at > 0) {
      const above = (at - 1) >>> 1
      if (keys[order[above]!]! <= key) break
      this.put(order[above]!, at)
      at = above
    }
    this.put(slot, at)
  }

  /** Puts a slot at the empty `place`, or below it. */
  private sink(slot: number, place: number): void {
    const { keys, order, size } = this
    const key = keys[slot]!
    let at = place
    for (;;) {
      let below = 2 * at + 1
      if (below >= size) break
      if (below + 1 < size && keys[order[below + 1]!]! < keys[order[below]!]!) below++
      if (keys[order[below]!]! >= key) break
      this.put(order[below]!, at)
      at = below
    }
    this.put(slot, at)
  }

  private put(slot: number, place: number): void {
    this.order[place] = slot
    this.places[slot] = place
  }

  private growTo(slot: number): void {
    this.keys = grow(this.keys, slot, floats)
    this.places = grow(this.places, slot, nones)
    this.order = grow(this.order, slot, ints)
  }
}
