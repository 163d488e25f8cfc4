import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Histogram } from "../../src/structures/Histogram.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { holds } from "../support/arbitraries.ts"

const of = (values: ReadonlyArray<number>): Histogram => {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  return histogram
}

/** Exact quantile by nearest rank. */
const exact = (values: ReadonlyArray<number>, q: number): number =>
  values.toSorted((a, b) => a - b)[Math.max(1, Math.ceil(q * values.length)) - 1]!

const resolved = fc.oneof(fc.double({ min: 0.001, max: 4e9, noNaN: true }), fc.integer({ min: 1, max: 5000 }))
const share = fc.double({ min: 0, max: 1, noNaN: true })
const qs = [0, 0.01, 0.5, 0.9, 0.99, 0.999, 1]

test("quantiles are within 1 % of the exact ones by nearest rank; count, min, max are exact", () => {
  holds(
    fc.property(fc.array(resolved, { minLength: 1, maxLength: 60 }), share, (values, q) => {
      const histogram = of(values)
      const truth = exact(values, q)
      expect(Math.abs(histogram.quantile(q) - truth)).toBeLessThanOrEqual(0.01 * truth)
      expect([histogram.count, histogram.min, histogram.max]).toEqual([
        values.length,
        Math.min(...values),
        Math.max(...values)
      ])
    })
  )
})

test.each([
  ["exponential", (u: number) => -1000 * Math.log(1 - u)],
  ["heavy-tailed", (u: number) => 10 * (1 - u) ** -1.5],
  ["one value", () => 250]
])("quantiles of 100 000 %s values", (_, sample) => {
  const rng = makeRng(1)
  const values = Array.from({ length: 100_000 }, () => sample(rng.next()))
  const histogram = of(values)
  for (const q of qs) expect(Math.abs(histogram.quantile(q) / exact(values, q) - 1)).toBeLessThanOrEqual(0.01)
})

test("quantiles grow with their share and stay between min and max", () => {
  holds(
    fc.property(
      fc.array(fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }), { minLength: 1 }),
      (values) => {
        const histogram = of(values)
        const points = [histogram.min, ...qs.map((q) => histogram.quantile(q)), histogram.max]
        expect(points).toEqual(points.toSorted((a, b) => a - b))
      }
    )
  )
})

test("adding a histogram is recording its values", () => {
  const values = fc.array(fc.integer({ min: 0, max: 10_000 }))
  holds(
    fc.property(values, values, (left, right) => {
      const sum = of(left)
      sum.add(of(right))
      expect(sum).toEqual(of([...left, ...right]))
    })
  )
})

test("clearing leaves nothing", () => {
  const histogram = of([1, 2, 3])
  histogram.clear()
  expect(histogram).toEqual(new Histogram())
})

test("counts the values up to a bound, the bound's own bucket included", () => {
  holds(
    fc.property(fc.array(resolved), resolved, (values, bound) => {
      const atMost = (limit: number): number => values.filter((value) => value <= limit).length
      const count = of(values).countAtMost(bound)
      expect(count).toBeGreaterThanOrEqual(atMost(bound))
      expect(count).toBeLessThanOrEqual(atMost(bound * 1.017))
    })
  )
  expect(of([0, 5, 1e12]).countAtMost(Number.POSITIVE_INFINITY)).toBe(3)
})

describe("at the ends", () => {
  test("an empty histogram has no quantile", () => {
    const { count, sum, mean, min, max } = new Histogram()
    expect([count, sum, mean, min, max, new Histogram().quantile(0.5)]).toEqual([0, 0, NaN, NaN, NaN, NaN])
  })

  test("values too small to resolve are off by less than 0.001, values too large count as 4·10⁹", () => {
    expect(of([0, 0, 0.5]).quantile(0.5)).toBeLessThan(0.001)
    expect(of([1, 1e12, 1e13]).quantile(0.5) / 2 ** 32).toBeCloseTo(1, 1)
    expect(of([1e12, 1e12, 1e13]).quantile(1)).toBe(1e13)
  })

  test.each([-1, Number.NaN])("%d is refused", (value) => {
    expect(() => new Histogram().record(value)).toThrow("not negative")
  })
})
