import { grow, ints, words } from "./grow.ts"
import { SLOT_HEAP_BYTES, SlotHeap } from "./SlotHeap.ts"

const NONE = -1
/** A handle is the number of its use and its slot: below these, so that both fit into 53 bits. */
const USES_MAX = 2 ** 32
const SLOTS_MAX = 2 ** 21

/** Most bytes of so many expectations of so many entries and workers; the first two are powers of two. */
export const expectationsBytes = (expectations: number, entries: number, workers: number): number =>
  expectations * (20 + SLOT_HEAP_BYTES) + entries * 4 + workers * 8

/**
 * What workers are expected to cache: each expectation is a worker, the entry in which its chain ends, and the time at which it ends
 * itself. They are listed for each worker, oldest first. Costs O(1), where an end changes O(log size), and what looks for a worker's
 * expectations of one entry O(expectations of the worker). Nothing is allocated but for the doubling of the columns.
 */
export class Expectations {
  size = 0
  readonly sizeMax: number
  /** By slot; the entry of a free one is -1. */
  private worker = new Int32Array(0)
  private entry = new Int32Array(0)
  private use = new Uint32Array(0)
  private older = new Int32Array(0)
  private newer = new Int32Array(0)
  private readonly ends = new SlotHeap()
  /** By worker. */
  private readonly oldest: Int32Array
  private readonly newest: Int32Array
  /** By entry: how many there are. */
  private counts = new Int32Array(0)
  private uses = 0
  /** Slots used so far, and the last of them that is free again; the others hang behind it by `newer`. */
  private given = 0
  private spare = NONE

  constructor(workersMax: number, sizeMax: number) {
    this.sizeMax = Math.min(sizeMax, SLOTS_MAX)
    this.oldest = new Int32Array(workersMax).fill(NONE)
    this.newest = new Int32Array(workersMax).fill(NONE)
  }

  get bytes(): number {
    return this.worker.byteLength * 5 + this.counts.byteLength + this.ends.bytes + this.oldest.byteLength * 2
  }

  workerOf(slot: number): number {
    return this.worker[slot]!
  }

  entryOf(slot: number): number {
    return this.entry[slot]!
  }

  anyOf(entry: number): boolean {
    return entry < this.counts.length && this.counts[entry]! > 0
  }

  /** How many expectations of an entry a worker has. */
  count(entry: number, worker: number): number {
    let count = 0
    if (this.anyOf(entry))
      for (let slot = this.oldestOf(worker); slot >= 0; slot = this.newer[slot]!)
        if (this.entry[slot] === entry) count++
    return count
  }

  /** The slot of a worker's oldest expectation, or -1. */
  oldestOf(worker: number): number {
    return this.oldest[worker]!
  }

  /** The slot of an expectation that has ended, or -1. */
  ended(nowMs: number): number {
    const slot = this.ends.first
    return slot >= 0 && this.ends.keyOf(slot) <= nowMs ? slot : NONE
  }

  /** The slot behind a handle, or -1 when its expectation is gone. */
  find(handle: number): number {
    const slot = handle % SLOTS_MAX
    const known = handle >= 0 && slot < this.given && this.entry[slot] !== NONE
    return known && this.use[slot] === Math.floor(handle / SLOTS_MAX) ? slot : NONE
  }

  /** Adds one, while there are fewer than `sizeMax`. Returns a handle that no other had, nor will have for 2³² more. */
  add(entry: number, worker: number, endMs: number): number {
    const slot = this.take()
    const older = this.newest[worker]!
    this.uses = (this.uses + 1) % USES_MAX
    this.worker[slot] = worker
    this.entry[slot] = entry
    this.use[slot] = this.uses
    this.older[slot] = older
    this.newer[slot] = NONE
    if (older === NONE) this.oldest[worker] = slot
    else this.newer[older] = slot
    this.newest[worker] = slot
    this.ends.setKey(slot, endMs)
    this.ends.add(slot)
    if (entry >= this.counts.length) this.counts = grow(this.counts, entry, ints)
    this.counts[entry]!++
    this.size++
    return this.uses * SLOTS_MAX + slot
  }

  setEnd(slot: number, endMs: number): void {
    this.ends.setKey(slot, endMs)
  }

  remove(slot: number): void {
    const worker = this.worker[slot]!
    const older = this.older[slot]!
    const newer = this.newer[slot]!
    if (older === NONE) this.oldest[worker] = newer
    else this.newer[older] = newer
    if (newer === NONE) this.newest[worker] = older
    else this.older[newer] = older
    this.ends.remove(slot)
    this.counts[this.entry[slot]!]!--
    this.entry[slot] = NONE
    this.newer[slot] = this.spare
    this.spare = slot
    this.size--
  }

  /** Removes a worker's expectations of an entry. */
  fulfil(entry: number, worker: number): void {
    if (!this.anyOf(entry)) return
    for (let slot = this.oldestOf(worker); slot >= 0;) {
      const newer = this.newer[slot]!
      if (this.entry[slot] === entry) this.remove(slot)
      slot = newer
    }
  }

  /** Handles given out before stay void. */
  clear(): void {
    this.worker = this.entry = this.older = this.newer = this.counts = new Int32Array(0)
    this.use = new Uint32Array(0)
    this.ends.clear()
    this.oldest.fill(NONE)
    this.newest.fill(NONE)
    this.size = 0
    this.given = 0
    this.spare = NONE
  }

  private take(): number {
    const slot = this.spare
    if (slot !== NONE) {
      this.spare = this.newer[slot]!
      return slot
    }
    if (this.given === this.worker.length) this.growTo(this.given)
    return this.given++
  }

  private growTo(slot: number): void {
    this.worker = grow(this.worker, slot, ints)
    this.entry = grow(this.entry, slot, ints)
    this.older = grow(this.older, slot, ints)
    this.newer = grow(this.newer, slot, ints)
    this.use = grow(this.use, slot, words)
  }
}
