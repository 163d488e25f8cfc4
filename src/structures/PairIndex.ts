/** Smallest table; a power of two, as every size. */
const SIZE_MIN = 16
/** Numbers of one place: the two halves of a key, and its value plus one, which is 0 where the place is empty. */
const STRIDE = 3

/** Most bytes of a table of so many keys, a power of two of at least 8. */
export const pairIndexBytes = (keys: number): number => keys * 2 * STRIDE * Int32Array.BYTES_PER_ELEMENT

/**
 * A map from pairs of 32-bit numbers, signed or not, to numbers (0 … 2³¹−2): open addressing on one typed array, at most half full.
 * `get`, `set` and `delete` cost some nanoseconds and allocate nothing, but for the doubling. Whoever chooses the keys can make them
 * meet in one place, so that each of these costs O(size): mix a secret into keys that come from outside.
 */
export class PairIndex {
  size = 0
  private readonly sizeMin: number
  private places = new Int32Array(0)
  private mask = 0
  /** From 32 bits of hash to a place. */
  private shift = 0

  /** With room for so many keys, a power of two of at least 8, before it has to double; also after it was cleared. */
  constructor(keys: number = SIZE_MIN / 2) {
    this.sizeMin = 2 * keys
    this.resize(this.sizeMin)
  }

  get bytes(): number {
    return this.places.byteLength
  }

  /** The value of a key, or -1. */
  get(first: number, second: number): number {
    return this.places[this.find(first | 0, second | 0) + 2]! - 1
  }

  /** Adds or replaces. */
  set(first: number, second: number, value: number): void {
    let at = this.find(first | 0, second | 0)
    if (this.places[at + 2] === 0 && ++this.size * 2 > this.mask + 1) {
      this.double()
      at = this.find(first | 0, second | 0)
    }
    this.put(at, first, second, value + 1)
  }

  /** Removes a key, if it is there. */
  delete(first: number, second: number): void {
    const { places } = this
    let hole = this.find(first | 0, second | 0)
    if (places[hole + 2] === 0) return
    this.size--
    // Moves later members of the run back, so that no search ends at the hole.
    for (let next = this.after(hole); places[next + 2] !== 0; next = this.after(next)) {
      const home = this.home(places[next]!, places[next + 1]!)
      if (this.distance(home, next) < this.distance(hole, next)) continue
      this.put(hole, places[next]!, places[next + 1]!, places[next + 2]!)
      hole = next
    }
    places[hole + 2] = 0
  }

  clear(): void {
    this.size = 0
    this.resize(this.sizeMin)
  }

  /** The place of a key, or the empty one where it would stand. */
  private find(first: number, second: number): number {
    const { places } = this
    let at = this.home(first, second)
    while (places[at + 2] !== 0 && (places[at] !== first || places[at + 1] !== second)) at = this.after(at)
    return at
  }

  /** Where a search begins. */
  private home(first: number, second: number): number {
    return (Math.imul(first ^ Math.imul(second, 0x85ebca6b), 0x9e3779b1) >>> this.shift) * STRIDE
  }

  private after(at: number): number {
    return at === this.mask * STRIDE ? 0 : at + STRIDE
  }

  private distance(from: number, to: number): number {
    return to >= from ? to - from : to - from + this.places.length
  }

  private put(at: number, first: number, second: number, stored: number): void {
    this.places[at] = first
    this.places[at + 1] = second
    this.places[at + 2] = stored
  }

  private double(): void {
    const { places } = this
    this.resize((this.mask + 1) * 2)
    for (let at = 0; at < places.length; at += STRIDE)
      if (places[at + 2] !== 0)
        this.put(this.find(places[at]!, places[at + 1]!), places[at]!, places[at + 1]!, places[at + 2]!)
  }

  private resize(size: number): void {
    this.places = new Int32Array(size * STRIDE)
    this.mask = size - 1
    this.shift = Math.clz32(this.mask)
  }
}
