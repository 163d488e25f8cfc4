import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Candidates } from "../../src/policies/Candidates.ts"
import { isEligible } from "../../src/policies/eligibility.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { candidates, holds, request } from "../support/arbitraries.ts"
import { BLOCK_TOKENS, chainOf, equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

test("are eligible, each once; all of them, or as many as asked for and whoever holds most of the prefix", () => {
  const rows = candidates({ minLength: 1, maxLength: 60 })
  holds(
    fc.property(rows, fc.integer({ min: 2, max: 40 }), request, fc.integer(), (made, max, asked, seed) => {
      const pool = poolOf(made)
      const chosen = new Candidates(max, makeRng(seed))
      for (let draw = 0; draw < 3; draw++) {
        const { count, slots } = chosen.choose(asked, pool)
        const those = new Set(slots.subarray(0, count))
        expect(those.size).toBe(Math.min(max, pool.eligibleCount))
        for (const worker of those) expect(isEligible(pool, worker)).toBe(true)
        for (const worker of pool.eligible.subarray(0, pool.eligibleCount))
          expect(chosen.has(worker)).toBe(those.has(worker))
        const deepest = pool.match(asked).workers[0]
        if (deepest !== undefined && isEligible(pool, deepest)) expect(those.has(deepest)).toBe(true)
      }
    })
  )
})

test("of a large pool an eighth are there for what they hold, and all others have the same chance", () => {
  const max = 80
  const held = (worker: number): number => (worker < 40 ? (40 - worker) * BLOCK_TOKENS : 0)
  const pool = poolOf(equalWorkers(1000).map((row, worker) => ({ ...row, cachedTokens: held(worker) })))
  const chosen = new Candidates(max, makeRng(1))
  const asked = {
    ...oneRequest,
    promptTokens: 100 * BLOCK_TOKENS,
    chain: chainOf(Array.from({ length: 100 }, (_, i) => i + 1))
  }
  const times = new Float64Array(1000)
  const draws = 20_000
  for (let draw = 0; draw < draws; draw++) {
    const { count, slots } = chosen.choose(asked, pool)
    for (let i = 0; i < count; i++) times[slots[i]!]!++
  }
  expect([...times.subarray(0, 10)]).toEqual(Array.from({ length: 10 }, () => draws))
  const expected = (draws * (max - 10)) / 990
  const others = [...times.subarray(10)].toSorted((one, other) => one - other)
  expect(others[0]! / expected).toBeGreaterThan(0.85)
  expect(others.at(-1)! / expected).toBeLessThan(1.2)
})
