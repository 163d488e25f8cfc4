import type { CacheSink } from "../Engine.ts"
import { chainRests, modelOf, writeHash } from "./chainKeys.ts"
import type { KvCacheSink } from "./KvCache.ts"

/**
 * Tells of a `KvCache` in hashes. Its keys are shorter than these: what is missing is kept here for every cached block.
 *
 * Where chains contradict each other a key may be cached twice, and is forgotten with the first of the two; of the other one a hash
 * that nobody asks for is told then.
 */
export class CachedHashes implements KvCacheSink {
  sink: CacheSink | undefined
  private readonly rests = new Map<number, number>()

  readonly stored = (chain: Float64Array, from: number, to: number): void => {
    const rests = chainRests(chain)
    for (let i = from; i < to; i++) this.rests.set(chain[i]!, rests[i]!)
    this.tellRun(chain[from - 1], chain, from, to)
  }

  readonly removed = (keys: Float64Array, from: number, to: number): void => {
    const hashes = new DataView(new ArrayBuffer(8 * (to - from)))
    const model = this.modelOf(keys[from]!)
    for (let i = to - 1, at = 0; i >= from; i--, at += 8) {
      this.write(hashes, at, keys[i]!)
      this.rests.delete(keys[i]!)
    }
    this.sink?.removed(model, new Uint8Array(hashes.buffer))
  }

  /** Tells that the blocks `keys[from .. to)` are cached, behind the block `parent`, if there is one. */
  readonly tellRun = (parent: number | undefined, keys: Float64Array, from: number, to: number): void => {
    if (this.sink === undefined) return
    const chain = new DataView(new ArrayBuffer(8 * (1 + to - from)))
    if (parent !== undefined) this.write(chain, 0, parent)
    for (let i = from, at = 8; i < to; i++, at += 8) this.write(chain, at, keys[i]!)
    this.sink.stored(this.modelOf(keys[from]!), new Uint8Array(chain.buffer))
  }

  private modelOf(key: number): number {
    return modelOf(this.rests.get(key) ?? 0)
  }

  private write(into: DataView, at: number, key: number): void {
    writeHash(into, at, key, this.rests.get(key) ?? 0)
  }
}
