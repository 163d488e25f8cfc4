import { describe, expect } from "bun:test"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng, type Rng } from "../../../src/structures/Rng.ts"
import { told } from "../../laws/placementLife.ts"
import { chiSquareRatio } from "../../support/chiSquare.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { equalWorkers, oneRequest, poolOf, setEligible } from "../../support/pools.ts"

type Subject = (rng: Rng) => Placement

const real: Subject = (rng) => findPlacement("weighted-random").make({}, rng)

const PICKS = 40_000

/** Speeds from alike to so unlike that most draws are rejected. */
const speedsOf: ReadonlyArray<ReadonlyArray<number>> = [
  [1],
  [1, 1, 1, 1],
  [1, 2, 3, 0.5, 0.1],
  [100, ...Array.from({ length: 31 }, () => 1)]
]

const poolWith = (speeds: ReadonlyArray<number>): PoolView =>
  poolOf(equalWorkers(speeds.length).map((row, i) => ({ ...row, speed: speeds[i]! })))

const expectShares = (placement: Placement, pool: PoolView, speeds: ReadonlyArray<number>): void => {
  const counts = speeds.map(() => 0)
  for (let i = 0; i < PICKS; i++) counts[placement.pick(oneRequest, pool, 0)]!++
  const sum = speeds.reduce((a, b) => a + b)
  const expected = speeds.map((speed) => (PICKS * speed) / sum)
  expect(chiSquareRatio(counts, expected)).toBeLessThan(1)
}

const laws = [
  {
    id: "weighted-shares",
    check: (subject: Subject) => {
      for (const speeds of speedsOf) expectShares(subject(makeRng(5)), poolWith(speeds), speeds)
    }
  },
  {
    // A policy that nobody has drawn from yet has to know the fastest worker from what it was told.
    id: "weighted-shares-first",
    check: (subject: Subject) => {
      const speeds = [1, 1, 1, 1]
      const counts = [0, 0, 0, 0]
      for (let seed = 0; seed < 10_000; seed++) {
        const pool = poolWith(speeds)
        const placement = told(subject(makeRng(seed)), pool)
        pool.workers.speed[2] = 4
        placement.observed?.(2, pool, 0)
        counts[placement.pick(oneRequest, pool, 0)]!++
      }
      const expected = [1, 1, 4, 1].map((speed) => (10_000 * speed) / 7)
      expect(chiSquareRatio(counts, expected)).toBeLessThan(1)
    }
  },
  {
    // What was a bound on the speeds before is none any more, and who was picked before is not there.
    id: "weighted-shares-change",
    check: (subject: Subject) => {
      const speeds = [1, 1, 4, 2]
      const pool = poolWith(speeds)
      const placement = subject(makeRng(6))
      expectShares(placement, pool, speeds)
      pool.workers.speed[1] = 8
      placement.observed?.(1, pool, 0)
      expectShares(placement, pool, [1, 8, 4, 2])
      setEligible(pool, (worker) => worker !== 1)
      expectShares(placement, pool, [1, 0, 4, 2])
      pool.workers.speed[3] = 0.25
      expectShares(placement, pool, [1, 0, 4, 0.25])
    }
  }
]

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "learns of a faster worker when it draws it",
    "weighted-shares-first",
    (rng) => {
      const { pick, changed } = findPlacement("weighted-random").make({}, rng)
      return { pick, changed: changed! }
    }
  ],
  [
    "takes 1 for the highest speed",
    "weighted-shares",
    (rng) => ({
      pick: (_, { workers, eligible, eligibleCount }) => {
        for (;;) {
          const worker = eligible[rng.int(eligibleCount)]!
          if (rng.next() < workers.speed[worker]!) return worker
        }
      }
    })
  ],
  [
    "gives up after 16 draws, and takes any",
    "weighted-shares",
    (rng) => ({
      pick: (_, { workers, eligible, eligibleCount }) => {
        const highest = Math.max(
          ...eligible.subarray(0, eligibleCount).map((worker) => workers.speed[worker]!)
        )
        for (let draw = 0; draw < 16; draw++) {
          const worker = eligible[rng.int(eligibleCount)]!
          if (rng.next() * highest < workers.speed[worker]!) return worker
        }
        return eligible[rng.int(eligibleCount)]!
      }
    })
  ],
  [
    "keeps the table it made at first",
    "weighted-shares-change",
    (rng) => {
      let table: Array<number> | undefined
      return {
        pick: (_, { workers, eligible, eligibleCount }) => {
          table ??= [...eligible.subarray(0, eligibleCount)].flatMap((worker) =>
            Array.from({ length: workers.speed[worker]! * 4 }, () => worker)
          )
          return table[rng.int(table.length)]!
        }
      }
    }
  ]
]

describe("weighted random", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))
