import { grow, ints } from "./grow.ts"
import { stableSort } from "./stableSort.ts"

/**
 * Puts costs where they fit best: where the least room is that suffices, in the first row of several. Scratch grows by doubling; nothing
 * else is allocated.
 */
export class BestFit {
  private room: Float64Array = new Float64Array(0)
  private count = 0
  /** Rows by room, those with equal room in order. */
  private byRoom = new Int32Array(0)
  private scratch = new Int32Array(0)
  private readonly before = (a: number, b: number): boolean => this.room[a]! < this.room[b]!

  /** Starts with rows 0 … count − 1 and the room they have; `take` keeps `room` up to date. O(count·log count). */
  start(room: Float64Array, count: number): void {
    if (count > this.byRoom.length) {
      this.byRoom = grow(this.byRoom, count - 1, ints)
      this.scratch = new Int32Array(this.byRoom.length)
    }
    this.room = room
    this.count = count
    for (let row = 0; row < count; row++) this.byRoom[row] = row
    stableSort(this.byRoom, count, this.scratch, this.before)
  }

  /** The row that `cost` goes to, or -1 when none has room. O(log count), and one move of the rows that have less room. */
  take(cost: number): number {
    const { byRoom, room } = this
    const found = this.place(cost, -1, this.count)
    if (found === this.count) return -1
    const row = byRoom[found]!
    room[row]! -= cost
    const place = this.place(room[row]!, row, found)
    byRoom.copyWithin(place + 1, place, found)
    byRoom[place] = row
    return row
  }

  /** Where a row with this room belongs among the first `end` rows. */
  private place(room: number, row: number, end: number): number {
    let low = 0
    let high = end
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.byRoom[middle]!
      if (this.room[other]! < room || (this.room[other] === room && other < row)) low = middle + 1
      else high = middle
    }
    return low
  }
}
