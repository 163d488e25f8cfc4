import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { weightedScore } from "../../../src/policies/affinity.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { mix } from "../../../src/structures/hash.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { type Candidate, equalWorkers, oneRequest, poolOf, setEligible } from "../../support/pools.ts"

type Subject = (bound: number) => Pick<Placement, "pick">

const real: Subject = (bound) => findPlacement("consistent-hash").make({ bound }, makeRng(1))

const bound = fc.constantFrom(1, 1.25, 2)

const eligible = candidates({ minLength: 1, maxLength: 8 }).map((rows) =>
  rows.map((row) => ({ ...row, eligible: true }))
)

const sessionOf = (sessionLow: number): RequestView => ({ ...oneRequest, sessionLow, idLow: sessionLow })

/** The rows in a session's order of preference. */
const preference = (
  rows: ReadonlyArray<Candidate>,
  { sessionHigh, sessionLow }: RequestView
): ReadonlyArray<number> => {
  const score = (i: number): number =>
    weightedScore(mix(mix(0, sessionHigh, sessionLow), rows[i]!.keyHigh, rows[i]!.keyLow), rows[i]!.speed)
  return [...rows.keys()].toSorted((a, b) => score(b) - score(a))
}

/** Most that a row may have in flight with one more request. */
const capOf = (rows: ReadonlyArray<Candidate>, row: Candidate, factor: number): number => {
  const sum = (each: (row: Candidate) => number): number => rows.reduce((total, one) => total + each(one), 0)
  return Math.ceil((factor * (sum((one) => one.inFlight) + 1) * row.speed) / sum((one) => one.speed))
}

const laws = [
  {
    id: "bounded-walk",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, request, fc.integer({ min: 1 }), bound, (rows, one, sessionLow, factor) => {
          const session = { ...one, sessionLow }
          const first = preference(rows, session).find(
            (i) => rows[i]!.inFlight < capOf(rows, rows[i]!, factor)
          )
          expect(subject(factor).pick(session, poolOf(rows), 0)).toBe(first!)
        })
      )
  },
  {
    // Each request that comes goes to a worker that is within its bound with it, whoever comes and goes in between.
    id: "bounded-load",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible,
          bound,
          fc.array(fc.tuple(fc.nat(20), fc.nat(255)), { maxLength: 60 }),
          (rows, factor, steps) => {
            const pool = poolOf(rows.map((row) => ({ ...row, inFlight: 0, capacity: 1000 })))
            const { inFlight, speed } = pool.workers
            const placement = subject(factor)
            for (const [session, mask] of steps) {
              setEligible(pool, (slot) => slot === 0 || ((mask >> slot) & 1) === 1)
              const slots = [...pool.eligible.subarray(0, pool.eligibleCount)]
              const picked = placement.pick(sessionOf(session + 1), pool, 0)
              inFlight[picked]!++
              const total = slots.reduce((sum, slot) => sum + inFlight[slot]!, 0)
              const speeds = slots.reduce((sum, slot) => sum + speed[slot]!, 0)
              expect(inFlight[picked]!).toBeLessThanOrEqual(
                Math.ceil((factor * total * speed[picked]!) / speeds)
              )
              for (const slot of slots)
                if (slot % 3 === mask % 3) inFlight[slot] = Math.max(0, inFlight[slot]! - 1)
            }
          }
        )
      )
  },
  {
    id: "bounded-disruption",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, fc.nat(), fc.integer({ min: 1 }), (rows, which, sessionLow) => {
          fc.pre(rows.length > 1)
          const idle = rows.map((row) => ({ ...row, inFlight: 0 }))
          const home = subject(1.25).pick(sessionOf(sessionLow), poolOf(idle), 0)
          const left = which % rows.length
          const without = idle.map((row, i) => ({ ...row, eligible: i !== left }))
          const next = subject(1.25).pick(sessionOf(sessionLow), poolOf(without), 0)
          if (home !== left) expect(next).toBe(home)
          else expect(next).toBe(preference(idle, sessionOf(sessionLow))[1]!)
        })
      )
  }
]

/** The first of a session's workers that `hasRoom` says has room, or else the least loaded one. */
const walking =
  (hasRoom: (pool: PoolView, slot: number, factor: number) => boolean): Subject =>
  (factor) => ({
    pick: (one, pool) => {
      const { keyHigh, keyLow, speed, inFlight } = pool.workers
      const slots = [...pool.eligible.subarray(0, pool.eligibleCount)]
      const score = (slot: number): number =>
        weightedScore(
          mix(mix(0, one.sessionHigh, one.sessionLow), keyHigh[slot]!, keyLow[slot]!),
          speed[slot]!
        )
      const walk = slots.toSorted((a, b) => score(b) - score(a))
      const least = slots.toSorted((a, b) => inFlight[a]! - inFlight[b]!)[0]!
      return walk.find((slot) => hasRoom(pool, slot, factor)) ?? least
    }
  })

const loadOf = ({
  workers,
  eligible,
  eligibleCount
}: PoolView): { readonly requests: number; readonly speeds: number } => {
  const slots = [...eligible.subarray(0, eligibleCount)]
  return {
    requests: slots.reduce((sum, slot) => sum + workers.inFlight[slot]!, 0),
    speeds: slots.reduce((sum, slot) => sum + workers.speed[slot]!, 0)
  }
}

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "leaves the request itself out of the load",
    "bounded-walk",
    walking((pool, slot, factor) => {
      const { requests, speeds } = loadOf(pool)
      return (
        pool.workers.inFlight[slot]! < Math.ceil((factor * requests * pool.workers.speed[slot]!) / speeds)
      )
    })
  ],
  [
    "lets a worker at its bound have one more",
    "bounded-load",
    walking((pool, slot, factor) => {
      const { requests, speeds } = loadOf(pool)
      return (
        pool.workers.inFlight[slot]! <=
        Math.ceil((factor * (requests + 1) * pool.workers.speed[slot]!) / speeds)
      )
    })
  ],
  [
    "gives every worker the same bound, whatever its speed",
    "bounded-load",
    walking((pool, slot, factor) => {
      const { requests } = loadOf(pool)
      return pool.workers.inFlight[slot]! < Math.ceil((factor * (requests + 1)) / pool.eligibleCount)
    })
  ],
  [
    "goes to the least loaded worker when the home is full",
    "bounded-walk",
    (factor) => ({
      pick: (one, pool, nowMs) => {
        const home = real(100).pick(one, pool, nowMs)
        const { inFlight } = pool.workers
        const picked = real(factor).pick(one, pool, nowMs)
        return picked === home
          ? home
          : [...pool.eligible.subarray(0, pool.eligibleCount)].toSorted(
              (a, b) => inFlight[a]! - inFlight[b]!
            )[0]!
      }
    })
  ],
  [
    "takes the session modulo the number of workers",
    "bounded-disruption",
    () => ({
      pick: ({ sessionLow }, { eligible, eligibleCount }) => eligible[sessionLow % eligibleCount]!
    })
  ]
]

describe("consistent-hash", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test("one session overflows to one worker after the other, in its order", () => {
  const rows = equalWorkers(4, { inFlight: 0 })
  const pool = poolOf(rows)
  const placement = real(1)
  const picks = Array.from({ length: 8 }, () => {
    const picked = placement.pick(sessionOf(5), pool, 0)
    pool.workers.inFlight[picked]!++
    return picked
  })
  const order = preference(rows, sessionOf(5))
  expect(picks).toEqual([...order, ...order])
})
