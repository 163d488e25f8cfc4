import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { charge, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Subject = () => Placement

const SMOOTHING_MS = 1000

const real: Subject = () => findPlacement("least-loaded").make({ smoothing: SMOOTHING_MS }, makeRng(1))

/** A heartbeat that tells of this balancer's requests and `others`. */
const heartbeat = (
  placement: Placement,
  { workers, ...pool }: PoolView,
  worker: number,
  others: number,
  nowMs: number
): void => {
  workers.running[worker] = workers.inFlight[worker]! + others
  workers.waiting[worker] = 0
  workers.observedAtMs[worker] = nowMs
  placement.observed?.(worker, { workers, ...pool }, nowMs)
  placement.touched?.(worker, pool.eligible.indexOf(worker) < pool.eligibleCount, { workers, ...pool })
}

const laws = [
  {
    id: "least-loaded-alone",
    check: (subject: Subject) =>
      holds(
        fc.property(candidates({ minLength: 1 }), fc.array(request), (rows, requests) => {
          const pool = poolOf(rows)
          const placement = subject()
          const leastConnections = findPlacement("least-connections").make({}, makeRng(1))
          for (const one of requests) {
            for (const worker of rows.keys()) heartbeat(placement, pool, worker, 0, one.arrivedMs)
            expect(placement.pick(one, pool, 0)).toBe(leastConnections.pick(one, pool, 0))
          }
        })
      )
  },
  {
    // Heartbeats come in the middle of a burst, and tell of it what has arrived by then.
    id: "least-loaded-burst",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.integer({ min: 2, max: 8 }),
          fc.array(fc.boolean(), { maxLength: 60 }),
          (count, burst) => {
            const pool = poolOf(equalWorkers(count, { inFlight: 0 }))
            const placement = subject()
            for (const [number, beats] of burst.entries()) {
              if (beats)
                for (let worker = 0; worker < count; worker++) heartbeat(placement, pool, worker, 3, number)
              const one = { ...oneRequest, idLow: number }
              const worker = placement.pick(one, pool, number)
              const placed = charge(pool, worker, one)
              placement.touched?.(worker, true, pool)
              placement.placed?.(placed, worker, pool, number)
            }
            const { inFlight } = pool.workers
            expect(Math.max(...inFlight) - Math.min(...inFlight)).toBeLessThanOrEqual(1)
          }
        )
      )
  },
  {
    id: "least-loaded-others",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.nat(20), fc.nat(20), fc.nat(3000), (first, second, pauseMs) => {
          const left = Math.exp(-pauseMs / SMOOTHING_MS)
          const others = first * left + second * (1 - left)
          const pool = poolOf(equalWorkers(1, { speed: 0.5 }))
          const placement = subject()
          heartbeat(placement, pool, 0, first, 10)
          heartbeat(placement, pool, 0, second, 10 + pauseMs)
          const terms = placement.terms?.(oneRequest, 0, pool, 10 + pauseMs) ?? {}
          expect(Math.abs(terms["others"]! - others / 0.5)).toBeLessThan(1e-9)
        })
      )
  }
]

/** Smooths all that a heartbeat tells, and counts what was sent since: each heartbeat hides most of what came before. */
const smoothsAll: Subject = () => {
  const average: Array<number> = []
  const sent: Array<number> = []
  return {
    pick: (_, { workers, eligible, eligibleCount }) =>
      [...eligible.subarray(0, eligibleCount)].toSorted((a, b) => {
        const load = (worker: number): number =>
          ((average[worker] ?? 0) + (sent[worker] ?? 0)) / workers.speed[worker]!
        return load(a) - load(b)
      })[0] ?? -1,
    placed: (_, worker) => void (sent[worker] = (sent[worker] ?? 0) + 1),
    observed: (worker, { workers }) => {
      average[worker] = (average[worker] ?? 0) * 0.8 + workers.running[worker]! * 0.2
      sent[worker] = 0
    }
  }
}

const defects: ReadonlyArray<Planted<Subject>> = [
  ["smooths all that a heartbeat tells", "least-loaded-burst", smoothsAll],
  ["smooths all that a heartbeat tells", "least-loaded-alone", smoothsAll],
  [
    "trusts the last heartbeat alone",
    "least-loaded-others",
    () => {
      let others = 0
      return {
        pick: () => -1,
        terms: (_, worker, { workers }) => ({ others: others / workers.speed[worker]! }),
        observed: (worker, { workers }) =>
          void (others = workers.running[worker]! - workers.inFlight[worker]!)
      }
    }
  ]
]

describe("least loaded", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test.each([
  [3, 4, 2, 5],
  [1, 0, 2, 0]
])(
  "%d running and %d waiting, of which %d are its own: %d of others",
  (running, waiting, inFlight, others) => {
    const pool = poolOf(equalWorkers(1, { running, waiting, inFlight }))
    const placement = real()
    placement.observed!(0, pool, 10)
    expect(placement.terms!(oneRequest, 0, pool, 10)).toEqual({ inFlight, others })
  }
)

test("a worker that comes back to the pool starts without a memory", () => {
  const pool = poolOf(equalWorkers(2, { inFlight: 0 }).map((row, i) => ({ ...row, inFlight: i })))
  const placement = real()
  heartbeat(placement, pool, 0, 30, 10)
  expect(placement.pick(oneRequest, pool, 10)).toBe(1)
  for (const ready of [false, true]) {
    placement.changed!(0, ready, pool, 20)
    placement.touched!(0, ready, pool)
  }
  expect(placement.pick(oneRequest, pool, 30)).toBe(0)
})
