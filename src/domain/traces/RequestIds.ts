import { grow } from "../../structures/grow.ts"

/** The ids of requests by their numbers, of which there may be millions: nothing is held until there is one. */
export class RequestIds {
  private ids = new BigUint64Array(0)

  /** 0 says that there is none. */
  set(number: number, id: bigint): void {
    if (id === 0n) return
    if (number >= this.ids.length) this.ids = grow(this.ids, number, (length) => new BigUint64Array(length))
    this.ids[number] = id
  }

  /** Those of the first `count` requests; undefined when none has one. */
  upTo(count: number): BigUint64Array | undefined {
    if (this.ids.length === 0) return undefined
    const ids = new BigUint64Array(count)
    ids.set(this.ids.subarray(0, count))
    return ids
  }
}
