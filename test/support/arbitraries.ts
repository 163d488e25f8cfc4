import * as fc from "fast-check"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Candidate } from "./pools.ts"

/** Checks a property in 1000 cases: enough that a defect that shows in 2 % of them escapes once in 10⁹ runs. */
export const holds = <Inputs>(property: fc.IProperty<Inputs>): void => fc.assert(property, { numRuns: 1000 })

const u32 = fc.integer({ min: 0, max: 0xffffffff })
const tokens = fc.integer({ min: 0, max: 200_000 })

/** Small counts, so that ties are common. Speeds are powers of two, so that scaling them is exact. */
const row: fc.Arbitrary<Candidate> = fc.record({
  keyHigh: u32,
  keyLow: u32,
  inFlight: fc.integer({ min: 0, max: 5 }),
  capacity: fc.integer({ min: 6, max: 64 }),
  speed: fc.constantFrom(1, 1, 1, 0.5, 2),
  pendingPromptTokens: tokens,
  running: fc.nat(64),
  waiting: fc.nat(64),
  kvUsedTokens: tokens,
  kvCapacityTokens: fc.constantFrom(0, 262_144),
  observedAtMs: fc.nat(100_000),
  eligible: fc.boolean()
})

/** Rows of different keys. */
export const candidates = (options: { readonly minLength?: number; readonly maxLength?: number } = {}) =>
  fc.uniqueArray(row, {
    maxLength: 12,
    ...options,
    selector: ({ keyHigh, keyLow }) => keyHigh * 2 ** 32 + keyLow
  })

/** A live request that arrived within the first 100 s, with or without a session. */
export const request: fc.Arbitrary<RequestView> = fc
  .record({
    slot: fc.nat(500),
    model: fc.constant(0),
    tenant: fc.nat(3),
    class: fc.nat(2),
    promptTokens: tokens,
    maxTokens: fc.integer({ min: 1, max: 4096 }),
    session: fc.option(fc.tuple(u32, u32), { nil: [0, 0] }),
    idHigh: u32,
    idLow: u32,
    arrivedMs: fc.nat(100_000),
    attempt: fc.integer({ min: 1, max: 3 })
  })
  .map(({ session: [sessionHigh = 0, sessionLow = 0], ...rest }) => ({
    ...rest,
    sessionHigh,
    sessionLow,
    deadlineMs: rest.arrivedMs + 60_000
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
