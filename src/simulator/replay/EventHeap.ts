import { grow } from "../../structures/grow.ts"

/** Children of one event in the heap. */
const ARITY = 4

/**
 * Events in order of time, and of events at the same time in the order they were added. An event is a kind and two integers; what they
 * mean is the caller's. A heap of times and of the places where the rest of their events stands, in columns that grow by doubling; no
 * allocation.
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
  private places = Int32Array.from({ length: 1024 }, (_, place) => place)
  /** By place; those of the heap are in `places` below `size`, free ones from there on. */
  private orders = new Float64Array(1024)
  private kinds = new Uint8Array(1024)
  private as = new Int32Array(1024)
  private bs = new Int32Array(1024)

  get nextMs(): number {
    return this.size === 0 ? Number.POSITIVE_INFINITY : this.times[0]!
  }

  add(timeMs: number, kind: number, a = 0, b = 0): void {
    if (this.size === this.times.length) this.grow()
    const { times, places } = this
    let at = this.size++
    const place = places[at]!
    this.orders[place] = this.added++
    this.kinds[place] = kind
    this.as[place] = a
    this.bs[place] = b
    // It was added last: of equal times the others come first.
    while (at > 0) {
      const parent = Math.floor((at - 1) / ARITY)
      if (times[parent]! <= timeMs) break
      times[at] = times[parent]!
      places[at] = places[parent]!
      at = parent
    }
    times[at] = timeMs
    places[at] = place
  }

  /** Takes the first event out; its parts are in the fields from then on. False when there is none. */
  take(): boolean {
    if (this.size === 0) return false
    const { places, times } = this
    const place = places[0]!
    this.timeMs = times[0]!
    this.kind = this.kinds[place]!
    this.a = this.as[place]!
    this.b = this.bs[place]!
    const last = --this.size
    this.sink(times[last]!, places[last]!)
    places[last] = place
    return true
  }

  /** Puts an event where it belongs, from the root on, whose place is free. */
  private sink(timeMs: number, place: number): void {
    const { orders, places, size, times } = this
    const order = orders[place]!
    let at = 0
    while (true) {
      const first = ARITY * at + 1
      if (first >= size) break
      const end = Math.min(first + ARITY, size)
      let child = first
      let childMs = times[first]!
      for (let other = first + 1; other < end; other++) {
        const otherMs = times[other]!
        if (otherMs < childMs || (otherMs === childMs && orders[places[other]!]! < orders[places[child]!]!)) {
          child = other
          childMs = otherMs
        }
      }
      if (timeMs < childMs || (timeMs === childMs && order < orders[places[child]!]!)) break
      times[at] = childMs
      places[at] = places[child]!
      at = child
    }
    times[at] = timeMs
    places[at] = place
  }

  private grow(): void {
    const { length } = this.times
    const last = 2 * length - 1
    const floats = (size: number) => new Float64Array(size)
    const integers = (size: number) => new Int32Array(size)
    this.times = grow(this.times, last, floats)
    this.places = grow(this.places, last, integers)
    for (let place = length; place < this.places.length; place++) this.places[place] = place
    this.orders = grow(this.orders, last, floats)
    this.kinds = grow(this.kinds, last, (size) => new Uint8Array(size))
    this.as = grow(this.as, last, integers)
    this.bs = grow(this.bs, last, integers)
  }
}
