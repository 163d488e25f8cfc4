import { mix } from "./hash.ts"
import { PairIndex } from "./PairIndex.ts"

/** Numbers begin anew after this one, which an index still holds. */
const NUMBER_MAX = 2 ** 31 - 2

/**
 * Numbers for 64-bit keys, in the order in which they come up: 0, 1, 2 … A number says nothing of its key but which keys are equal.
 *
 * Of all keys, those of the last `keysMax` different ones keep their numbers, and up to as many before them; one that comes back after
 * more gets a new number. The salt keeps whoever chooses keys from choosing their places. Memory is 48 bytes for each of `keysMax`, a
 * power of two of at least 8, from the start: growing would hold up who asks. A look-up allocates nothing, but once in `keysMax` new keys.
 */
export class Numbering {
  private readonly keysMax: number
  private readonly saltHigh: number
  private readonly saltLow: number
  private recent: PairIndex
  /** Those that were recent before; whoever is asked for again is recent again. */
  private former: PairIndex
  private next = 0

  constructor(keysMax: number, saltHigh: number, saltLow: number) {
    this.keysMax = keysMax
    this.saltHigh = saltHigh
    this.saltLow = saltLow
    this.recent = new PairIndex(keysMax)
    this.former = new PairIndex(keysMax)
  }

  /** The number of a key. */
  of(high: number, low: number): number {
    const first = mix(this.saltHigh, high, low)
    const second = mix(this.saltLow, low, high)
    const known = this.recent.get(first, second)
    if (known >= 0) return known
    const number = this.before(first, second)
    if (this.recent.size === this.keysMax) {
      const { former } = this
      this.former = this.recent
      former.clear()
      this.recent = former
    }
    this.recent.set(first, second, number)
    return number
  }

  private before(first: number, second: number): number {
    const known = this.former.get(first, second)
    if (known >= 0) return known
    const number = this.next
    this.next = number === NUMBER_MAX ? 0 : number + 1
    return number
  }
}
