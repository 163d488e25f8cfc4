import { grow } from "../../structures/grow.ts"

/**
 * Events in order of time, and of events at the same time in the order they were added. An event is a kind and two integers; what they
 * mean is the caller's. A binary heap in columns that grow by doubling: about 40 ns to add and take, no allocation.
 */
export class EventHeap {
  size = 0
  /** Of the event that `take` gave last. */
  timeMs = 0
  kind = 0
  a = 0
  b = 0
  private added = 0
  private times = new Float64Array(1024)
  private orders = new Float64Array(1024)
  private kinds = new Uint8Array(1024)
  private as = new Int32Array(1024)
  private bs = new Int32Array(1024)

  get nextMs(): number {
    return this.size === 0 ? Number.POSITIVE_INFINITY : this.times[0]!
  }

  add(timeMs: number, kind: number, a = 0, b = 0): void {
    if (this.size === this.times.length) this.grow()
    let at = this.size++
    const order = this.added++
    const { times, orders } = this
    while (at > 0) {
      const parent = (at - 1) >>> 1
      if (times[parent]! < timeMs || (times[parent] === timeMs && orders[parent]! < order)) break
      this.move(parent, at)
      at = parent
    }
    this.put(at, timeMs, order, kind, a, b)
  }

  /** Takes the first event out; its parts are in the fields from then on. False when there is none. */
  take(): boolean {
    if (this.size === 0) return false
    this.timeMs = this.times[0]!
    this.kind = this.kinds[0]!
    this.a = this.as[0]!
    this.b = this.bs[0]!
    const last = --this.size
    if (last > 0) this.sink(last)
    return true
  }

  /** Puts the event at `last` where it belongs, from the root on. */
  private sink(last: number): void {
    const { times, orders } = this
    const timeMs = times[last]!
    const order = orders[last]!
    let at = 0
    while (true) {
      let child = 2 * at + 1
      if (child >= last) break
      const other = child + 1
      if (
        other < last &&
        (times[other]! < times[child]! || (times[other] === times[child] && orders[other]! < orders[child]!))
      )
        child = other
      if (timeMs < times[child]! || (timeMs === times[child] && order < orders[child]!)) break
      this.move(child, at)
      at = child
    }
    this.move(last, at)
  }

  private move(from: number, to: number): void {
    this.put(to, this.times[from]!, this.orders[from]!, this.kinds[from]!, this.as[from]!, this.bs[from]!)
  }

  private put(at: number, timeMs: number, order: number, kind: number, a: number, b: number): void {
    this.times[at] = timeMs
    this.orders[at] = order
    this.kinds[at] = kind
    this.as[at] = a
    this.bs[at] = b
  }

  private grow(): void {
    const last = 2 * this.times.length - 1
    const floats = (length: number) => new Float64Array(length)
    const integers = (length: number) => new Int32Array(length)
    this.times = grow(this.times, last, floats)
    this.orders = grow(this.orders, last, floats)
    this.kinds = grow(this.kinds, last, (length) => new Uint8Array(length))
    this.as = grow(this.as, last, integers)
    this.bs = grow(this.bs, last, integers)
  }
}
