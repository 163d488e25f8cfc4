import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { blockStart, firstAbove, prefixSum, sumOf, TOTAL_MAX } from "../../src/structures/PrefixSum.ts"
import { holds } from "../support/arbitraries.ts"

describe("prefixSum", () => {
  test.each([
    ["a fraction", [1, 0.5]],
    ["a number below 0", [3, -1]],
    ["no number", [Number.NaN]],
    ["more than 2⁵²", [TOTAL_MAX, 1]],
    ["infinity", [Number.POSITIVE_INFINITY]]
  ])("refuses %s", (_, values) => {
    expect(() => prefixSum(Float64Array.from(values), new Float64Array(2), 0, values.length)).toThrow(
      "broken assertion"
    )
  })

  test("takes 2⁵², continues from what came before, and leaves the rest alone", () => {
    expect(prefixSum(Float64Array.of(TOTAL_MAX), new Float64Array(1), 0, 1)).toBe(TOTAL_MAX)
    expect(prefixSum(new Float64Array(0), new Float64Array(0), 0, 0, 7)).toBe(7)
    const sums = Float64Array.of(-1, -1, -1, -1)
    expect(prefixSum(Float64Array.of(1, 2, 3, 4), sums, 1, 3, 10)).toBe(15)
    expect([...sums]).toEqual([-1, 12, 15, -1])
  })
})

test("firstAbove is the first that is above", () => {
  holds(
    fc.property(fc.array(fc.nat(20)), fc.integer({ min: -1, max: 21 }), (values, value) => {
      const sums = Float64Array.from(values.toSorted((a, b) => a - b))
      const first = sums.findIndex((one) => one > value)
      expect(firstAbove(sums, sums.length, value)).toBe(first < 0 ? sums.length : first)
    })
  )
})

test("blocks cover all values once, in lengths that differ by one at most", () => {
  holds(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(100), (blockCount, count) => {
      const starts = Array.from({ length: blockCount + 1 }, (_, block) =>
        blockStart(block, blockCount, count)
      )
      expect([starts[0], starts.at(-1)]).toEqual([0, count])
      const lengths = starts.slice(1).map((end, block) => end - starts[block]!)
      expect(Math.max(...lengths) - Math.min(...lengths)).toBeLessThanOrEqual(1)
      const ones = new Float64Array(count).fill(1)
      expect(lengths).toEqual(lengths.map((_, block) => sumOf(ones, starts[block]!, starts[block + 1]!)))
    })
  )
})
