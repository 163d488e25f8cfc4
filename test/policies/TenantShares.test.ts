import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { TenantShares } from "../../src/policies/estimators/TenantShares.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { oneRequest } from "../support/pools.ts"

const HALF_LIFE_MS = 60_000

const happening = fc.record({
  kind: fc.constantFrom<"placed" | "ended" | "refused">("placed", "ended", "refused"),
  tenant: fc.nat(5),
  tokens: fc.nat(20_000),
  weight: fc.constantFrom(0.5, 1, 3),
  pauseMs: fc.oneof(fc.nat(500), fc.nat(60_000), fc.nat(100 * HALF_LIFE_MS))
})

type Happening = typeof happening extends fc.Arbitrary<infer A> ? A : never

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
    const sinceMs = Math.max(0, this.lastMs - this.keptMs)
    return 1 - this.kept * 0.5 ** (sinceMs / HALF_LIFE_MS) * this.shareOf(tenant)
  }

  /** When something was served last. */
  private get lastMs(): number {
    return this.history.at(-1)?.atMs ?? 0
  }

  private shareOf(tenant: number): number {
    const { lastMs } = this
    const served = new Map<number, number>()
    for (const { amount, atMs, tenant: whose } of this.history)
      served.set(whose, (served.get(whose) ?? 0) + amount * 0.5 ** ((lastMs - atMs) / HALF_LIFE_MS))
    const most = Math.max(0, ...served.values())
    return most === 0 ? 1 : (served.get(tenant) ?? 0) / most
  }
}

type Subject = () => Pick<TenantShares, "ceiling" | "placed" | "ended" | "refused">

const live = (make: Subject, happenings: ReadonlyArray<Happening>) => {
  const [shares, plain] = [make(), new Plain()]
  let nowMs = 0
  for (const { kind, pauseMs, tenant, tokens, weight } of happenings) {
    nowMs += pauseMs
    const request = { ...oneRequest, tenant, weight, uncachedTokens: tokens, outputTokens: tokens }
    shares[kind](request, nowMs)
    if (kind === "refused") plain.refuse(tenant, nowMs)
    else plain.serve(tenant, ((kind === "ended" ? 2 : 1) * tokens) / weight, nowMs)
  }
  return { shares, plain, nowMs }
}

const ceilingOf = (shares: ReturnType<Subject>, tenant: number): number =>
  shares.ceiling({ ...oneRequest, tenant })

const lives = fc.array(happening, { maxLength: 60 })

const laws = [
  {
    id: "shares-rule",
    check: (make: Subject) =>
      holds(
        fc.property(lives, (happenings) => {
          const { plain, shares } = live(make, happenings)
          for (let tenant = 0; tenant <= 6; tenant++)
            expect(Math.abs(ceilingOf(shares, tenant) - plain.ceiling(tenant))).toBeLessThan(0.002)
        })
      )
  },
  {
    id: "shares-range",
    check: (make: Subject) =>
      holds(
        fc.property(lives, (happenings) => {
          const { nowMs, shares } = live(make, happenings)
          const ceilings = Array.from({ length: 6 }, (_, tenant) => ceilingOf(shares, tenant))
          expect(Math.min(...ceilings)).toBeGreaterThanOrEqual(0.7)
          expect(Math.max(...ceilings)).toBeLessThanOrEqual(1)
          const [before, ...after] = ceilings
          shares.placed({ ...oneRequest, tenant: 0, uncachedTokens: 1e9 }, nowMs)
          expect(ceilingOf(shares, 0)).toBeLessThanOrEqual(before!)
          for (const [i, ceiling] of after.entries())
            expect(ceilingOf(shares, i + 1)).toBeGreaterThanOrEqual(ceiling)
        })
      )
  },
  {
    id: "shares-alone",
    check: (make: Subject) =>
      holds(
        fc.property(lives, (happenings) => {
          const alone = happenings.map((each) => ({ ...each, tenant: 3 }))
          expect(ceilingOf(live(make, alone).shares, 3)).toBe(1)
          const { nowMs, shares } = live(make, happenings)
          // All others have left.
          for (let later = 1; later <= 20; later++)
            shares.placed({ ...oneRequest, tenant: 3, uncachedTokens: 1e9 }, nowMs + later * HALF_LIFE_MS)
          expect(ceilingOf(shares, 3)).toBeGreaterThan(0.9999)
        })
      )
  }
]

const changed =
  (defect: (right: TenantShares) => Partial<ReturnType<Subject>>): Subject =>
  () => {
    const right = new TenantShares()
    return {
      ceiling: (request) => right.ceiling(request),
      placed: (request, nowMs) => right.placed(request, nowMs),
      ended: (request, nowMs) => right.ended(request, nowMs),
      refused: (request, nowMs) => right.refused(request, nowMs),
      ...defect(right)
    }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "counts a token of an answer like one of a prompt",
    "shares-rule",
    changed((right) => ({
      ended: (request, nowMs) => right.placed({ ...request, uncachedTokens: request.outputTokens }, nowMs)
    }))
  ],
  [
    "knows no weights",
    "shares-rule",
    changed((right) => ({ placed: (request, nowMs) => right.placed({ ...request, weight: 1 }, nowMs) }))
  ],
  [
    "forgets nothing",
    "shares-rule",
    changed((right) => ({
      placed: (request) => right.placed(request, 0),
      ended: (request) => right.ended(request, 0),
      refused: (request) => right.refused(request, 0)
    }))
  ],
  [
    "lets who was served most fill everything",
    "shares-rule",
    changed((right) => ({ ceiling: (request) => 1.7 - right.ceiling(request) }))
  ],
  [
    "keeps half",
    "shares-range",
    changed((right) => ({ ceiling: (request) => 1 - (1 - right.ceiling(request)) * 2 }))
  ],
  [
    "keeps room for nobody",
    "shares-alone",
    changed((right) => ({
      refused: (request, nowMs) => right.refused({ ...request, tenant: request.tenant + 1 }, nowMs)
    }))
  ]
]

describe("what tenants may fill", () => keepsAll(laws, () => new TenantShares()))
describe("planted defects", () => findsAll(laws, defects))
