import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { emptyQueue, equalWorkers, oneRequest, poolOf, quietForecast } from "../../support/pools.ts"

/** Tokens a second, and at once, of a tenant of weight 1. */
interface Rate {
  readonly rate: number
  readonly burst: number
}
type Make = (options: Rate) => Admission

const real: Make = (options) => findAdmission("token-bucket").make({ ...options }, makeRng(1))

/** A pool that expects answers as long as `maxTokens`. */
const pool: PoolView = Object.assign(poolOf(equalWorkers(1)), {
  forecast: { ...quietForecast, meanOutputTokens: ({ maxTokens }: RequestView) => maxTokens }
})

interface Asking {
  readonly pauseMs: number
  readonly tenant: number
  readonly promptTokens: number
  readonly maxTokens: number
  /** Of `maxTokens`, what it produces; below 0 it is never placed. */
  readonly produces: number
  /** How many later requests ask before it ends. */
  readonly endsAfter: number
}

const askings = fc.array(
  fc.record<Asking>({
    pauseMs: fc.nat(200),
    tenant: fc.nat(1),
    promptTokens: fc.nat(60),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    produces: fc.constantFrom(-1, 0, 0.25, 1, 1.5),
    endsAfter: fc.nat(5)
  }),
  { minLength: 1, maxLength: 40 }
)
const rates = fc.record<Rate>({ rate: fc.constantFrom(100, 1000), burst: fc.constantFrom(20, 200) })

/** What went in and out of one tenant's bucket. */
interface Entry {
  readonly atMs: number
  readonly tenant: number
  readonly charged: number
}

const usedOf = ({ promptTokens, maxTokens, produces }: Asking): number =>
  produces < 0 ? 0 : promptTokens + Math.round(maxTokens * produces)

/** Plays the requests; the charges of those let in, and as negative entries what went back. */
const play = (admission: Admission, asked: ReadonlyArray<Asking>, exact: boolean): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  const open: Array<{ readonly request: RequestView; readonly asking: Asking; readonly until: number }> = []
  let nowMs = 0
  const end = ({ request, asking }: (typeof open)[number]): void => {
    const charged = asking.promptTokens + asking.maxTokens
    // It waited until then, as others were let in.
    if (exact || asking.produces >= 0) admission.placed?.(request, 0, pool, nowMs)
    const used = exact ? charged : usedOf(asking)
    const outputTokens = exact
      ? asking.maxTokens
      : Math.max(0, Math.round(asking.maxTokens * asking.produces))
    admission.ended?.({ ...request, outputTokens }, Reason.none, pool, nowMs)
    if (used < charged) entries.push({ atMs: nowMs, tenant: asking.tenant, charged: used - charged })
  }
  for (const [i, asking] of asked.entries()) {
    nowMs += asking.pauseMs
    const { tenant, promptTokens, maxTokens } = asking
    const request = { ...oneRequest, slot: i, tenant, promptTokens, maxTokens }
    for (const each of open.filter(({ until }) => until <= i)) {
      open.splice(open.indexOf(each), 1)
      end(each)
    }
    if (admission.decide(request, pool, emptyQueue, nowMs) !== null) continue
    admission.admitted?.(request, pool, nowMs)
    entries.push({ atMs: nowMs, tenant, charged: promptTokens + maxTokens })
    open.push({ request, asking, until: i + asking.endsAfter })
  }
  for (const each of open) end(each)
  return entries
}

const expectWindows = (entries: ReadonlyArray<Entry>, { rate, burst }: Rate): void => {
  for (const tenant of [0, 1]) {
    const own = entries.filter((entry) => entry.tenant === tenant)
    for (let from = 0; from < own.length; from++) {
      let sum = 0
      for (let to = from; to < own.length; to++) {
        const { charged, atMs } = own[to]!
        sum += charged
        const bound = (rate * (atMs - own[from]!.atMs)) / 1000 + Math.max(burst, charged)
        // Only an entry that was let in can break the bound.
        if (charged > 0) expect(sum).toBeLessThanOrEqual(bound + 1e-6)
      }
    }
  }
}

