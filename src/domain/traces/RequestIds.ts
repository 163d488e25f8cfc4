/** The ids of requests by their numbers, of which there may be millions: nothing is held until there is one. */
export class RequestIds {
  private ids: BigUint64Array | undefined

  /** 0 says that there is none. */
  set(number: number, id: bigint): void {
    if (id === 0n) return
    this.ids ??= new BigUint64Array(CAPACITY)
    if (number >= this.ids.length) {
      const more = new BigUint64Array(Math.max(2 * this.ids.length, number + 1))
      more.set(this.ids)
      this.ids = more
    }
    this.ids[number] = id
  }

  /** Those of the first `count` requests; undefined when none has one. */
  upTo(count: number): BigUint64Array | undefined {
    if (this.ids === undefined) return undefined
    const ids = new BigUint64Array(count)
    ids.set(this.ids.subarray(0, count))
    return ids
  }
}

const CAPACITY = 1024
