import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { mix } from "../../../src/structures/hash.ts"
import { makeRng, type Rng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { equalWorkers, oneRequest, poolOf, setEligible } from "../../support/pools.ts"

type Subject = (rng: Rng) => Pick<Placement, "pick">

const real: Subject = (rng) => findPlacement("weighted-round-robin").make({}, rng)

/** Speeds in whole numbers of fourths, so that the reference counts exactly. */
const weights = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 })

const poolWith = (of: ReadonlyArray<number>): PoolView =>
  poolOf(equalWorkers(of.length).map((row, i) => ({ ...row, speed: of[i]! / 4 })))

const picksOf = (subject: Subject, seed: number, pool: PoolView, count: number): ReadonlyArray<number> => {
  const placement = subject(makeRng(seed))
  return Array.from({ length: count }, () => placement.pick(oneRequest, pool, 0))
}

const sumOf = (numbers: ReadonlyArray<number>): number => numbers.reduce((sum, each) => sum + each, 0)

const commonDivisor = (numbers: ReadonlyArray<number>): number =>
  numbers.reduce((a, b) => {
    while (b > 0) [a, b] = [b, a % b]
    return a
  })

const laws = [
  {
    id: "weighted-turns-exact",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.nat(), weights, fc.nat(50), (seed, of, before) => {
          const divisor = commonDivisor(of)
          const round = sumOf(of) / divisor
          const picks = picksOf(subject, seed, poolWith(of), before + round).slice(before)
          for (const [worker, weight] of of.entries())
            expect(picks.filter((picked) => picked === worker)).toHaveLength(weight / divisor)
        })
      )
  },
  {
    id: "weighted-turns-smooth",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.nat(), weights, fc.nat(100), (seed, of, count) => {
          const counts = of.map(() => 0)
          // One would be the least there can be, and [1, 9, 9, 2, 2, 9, 9] goes beyond it: the most seen of 300,000 random weights is 1.14.
          const lagMax = of.reduce((sum, _, worker) => sum + 1 / (worker + 1), 0) + 1e-9
          for (const [i, picked] of picksOf(subject, seed, poolWith(of), count).entries()) {
            counts[picked]!++
            for (const [worker, weight] of of.entries())
              expect(Math.abs(counts[worker]! - ((i + 1) * weight) / sumOf(of))).toBeLessThanOrEqual(lagMax)
          }
        })
      )
  },
  {
    // The textbook form in whole numbers: everyone gains its weight, the one that has most is picked and pays the sum.
    id: "weighted-turns-nginx",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.nat(), weights, (seed, of) => {
          const pool = poolWith(of)
          const { keyHigh, keyLow } = pool.workers
          const order = makeRng(seed).int(2 ** 32)
          const score = (worker: number): number => mix(order, keyHigh[worker]!, keyLow[worker]!)
          const current = of.map(() => 0)
          for (const picked of picksOf(subject, seed, pool, 60)) {
            for (const [worker, weight] of of.entries()) current[worker]! += weight
            const [first] = [...of.keys()].toSorted(
              (a, b) => current[b]! - current[a]! || score(b) - score(a)
            )
            current[first!]! -= sumOf(of)
            expect(picked).toBe(first!)
          }
        })
      )
  },
  {
    // The bound of the cup game: whoever fills the cups by one in all, emptying the fullest by one keeps them below 1 + 1/2 + … + 1/N.
    id: "weighted-turns-churn",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.nat(),
          weights,
          fc.array(fc.nat(255), { minLength: 30, maxLength: 100 }),
          (seed, of, masks) => {
            const pool = poolWith(of)
            const placement = subject(makeRng(seed))
            const lag = of.map(() => 0)
            const harmonic = sumOf(of.map((_, i) => 1 / (i + 1)))
            for (const mask of masks) {
              const present = [...of.keys()].filter((worker) => ((mask >> worker) & 1) === 1)
              if (present.length === 0) continue
              setEligible(pool, (worker) => present.includes(worker))
              const sum = sumOf(present.map((worker) => of[worker]!))
              for (const worker of present) lag[worker]! += of[worker]! / sum
              lag[placement.pick(oneRequest, pool, 0)]! -= 1
              for (const each of lag) expect(Math.abs(each)).toBeLessThanOrEqual(harmonic)
            }
          }
        )
      )
  }
]

/** Smooth round robin in the units of the speeds; a defect changes what a worker gains, what it pays, or who wins a tie. */
const smooth =
  (
    defect: Partial<{
      gain: (speed: number) => number
      pay: (sum: number) => number
    }>
  ): Subject =>
  () => {
    const { gain = (speed) => speed, pay = (sum) => sum } = defect
    const current: Array<number> = []
    return {
      pick: (_, { workers: { speed }, eligible, eligibleCount }) => {
        const present = [...eligible.subarray(0, eligibleCount)]
        for (const worker of present) current[worker] = (current[worker] ?? 0) + gain(speed[worker]!)
        const best = present.reduce((a, b) => (current[b]! > current[a]! ? b : a))
        current[best]! -= pay(sumOf(present.map((worker) => gain(speed[worker]!))))
        return best
      }
    }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  ["takes speeds for whole numbers", "weighted-turns-exact", smooth({ gain: Math.ceil })],
  ["pays its own weight in place of the sum", "weighted-turns-smooth", smooth({ pay: (sum) => sum / 2 })],
  [
    "gives each worker all its turns in a row",
    "weighted-turns-smooth",
    () => {
      let at = 0
      let left = 0
      return {
        pick: (_, { workers: { speed }, eligible, eligibleCount }) => {
          if (left-- === 0) {
            at = (at + 1) % eligibleCount
            left = speed[eligible[at]!]! * 4 - 1
          }
          return eligible[at]!
        }
      }
    }
  ],
  ["settles ties by position", "weighted-turns-nginx", smooth({})],
  ["counts lag in speeds, whose sum changes as workers come and go", "weighted-turns-churn", smooth({})]
]

describe("weighted round robin", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test("a worker that comes back to the pool starts without a lag", () => {
  const pool = poolWith([4, 1])
  const placement = findPlacement("weighted-round-robin").make({}, makeRng(1))
  const pick = (): number => placement.pick(oneRequest, pool, 0)
  expect([pick(), pick(), pick()]).toEqual([0, 0, 1])
  expect([pick(), pick()]).toEqual([0, 0])
  expect([pick(), pick()]).toEqual([0, 0])
  for (const ready of [false, true]) placement.changed!(0, ready, pool, 0)
  expect(pick()).toBe(0)
})