/** Earliest whole ms at which a request of `cost` tokens is let in. */
const freeAtMs = (admission: Admission, cost: number, fromMs: number): number => {
  const request = { ...oneRequest, slot: 999, promptTokens: cost - 1, maxTokens: 1 }
  let [low, high] = [fromMs - 1, fromMs + 1_000_000]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (admission.decide(request, pool, emptyQueue, middle) === null) high = middle
    else low = middle
  }
  return high
}

const laws = [
  {
    id: "bucket-window",
    statement:
      "in any time T a tenant's requests cost at most rate × T + burst, or one of them more than burst",
    check: (make: Make) =>
      holds(fc.property(askings, rates, (asked, rate) => expectWindows(play(make(rate), asked, true), rate)))
  },
  {
    id: "bucket-refunds",
    statement: "the same holds of charges less what went back, however far estimates are off",
    check: (make: Make) =>
      holds(fc.property(askings, rates, (asked, rate) => expectWindows(play(make(rate), asked, false), rate)))
  },
  {
    id: "bucket-settled",
    statement: "after its end a request has cost what it used, once: nothing when it was not placed",
    check: (make: Make) =>
      holds(
        fc.property(askings, fc.nat(2), ([asking], times) => {
          const rate = { rate: 100, burst: 200 }
          const admission = make(rate)
          const { promptTokens, maxTokens, produces } = asking!
          const request = { ...oneRequest, slot: 3, promptTokens, maxTokens }
          admission.admitted?.(request, pool, 0)
          if (produces >= 0) admission.placed?.(request, 0, pool, 0)
          const outputTokens = Math.max(0, Math.round(maxTokens * produces))
          for (let i = 0; i <= times; i++)
            admission.ended?.({ ...request, outputTokens }, Reason.none, pool, 0)
          const expectedMs = Math.max(0, Math.ceil(((usedOf(asking!) + 200 - rate.burst) / rate.rate) * 1000))
          expect(Math.abs(freeAtMs(admission, 200, 0) - expectedMs)).toBeLessThanOrEqual(1)
        })
      )
  },
  {
    id: "bucket-retry",
    statement: "who asks again when told to, with nobody in between, is let in",
    check: (make: Make) =>
      holds(
        fc.property(askings, rates, fc.integer({ min: 1, max: 500 }), (asked, rate, cost) => {
          const admission = make(rate)
          play(admission, asked, false)
          const nowMs = asked.reduce((sum, { pauseMs }) => sum + pauseMs, 0)
          const request = { ...oneRequest, slot: 999, promptTokens: cost - 1, maxTokens: 1 }
          const refusal = admission.decide(request, pool, emptyQueue, nowMs)
          fc.pre(refusal !== null)
          expect(admission.decide(request, pool, emptyQueue, nowMs + refusal.retryAfterMs)).toBeNull()
        })
      )
  },
  {
    id: "bucket-weight",
    statement: "a tenant of k times the weight may use k times as much, and takes nothing from another",
    check: (make: Make) =>
      holds(
        fc.property(askings, rates, fc.constantFrom(0.5, 2, 4), (asked, rate, weight) => {
          const [light, heavy] = [make(rate), make(rate)]
          let nowMs = 0
          for (const { pauseMs, promptTokens, maxTokens } of asked) {
            nowMs += pauseMs
            const one = { ...oneRequest, tenant: 0, promptTokens, maxTokens }
            const many = {
              ...oneRequest,
              tenant: 0,
              weight,
              promptTokens: (promptTokens + maxTokens) * weight - 1,
              maxTokens: 1
            }
            const [first, second] = [
              light.decide(one, pool, emptyQueue, nowMs),
              heavy.decide(many, pool, emptyQueue, nowMs)
            ]
            expect(second === null).toBe(first === null)
            if (first !== null) continue
            light.admitted?.(one, pool, nowMs)
            heavy.admitted?.(many, pool, nowMs)
          }
          expect(light.decide({ ...oneRequest, tenant: 1 }, pool, emptyQueue, nowMs)).toBeNull()
        })
      )
  }
]

