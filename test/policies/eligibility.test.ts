import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { firstAbove, isEligible } from "../../src/policies/eligibility.ts"
import { candidates, holds } from "../support/arbitraries.ts"
import { poolOf } from "../support/pools.ts"

test("a worker is found among the eligible ones exactly when it is one", () => {
  holds(
    fc.property(candidates(), (rows) => {
      const pool = poolOf(rows)
      for (const [worker, row] of rows.entries()) expect(isEligible(pool, worker)).toBe(row.eligible)
    })
  )
})

test("the first key above another is the least of those above it", () => {
  const ends = fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff)
  holds(
    fc.property(candidates(), ends, ends, (rows, high, low) => {
      const pool = poolOf(
        rows.map((row) => ({ ...row, keyHigh: row.keyHigh % 2 === 0 ? high : row.keyHigh }))
      )
      const { keyHigh, keyLow } = pool.workers
      const eligible = [...pool.eligible.subarray(0, pool.eligibleCount)]
      const isAbove = (worker: number): boolean =>
        keyHigh[worker]! > high || (keyHigh[worker] === high && keyLow[worker]! > low)
      const expected = eligible.findIndex(isAbove)
      expect(firstAbove(pool, high, low)).toBe(expected < 0 ? eligible.length : expected)
    })
  )
})
