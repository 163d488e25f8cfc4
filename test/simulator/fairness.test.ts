import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { fairShares, jainIndex } from "../../src/simulator/report/fairness.ts"
import { sum } from "../../src/structures/mean.ts"
import { holds } from "../support/arbitraries.ts"

const services = fc.array(
  fc
    .record({
      asked: fc.nat(1000),
      part: fc.nat(100),
      weight: fc.constantFrom(0.001, 0.3, 1, 3, 1000)
    })
    .map(({ asked, part, weight }) => ({ asked, served: (asked * part) / 100, weight })),
  { minLength: 1, maxLength: 8 }
)

describe("fair shares", () => {
  test("fair-shares: add up to what was served, exceed nobody's wish, and none is less by weight than another but by its own wish", () => {
    holds(
      fc.property(services, (tenants) => {
        const shares = fairShares(tenants)
        const total = sum(tenants.map(({ served }) => served))
        expect(Math.abs(sum([...shares]) - total)).toBeLessThan(1e-6)
        const most = Math.max(...shares.map((share, i) => share / tenants[i]!.weight))
        for (const [i, { asked, weight }] of tenants.entries()) {
          expect(shares[i]!).toBeLessThanOrEqual(asked + 1e-9)
          if (shares[i]! < asked - 1e-6) expect(shares[i]! / weight).toBeGreaterThanOrEqual(most * (1 - 1e-9))
        }
      })
    )
  })

  test("jain-range: the index is 1 for whoever has its fair share, and from 1 / n to 1 for all", () => {
    holds(
      fc.property(services, (tenants) => {
        const shares = fairShares(tenants)
        const asking = tenants.filter(({ asked }) => asked > 0).length
        const fair = jainIndex(tenants.map((each, i) => ({ ...each, served: shares[i]! })))
        const index = jainIndex(tenants)
        if (asking < 2) return expect([fair, index]).toEqual([Number.NaN, Number.NaN])
        expect(fair).toBeCloseTo(1, 9)
        expect(index).toBeWithin(1 / asking - 1e-9, 1 + 1e-9)
      })
    )
  })
})