type Defect =
  | "banks"
  | "refundsTwice"
  | "keepsCharge"
  | "chargesLate"
  | "refundsAll"
  | "ignoresWeight"
  | "oneBucket"
  | "tooSoon"

/** A bucket by the book, counted in tokens, but for one slip. */
const bucket =
  (defect?: Defect): Make =>
  ({ rate, burst }) => {
    const levels = new Map<number, { level: number; atMs: number }>()
    const charges = new Map<number, number>()
    const placed = new Set<number>()
    const weightOf = (one: RequestView): number => (defect === "ignoresWeight" ? 1 : one.weight)
    const costOf = ({ promptTokens, maxTokens }: RequestView): number => promptTokens + maxTokens
    const filled = (one: RequestView, nowMs: number) => {
      const tenant = defect === "oneBucket" ? 0 : one.tenant
      const state = levels.get(tenant) ?? { level: burst * weightOf(one), atMs: 0 }
      const level = state.level + ((nowMs - state.atMs) * rate * weightOf(one)) / 1000
      const full = { level: defect === "banks" ? level : Math.min(level, burst * weightOf(one)), atMs: nowMs }
      return { tenant, full }
    }
    const add = (one: RequestView, tokens: number, nowMs: number): void => {
      const { tenant, full } = filled(one, nowMs)
      levels.set(tenant, { ...full, level: full.level + tokens })
    }
    return {
      decide: (one, _pool, _queue, nowMs) => {
        const { full } = filled(one, nowMs)
        const lack = Math.min(costOf(one), burst * weightOf(one)) - full.level
        if (lack <= 1e-9) return null
        const lackMs = (lack / (rate * weightOf(one))) * 1000
        return {
          reason: Reason.rateLimited,
          retryAfterMs: Math.ceil(defect === "tooSoon" ? lackMs / 2 : lackMs)
        }
      },
      admitted: (one, _pool, nowMs) => {
        charges.set(one.slot, costOf(one))
        placed.delete(one.slot)
        if (defect !== "chargesLate") add(one, -costOf(one), nowMs)
      },
      placed: (one, _worker, _pool, nowMs) => {
        placed.add(one.slot)
        if (defect === "chargesLate") add(one, -costOf(one), nowMs)
      },
      ended: (one, _reason, _pool, nowMs) => {
        const charge = charges.get(one.slot)
        if (charge === undefined || defect === "keepsCharge") return
        if (defect !== "refundsTwice") charges.delete(one.slot)
        const used = (placed.has(one.slot) ? one.promptTokens : 0) + one.outputTokens
        add(one, defect === "refundsAll" ? charge : charge - used, nowMs)
      }
    }
  }

const defects: ReadonlyArray<Planted<Make>> = [
  ["saves up what it does not use", "bucket-window", bucket("banks")],
  ["has twice the burst", "bucket-window", (rate) => bucket()({ ...rate, burst: rate.burst * 2 })],
  ["charges a request once it is placed", "bucket-window", bucket("chargesLate")],
  ["gives back everything", "bucket-refunds", bucket("refundsAll")],
  ["settles as often as it is told", "bucket-settled", bucket("refundsTwice")],
  ["keeps the estimate", "bucket-settled", bucket("keepsCharge")],
  ["says to come back too soon", "bucket-retry", bucket("tooSoon")],
  ["knows no weights", "bucket-weight", bucket("ignoresWeight")],
  ["has one bucket for all", "bucket-weight", bucket("oneBucket")]
]

describe("token-bucket", () => keepsAll(laws, real))
describe("a bucket by the book", () => keepsAll(laws, bucket()))
describe("planted defects", () => findsAll(laws, defects))
