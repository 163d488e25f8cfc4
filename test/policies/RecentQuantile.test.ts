import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { RecentQuantile } from "../../src/policies/RecentQuantile.ts"

test("is the quantile of the last one to two thousand values, as it was at the last hundredth", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 3500, size: "max" }),
      fc.constantFrom(0.5, 0.95),
      (values, q) => {
        const recent = new RecentQuantile(q)
        for (const value of values) recent.record(value)
        const seen = values.length - (values.length % 100)
        if (seen === 0) return expect(recent.value).toBe(Number.POSITIVE_INFINITY)
        // The one asked was begun with the last thousand but one.
        const from = Math.max(0, Math.ceil(seen / 1000) - 2) * 1000
        const window = values.slice(from, seen).toSorted((one, other) => one - other)
        const exact = window[Math.ceil(q * window.length) - 1]!
        expect(Math.abs(recent.value - exact) / exact).toBeLessThan(0.01)
      }
    ),
    // Thousands of values shrink for minutes.
    { numRuns: 200, endOnFailure: true }
  )
})
