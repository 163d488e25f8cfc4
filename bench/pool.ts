import type { WorkerTable } from "../src/actors/WorkerTable.ts"
import type { RequestView } from "../src/domain/RequestView.ts"
import { hash64, mix } from "../src/structures/hash.ts"
import type { PrefixChain } from "../src/structures/PrefixChain.ts"
import type { PrefixIndex } from "../src/structures/PrefixIndex.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { oneRequest } from "../test/support/pools.ts"

/*
 * The pool that decisions are measured on: families of prompts that begin alike, and workers some of which hold a part of each.
 */

export const BLOCK_TOKENS = 256
export const REQUESTS = 1024
const FAMILIES = 64
const HOLDERS = 8

/** The chain of each family. */
export const familyChains = (blocks: number): ReadonlyArray<PrefixChain> =>
  Array.from({ length: FAMILIES }, (_, family) => {
    const numbers = Array.from({ length: blocks }, (_, block) => family * 1000 + block)
    return {
      count: blocks,
      high: Uint32Array.from(numbers, (number) => mix(1, 0, number)),
      low: Uint32Array.from(numbers, (number) => mix(2, 0, number))
    }
  })

/** Requests of all families, with prompts of so many blocks and tokens; three of four belong to a session. */
export const benchRequests = (
  chains: ReadonlyArray<PrefixChain>,
  blocks: number,
  promptTokens: number
): ReadonlyArray<RequestView> =>
  Array.from({ length: REQUESTS }, (_, slot) => {
    const { high, low } = hash64(`request ${slot}`)
    const session = slot % 4 === 0 ? {} : { sessionHigh: low, sessionLow: high }
    return {
      ...oneRequest,
      slot,
      idHigh: high,
      idLow: low,
      promptTokens,
      uncachedTokens: promptTokens,
      tenant: slot % 16,
      chain: { ...chains[slot % FAMILIES]!, count: blocks },
      ...session
    }
  })

/** Fills a table with workers, says so of each, and lets some of them hold a part of each chain. */
export const joinWorkers = (
  workers: WorkerTable,
  count: number,
  prefixes: PrefixIndex,
  chains: ReadonlyArray<PrefixChain>,
  joined: (worker: number) => void
): void => {
  for (let worker = 0; worker < count; worker++) {
    workers.join(worker, { name: `worker-${worker}`, capacity: 1024, kvCapacityTokens: 467_000 }, -1e9)
    joined(worker)
  }
  const rng = makeRng(3)
  for (const chain of chains)
    for (let holder = 0; holder < Math.min(HOLDERS, count); holder++)
      prefixes.stored(rng.int(count), 0, 0, chain, 0, 1 + rng.int(chain.count))
}
