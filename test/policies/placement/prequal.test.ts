import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { naiveCosts as naive } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { type Candidate, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Options = Readonly<Record<string, number>>
type Subject = (options: Options) => Placement

const entry = findPlacement("prequal")
const real: Subject = (options) => entry.make({ probes: 64, ...options }, makeRng(1))

const NOW_MS = 200_000
const AGE_MS = 1000
const USES = 3

/** Workers with loads that differ, whose heartbeats are recent or not. */
const rows = candidates({ minLength: 1 }).map((found) =>
  found.map((row, i) => ({
    ...row,
    eligible: true,
    inFlight: row.inFlight + i,
    observedAtMs: NOW_MS - (row.observedAtMs % 200 === 0 ? AGE_MS : AGE_MS + 1)
  }))
)
const fresh = rows.map((found) => found.map((row) => ({ ...row, observedAtMs: NOW_MS })))

const loadOf = (row: Candidate): number => row.inFlight / row.speed

const firstTokenMs = (row: Candidate, one: RequestView): number =>
  naive.waitingMs(row) + naive.ownMs(row, one.promptTokens, 0) + naive.stepMs(row)

/** The workers that the rule allows, in words: cold and fastest, or where all are hot the least loaded. */
const allowed = (
  found: ReadonlyArray<Candidate>,
  one: RequestView,
  quantile: number
): ReadonlyArray<number> => {
  const loads = found.map(loadOf)
  const share = (load: number): number => loads.filter((each) => each < load).length / loads.length
  // Hot: the share of workers with less load is not below the quantile.
  const cold = [...found.keys()].filter((worker) => share(loads[worker]!) < quantile)
  const cost = (worker: number): number =>
    cold.length === 0 ? loads[worker]! : firstTokenMs(found[worker]!, one)
  const among = cold.length === 0 ? [...found.keys()] : cold
  const least = Math.min(...among.map(cost))
  return among.filter((worker) => cost(worker) <= least * (1 + 1e-12))
}

const pickOf = (subject: Subject, options: Options, pool: PoolView, one = oneRequest): number =>
  subject(options).pick(one, pool, NOW_MS)

const laws = [
  {
    id: "prequal-hot-cold",
    check: (subject: Subject) =>
      holds(
        fc.property(fresh, request, fc.constantFrom(0, 0.25, 0.5, 0.84, 1), (found, one, quantile) =>
          expect(allowed(found, one, quantile)).toContain(pickOf(subject, { quantile }, poolOf(found), one))
        )
      )
  },
  {
    id: "prequal-ends",
    check: (subject: Subject) =>
      holds(
        fc.property(fresh, request, (found, one) => {
          const byLoad = found[pickOf(subject, { quantile: 0 }, poolOf(found), one)]!
          expect(loadOf(byLoad)).toBe(Math.min(...found.map(loadOf)))
          const byLatency = found[pickOf(subject, { quantile: 1 }, poolOf(found), one)]!
          const least = Math.min(...found.map((row) => firstTokenMs(row, one)))
          expect(firstTokenMs(byLatency, one)).toBeLessThanOrEqual(least * (1 + 1e-12))
        })
      )
  },
  {
    id: "prequal-age",
    check: (subject: Subject) =>
      holds(
        fc.property(rows, (found) => {
          const trusted = [...found.keys()].filter((i) => found[i]!.observedAtMs === NOW_MS - AGE_MS)
          const picked = pickOf(subject, { age: AGE_MS }, poolOf(found))
          if (trusted.length > 0) expect(trusted).toContain(picked)
          else expect(loadOf(found[picked]!)).toBe(Math.min(...found.map(loadOf)))
        })
      )
  },
  {
    id: "prequal-uses",
    check: (subject: Subject) =>
      holds(
        fc.property(fresh, fc.array(fc.tuple(fc.nat(11), fc.nat(4))), (found, events) => {
          const pool = poolOf(found)
          const placement = subject({ uses: USES })
          const uses = found.map(() => 0)
          for (const [which, kind] of events) {
            const worker = which % found.length
            if (kind === 0) placement.observed?.(worker, pool, NOW_MS)
            else placement.placed?.(oneRequest, worker, pool, NOW_MS)
            uses[worker] = kind === 0 ? 0 : uses[worker]! + 1
            const trusted = [...found.keys()].filter((each) => uses[each]! < USES)
            if (trusted.length > 0) expect(trusted).toContain(placement.pick(oneRequest, pool, NOW_MS))
          }
        })
      )
  }
]

/** The rule in plain form, over all workers; a defect changes where hot begins, or who is looked at. */
const plain =
  (defect: {
    readonly hotAbove?: (loads: ReadonlyArray<number>, quantile: number) => number
    readonly isTrusted?: (ageMs: number, age: number, uses: number) => boolean
    readonly coldest?: boolean
  }): Subject =>
  ({ quantile = 0.84, age = AGE_MS }) => {
    const uses: Array<number> = []
    const {
      hotAbove = (loads: ReadonlyArray<number>) =>
        loads.toSorted((a, b) => a - b)[Math.ceil(quantile * loads.length) - 1] ?? -1,
      isTrusted = (ageMs: number, limitMs: number, used: number) => ageMs <= limitMs && used < USES
    } = defect
    return {
      pick: (one, { workers, eligible, eligibleCount }, nowMs) => {
        const all = [...eligible.subarray(0, eligibleCount)]
        const load = (worker: number): number => workers.inFlight[worker]! / workers.speed[worker]!
        const seen = all.filter((worker) =>
          isTrusted(nowMs - workers.observedAtMs[worker]!, age, uses[worker] ?? 0)
        )
        const trusted = seen.length === 0 ? all : seen
        const above = hotAbove(trusted.map(load), quantile)
        const cold = trusted.filter((worker) => load(worker) <= above)
        const ms = (worker: number): number =>
          workers.prefillTokenMs[worker]! * (workers.pendingPrefillTokens[worker]! + one.promptTokens)
        const by = cold.length === 0 || defect.coldest === true ? load : ms
        return (cold.length === 0 ? trusted : cold).toSorted((a, b) => by(a) - by(b))[0] ?? -1
      },
      placed: (_, worker) => void (uses[worker] = (uses[worker] ?? 0) + 1),
      observed: (worker) => void (uses[worker] = 0)
    }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "takes a share of the highest load for the quantile",
    "prequal-hot-cold",
    plain({ hotAbove: (loads, quantile) => quantile * Math.max(...loads) })
  ],
  ["picks the least loaded of the cold", "prequal-ends", plain({ coldest: true })],
  [
    "looks at heartbeats of any age",
    "prequal-age",
    plain({ isTrusted: (_age, _limit, used) => used < USES })
  ],
  [
    "trusts a heartbeat for any number of requests",
    "prequal-uses",
    plain({ isTrusted: (age, limit) => age <= limit })
  ]
]

describe("prequal", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test("load counts what others put there, by the last heartbeat", () => {
  const pool = poolOf(
    equalWorkers(2, { inFlight: 0, observedAtMs: NOW_MS }).map((row, i) => ({ ...row, inFlight: i }))
  )
  const placement = real({ quantile: 0 })
  expect(placement.pick(oneRequest, pool, NOW_MS)).toBe(0)
  pool.workers.running[0] = 2
  placement.observed!(0, pool, NOW_MS)
  expect(placement.pick(oneRequest, pool, NOW_MS)).toBe(1)
  placement.changed!(0, true, pool, NOW_MS)
  expect(placement.pick(oneRequest, pool, NOW_MS)).toBe(0)
})

test.each([2, 16])("%d probes are distinct random workers", (probes) =>
  sampleLaw(probes).check({ ...entry, make: (_, rng) => entry.make({ probes, quantile: 0 }, rng) })
)
