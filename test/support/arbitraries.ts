import * as fc from "fast-check"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { lawRecord } from "./lawRecord.ts"
import { BLOCK_TOKENS, type Candidate, chainOf } from "./pools.ts"

/** Enough that a defect that shows in 2 % of the cases escapes once in 10⁹ runs. */
const CASES = 1000

/** Checks a property in 1000 cases. */
export const holds = <Inputs>(property: fc.IProperty<Inputs>): void => fc.assert(property, { numRuns: CASES })

/**
 * Checks one thing after the other in the same cases: drawing them costs more than most checks, and so it is done once. The next run of
 * the tests draws others. A check changes nothing in a case, and makes no assumption (`fc.pre`) about it.
 */
export const shared = <Case>(
  cases: fc.Arbitrary<Case>,
  numRuns = CASES
): ((check: (one: Case) => void) => void) => {
  const drawn: Array<Case> = []
  let seed = 0
  return (check) => {
    if (drawn.length === 0)
      seed = fc.check(
        fc.property(cases, (one) => void drawn.push(one)),
        { numRuns }
      ).seed
    try {
      for (const one of drawn) check(one)
    } catch (error) {
      // The same cases once more, for the smallest example and how to replay it.
      fc.assert(fc.property(cases, check), { numRuns, seed })
      throw error
    }
    lawRecord.tell({ properties: 1, runs: drawn.length })
  }
}

const u32 = fc.integer({ min: 0, max: 0xffffffff })
const tokens = fc.integer({ min: 0, max: 200_000 })

/** A value from each list, all of them chosen by one number: far cheaper to generate than a number for each. */
const choices = <Name extends string>(
  lists: Readonly<Record<Name, ReadonlyArray<number>>>
): fc.Arbitrary<Record<Name, number>> => {
  const entries = Object.entries<ReadonlyArray<number>>(lists)
  const count = entries.reduce((product, [, list]) => product * list.length, 1)
  return fc.noBias(fc.integer({ min: 0, max: count - 1 })).map((number) => {
    const chosen: Record<string, number> = {}
    let left = number
    for (const [name, list] of entries) {
      chosen[name] = list[left % list.length]!
      left = Math.floor(left / list.length)
    }
    return chosen
  })
}

const range = (from: number, to: number, step = 1): ReadonlyArray<number> =>
  Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step)

/** Small counts, so that ties are common. Speeds and costs are powers of two, so that scaling them is exact. */
const row: fc.Arbitrary<Candidate> = fc
  .tuple(
    choices({
      inFlight: range(0, 5),
      prefilling: range(0, 2),
      isEligible: [0, 1],
      speed: [1, 1, 1, 0.5, 2],
      pendingPrefillAttention: [0, 2 ** 30, 2 ** 32],
      kvCapacityTokens: [0, 262_144],
      baseMs: [8, 16],
      prefillTokenMs: [0.03125, 0.125],
      prefillAttentionMs: [0, 2 ** -20],
      decodeSequenceMs: [0, 0.03125],
      decodeContextMs: [0, 2 ** -14],
      capacity: range(6, 64),
      maxSequences: [3, 65_536],
      prefillSinceMs: [0, -50, -20_000],
      prefillForMs: [0, 100, 20_000],
      answerTokens: [0, 8192],
      running: range(0, 64),
      waiting: range(0, 64),
      observedAtMs: range(0, 100_000, 100)
    }),
    fc.record({
      keyHigh: u32,
      keyLow: u32,
      pendingPrefillTokens: tokens,
      contextTokens: tokens,
      kvUsedTokens: tokens,
      cachedTokens: tokens
    })
  )
  .map(([{ isEligible, prefillForMs, ...chosen }, numbers]) => ({
    ...chosen,
    ...numbers,
    prefillDueMs: chosen.prefillSinceMs + prefillForMs,
    prefilling: Math.min(chosen.prefilling, chosen.inFlight),
    eligible: isEligible === 1
  }))

/** Rows of different keys. */
export const candidates = (options: { readonly minLength?: number; readonly maxLength?: number } = {}) =>
  fc.uniqueArray(row, {
    maxLength: 12,
    ...options,
    selector: ({ keyHigh, keyLow }) => keyHigh * 2 ** 32 + keyLow
  })

/** Chains of one prompt, by their number of blocks. */
const chains = range(0, 64).map((count) => chainOf(range(1, count)))

/** A live request that arrived within the first 100 s, with or without a session. */
export const request: fc.Arbitrary<RequestView> = fc
  .tuple(
    choices({
      tenant: range(0, 3),
      class: range(0, 2),
      weight: [1, 1, 2, 0.5],
      attempt: range(1, 3),
      blocks: range(0, 64),
      slot: range(0, 500),
      arrivedMs: range(0, 100_000)
    }),
    fc.record({
      promptTokens: tokens,
      maxTokens: fc.integer({ min: 1, max: 4096 }),
      idHigh: u32,
      idLow: u32
    }),
    fc.option(fc.tuple(u32, u32), { nil: [0, 0] })
  )
  .map(([{ blocks, ...chosen }, numbers, [sessionHigh = 0, sessionLow = 0]]) => ({
    ...chosen,
    ...numbers,
    model: 0,
    uncachedTokens: numbers.promptTokens,
    chain: chains[Math.min(blocks, Math.floor(numbers.promptTokens / BLOCK_TOKENS))]!,
    outputTokens: 0,
    sessionHigh,
    sessionLow,
    deadlineMs: chosen.arrivedMs + 60_000
  }))

/** What happens to the requests of a pool, one after the other, with everything a policy may read. */
export interface Scenario {
  readonly seed: number
  readonly workers: ReadonlyArray<Candidate>
  readonly requests: ReadonlyArray<RequestView>
}

export const scenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  workers: candidates(),
  requests: fc.array(request, { minLength: 1, maxLength: 12 })
})
