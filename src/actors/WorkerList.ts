import type { WorkerColumns } from "../domain/PoolView.ts"
import { bytes, ints } from "../structures/grow.ts"

/**
 * A set of worker slots in the order of the workers' keys: `slots[0 .. count)`. Adding and removing one costs a binary search and one
 * move of memory.
 */
export class WorkerList {
  readonly slots: Int32Array
  count = 0
  private readonly keyHigh: Uint32Array
  private readonly keyLow: Uint32Array
  private readonly listed: Uint8Array

  constructor({ keyHigh, keyLow }: Pick<WorkerColumns, "keyHigh" | "keyLow">) {
    this.keyHigh = keyHigh
    this.keyLow = keyLow
    this.slots = ints(keyHigh.length)
    this.listed = bytes(keyHigh.length)
  }

  has(worker: number): boolean {
    return this.listed[worker] === 1
  }

  set(worker: number, listed: boolean): void {
    if (this.has(worker) === listed) return
    this.listed[worker] = listed ? 1 : 0
    const at = this.rank(worker)
    const { slots, count } = this
    if (listed) {
      slots.copyWithin(at + 1, at, count)
      slots[at] = worker
      this.count++
    } else {
      slots.copyWithin(at, at + 1, count)
      this.count--
    }
  }

  /** Where `worker` stands, or would stand. */
  private rank(worker: number): number {
    const { keyHigh, keyLow, slots } = this
    const high = keyHigh[worker]!
    const low = keyLow[worker]!
    let from = 0
    let to = this.count
    while (from < to) {
      const middle = (from + to) >>> 1
      const other = slots[middle]!
      const before =
        keyHigh[other]! < high ||
        (keyHigh[other] === high && (keyLow[other]! < low || (keyLow[other] === low && other < worker)))
      if (before) from = middle + 1
      else to = middle
    }
    return from
  }
}
