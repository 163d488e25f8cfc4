/** Smallest table; a power of two, as every size. */
const SIZE_MIN = 16

/**
 * A map from stream ids (1 … 2³²−1) to small numbers (≥ 0): open addressing on two typed arrays, at most half full.
 * `get`, `set` and `delete` cost 2–5 ns and allocate nothing, but for the doubling. An empty index holds no table.
 */
export class StreamIndex {
  size = 0
  /** 0 marks an empty place. */
  private keys: Uint32Array<ArrayBuffer> = empty
  private values: Int32Array<ArrayBuffer> = emptyValues
  private mask = -1
  /** From 32 bits of hash to a place. */
  private shift = 0

  /** Places of the table: at least twice `size`. */
  get tableSize(): number {
    return this.keys.length
  }

  /** The value of `key`, or -1. */
  get(key: number): number {
    if (this.size === 0) return -1
    let at = this.home(key)
    while (this.keys[at] !== 0) {
      if (this.keys[at] === key) return this.values[at]!
      at = (at + 1) & this.mask
    }
    return -1
  }

  /** Adds or replaces. */
  set(key: number, value: number): void {
    if ((this.size + 1) * 2 > this.keys.length) this.resize(Math.max(SIZE_MIN, this.keys.length * 2))
    let at = this.home(key)
    while (this.keys[at] !== 0 && this.keys[at] !== key) at = (at + 1) & this.mask
    if (this.keys[at] === 0) this.size++
    this.keys[at] = key
    this.values[at] = value
  }

  /** Removes `key`, if it is there. */
  delete(key: number): void {
    if (this.size === 0) return
    let at = this.home(key)
    while (this.keys[at] !== key) {
      if (this.keys[at] === 0) return
      at = (at + 1) & this.mask
    }
    this.size--
    // Moves later members of the run back, so that no search ends at the hole.
    let hole = at
    for (let next = (at + 1) & this.mask; this.keys[next] !== 0; next = (next + 1) & this.mask) {
      const home = this.home(this.keys[next]!)
      if (((next - home) & this.mask) < ((next - hole) & this.mask)) continue
      this.keys[hole] = this.keys[next]!
      this.values[hole] = this.values[next]!
      hole = next
    }
    this.keys[hole] = 0
  }

  /** Calls `visit` with every value, in no particular order. `visit` must not change the index. */
  forEach(visit: (value: number) => void): void {
    for (let at = 0; at < this.keys.length; at++) if (this.keys[at] !== 0) visit(this.values[at]!)
  }

  /** Where a search for `key` begins. */
  private home(key: number): number {
    return Math.imul(key, GOLDEN) >>> this.shift
  }

  private resize(size: number): void {
    const { keys, values } = this
    this.keys = new Uint32Array(size)
    this.values = new Int32Array(size)
    this.mask = size - 1
    this.shift = Math.clz32(this.mask)
    this.size = 0
    for (let at = 0; at < keys.length; at++) if (keys[at] !== 0) this.set(keys[at]!, values[at]!)
  }
}

const empty = new Uint32Array(0)
const emptyValues = new Int32Array(0)

/** 2³² over the golden ratio: the upper bits of its multiples lie evenly spread, so consecutive ids hardly ever meet. */
const GOLDEN = 0x9e3779b1
