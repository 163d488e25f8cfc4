import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { life, PlacementLife, type Subject, told } from "../../laws/placementLife.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { charge, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"
import { exponential, serve, waitMsMean } from "../../support/queueing.ts"

const joinIdleQueue = findPlacement("join-idle-queue")
const powerOfTwo = findPlacement("power-of-two")

const isIdle = ({ workers }: PoolView, worker: number): boolean =>
  workers.prefilling[worker] === 0 &&
  (workers.kvCapacityTokens[worker] === 0 ||
    workers.contextTokens[worker]! <= 0.9 * workers.kvCapacityTokens[worker]!)

const laws = [
  {
    id: "join-idle-first",
    check: (subject: Subject) =>
      holds(
        fc.property(life, (one) => {
          new PlacementLife(subject, one, {}, (picked, _, { pool }) => {
            const idle = [...pool.eligible.subarray(0, pool.eligibleCount)].filter((worker) =>
              isIdle(pool, worker)
            )
            if (idle.length > 0) expect(idle).toContain(picked)
          }).finish()
        })
      )
  },
  {
    id: "join-idle-once",
    check: ({ make }: Subject) => {
      const pool = poolOf(equalWorkers(8))
      const placement = told(make({}, makeRng(1)), pool)
      const picks = Array.from({ length: 8 }, () => placement.pick(oneRequest, pool, 0))
      expect(new Set(picks).size).toBe(8)
      sampleLaw(2).check({ ...joinIdleQueue, make: () => placement })
    }
  }
]

const idleThenTwo = (workersOf: (pool: PoolView, idle: Set<number>) => ReadonlyArray<number>): Subject => ({
  ...joinIdleQueue,
  make: (_, rng) => {
    const withoutIdle = powerOfTwo.make({}, rng)
    const idle = new Set<number>()
    return {
      pick: (one, pool, nowMs) => workersOf(pool, idle)[0] ?? withoutIdle.pick(one, pool, nowMs),
      started: (_request, worker) => void idle.add(worker),
      changed: (worker, ready) => void (ready ? idle.add(worker) : idle.delete(worker))
    }
  }
})

const isAmong = ({ eligible, eligibleCount }: PoolView, worker: number): boolean =>
  eligible.subarray(0, eligibleCount).includes(worker)

const defects: ReadonlyArray<Planted<Subject>> = [
  ["looks at two, idle or not", "join-idle-first", powerOfTwo],
  [
    "leaves a worker in the queue that got a request",
    "join-idle-once",
    idleThenTwo((pool, idle) => [...idle].filter((worker) => isAmong(pool, worker)))
  ],
  [
    "takes a worker that has started one of two prompts for idle",
    "join-idle-first",
    idleThenTwo((pool, idle) => {
      const worker = [...idle].find((each) => isAmong(pool, each))
      idle.delete(worker ?? -1)
      return worker === undefined ? [] : [worker]
    })
  ]
]

describe("join idle queue", () => keepsAll(laws, joinIdleQueue))
describe("planted defects", () => findsAll(laws, defects))

test("the worker that has been idle for longest comes first", () => {
  const pool = poolOf(equalWorkers(3))
  const placement = joinIdleQueue.make({}, makeRng(1))
  for (const worker of [2, 0, 1]) placement.changed!(worker, true, pool, 0)
  expect([0, 1, 2].map(() => placement.pick(oneRequest, pool, 0))).toEqual([2, 0, 1])
})

test("a worker that got a request from elsewhere is not idle; one that got none after all is", () => {
  const pool = poolOf(equalWorkers(2))
  const placement = told(joinIdleQueue.make({}, makeRng(1)), pool)
  const placed = charge(pool, 0, oneRequest)
  placement.placed!(placed, 0, pool, 0)
  expect(placement.pick(oneRequest, pool, 0)).toBe(1)
  pool.workers.inFlight[1] = 50
  placement.observed!(1, pool, 0)
  expect(placement.pick(oneRequest, pool, 0)).toBe(1)
  expect(placement.pick(oneRequest, pool, 0)).toBe(0)
})

test("a worker that got a copy of a request, of which nobody is told, is not idle", () => {
  const pool = poolOf(equalWorkers(2))
  const placement = told(joinIdleQueue.make({}, makeRng(1)), pool)
  charge(pool, 0, oneRequest)
  expect(placement.pick(oneRequest, pool, 0)).toBe(1)
})

test("a worker whose KV cache is too full is not idle", () => {
  const rows = equalWorkers(4, { kvCapacityTokens: 1000, contextTokens: 901 })
  const pool = poolOf(rows.map((row, i) => ({ ...row, contextTokens: i === 2 ? 900 : 901 })))
  const placement = told(joinIdleQueue.make({}, makeRng(1)), pool)
  expect(placement.pick(oneRequest, pool, 0)).toBe(2)
  const picks = Array.from({ length: 100 }, () => placement.pick(oneRequest, pool, 0))
  expect(new Set(picks).size).toBe(4)
})

// Lu et al. 2011 report 30 times less queueing than power of two at medium to high load, for many servers.
test("requests wait 30 times less than with power of two, at 90 % load on 200 workers", () => {
  const waitMs = (entry: typeof powerOfTwo): number =>
    waitMsMean(
      serve(entry, {
        workers: 200,
        load: 0.9,
        arrivals: 50_000,
        promptTokens: (rng) => 100 * exponential(rng),
        promptTokensMean: 100
      })
    )
  expect(waitMs(joinIdleQueue)).toBeLessThan(waitMs(powerOfTwo) / 30)
})
