import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { TenantShares } from "../../src/policies/estimators/TenantShares.ts"
import { holds } from "../support/arbitraries.ts"
import { oneRequest } from "../support/pools.ts"

const HALF_LIFE_MS = 30_000

const happening = fc.record({
  kind: fc.constantFrom("placed", "ended", "refused"),
  tenant: fc.nat(5),
  tokens: fc.nat(20_000),
  weight: fc.constantFrom(0.5, 1, 3),
  pauseMs: fc.oneof(fc.nat(500), fc.nat(60_000), fc.nat(100 * HALF_LIFE_MS))
})

/** The rule, written down plainly: everything is remembered, and looked at anew each time. */
class Plain {
  private readonly history: Array<{
    readonly tenant: number
    readonly amount: number
    readonly atMs: number
  }> = []
  private kept = 0
  private keptMs = 0

  serve(tenant: number, amount: number, atMs: number): void {
    this.history.push({ tenant, amount, atMs })
  }

  refuse(tenant: number, nowMs: number): void {
    const left = this.kept * 0.5 ** ((nowMs - this.keptMs) / HALF_LIFE_MS)
    this.kept = left + 0.5 * (0.3 - left) * (1 - this.shareOf(tenant))
    this.keptMs = nowMs
  }

  ceiling(tenant: number): number {
    return 1 - this.kept * this.shareOf(tenant)
  }

  private shareOf(tenant: number): number {
    const lastMs = this.history.at(-1)?.atMs ?? 0
    const served = new Map<number, number>()
    for (const { amount, atMs, tenant: whose } of this.history)
      served.set(whose, (served.get(whose) ?? 0) + amount * 0.5 ** ((lastMs - atMs) / HALF_LIFE_MS))
    const most = Math.max(0, ...served.values())
    return most === 0 ? 1 : (served.get(tenant) ?? 0) / most
  }
}

const live = (happenings: ReadonlyArray<typeof happening extends fc.Arbitrary<infer A> ? A : never>) => {
  const [shares, plain] = [new TenantShares(), new Plain()]
  let nowMs = 0
  for (const { kind, pauseMs, tenant, tokens, weight } of happenings) {
    nowMs += pauseMs
    const request = { ...oneRequest, tenant, weight, uncachedTokens: tokens, outputTokens: tokens }
    if (kind === "refused") {
      shares.refused(request, nowMs)
      plain.refuse(tenant, nowMs)
    } else {
      shares[kind](request, nowMs)
      plain.serve(tenant, ((kind === "ended" ? 2 : 1) * tokens) / weight, nowMs)
    }
  }
  return { shares, plain }
}

const ceilingOf = (shares: TenantShares, tenant: number): number => shares.ceiling({ ...oneRequest, tenant })

describe("the ceilings of tenants", () => {
  test("shares-rule: are those of the rule written down plainly, however long it takes", () => {
    holds(
      fc.property(fc.array(happening, { maxLength: 60 }), (happenings) => {
        const { plain, shares } = live(happenings)
        for (let tenant = 0; tenant <= 6; tenant++)
          expect(Math.abs(ceilingOf(shares, tenant) - plain.ceiling(tenant))).toBeLessThan(0.002)
      })
    )
  })

  test("shares-range: are from seven tenths to 1, and the lower the more a tenant was served", () => {
    holds(
      fc.property(fc.array(happening, { maxLength: 60 }), (happenings) => {
        const { shares } = live(happenings)
        const ceilings = Array.from({ length: 6 }, (_, tenant) => ceilingOf(shares, tenant))
        expect(Math.min(...ceilings)).toBeGreaterThanOrEqual(0.7)
        expect(Math.max(...ceilings)).toBeLessThanOrEqual(1)
        const [before, ...after] = ceilings
        shares.placed({ ...oneRequest, tenant: 0, uncachedTokens: 1e9 }, 1e9)
        expect(ceilingOf(shares, 0)).toBeLessThanOrEqual(before!)
        for (const [i, ceiling] of after.entries())
          expect(ceilingOf(shares, i + 1)).toBeGreaterThanOrEqual(ceiling)
      })
    )
  })

  test("shares-alone: of a tenant alone are 1, however often it is refused", () => {
    holds(
      fc.property(fc.array(happening, { maxLength: 60 }), (happenings) => {
        const { shares } = live(happenings.map((each) => ({ ...each, tenant: 3 })))
        expect(ceilingOf(shares, 3)).toBe(1)
      })
    )
  })
})
