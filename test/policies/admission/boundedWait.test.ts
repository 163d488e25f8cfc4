import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { emptyQueue, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Make = () => Admission

const INTERVAL_MS = 1000
const TARGET_MS = 250
const pool = poolOf(equalWorkers(2, { eligible: false }))

const bounded: Make = () =>
  findAdmission("bounded-wait").make({ interval: INTERVAL_MS, target: TARGET_MS }, makeRng(1))

/** What an arrival meets: after a pause, so many in the queue, and a wait. */
const arrival = fc.record({
  pauseMs: fc.constantFrom(0, 10, 100, 400, 999, 1001),
  queuedCount: fc.constantFrom(0, 1, 5, 1000),
  expectedWaitMs: fc.constantFrom(0, 100, 249, 250, 251, 600, 1000, 1001, 5000, Number.POSITIVE_INFINITY),
  rank: fc.nat(3)
})

const laws = [
  {
    id: "bounded-wait-rule",
    statement:
      "lets in exactly what waits an interval at most, or the target once no arrival has met an empty queue for longer than an interval",
    check: (make: Make) =>
      holds(
        fc.property(fc.array(arrival, { maxLength: 30 }), (arrivals) => {
          const admission = make()
          const emptyAtMs: Array<number> = []
          let nowMs = 0
          for (const [i, { pauseMs, queuedCount, expectedWaitMs, rank }] of arrivals.entries()) {
            nowMs += pauseMs
            if (i === 0 || queuedCount === 0) emptyAtMs.push(nowMs)
            const queue = { ...emptyQueue, queuedCount, expectedWaitMs }
            const refusal = admission.decide({ ...oneRequest, class: rank }, pool, queue, nowMs)
            const stands = emptyAtMs.every((atMs) => nowMs - atMs > INTERVAL_MS)
            const allowedMs = (stands ? TARGET_MS : INTERVAL_MS) * [1, 0.9, 0.7, 0.7][rank]!
            const unknown = expectedWaitMs === Number.POSITIVE_INFINITY
            expect(refusal?.reason).toBe(
              unknown || expectedWaitMs <= allowedMs ? undefined : Reason.waitTooLong
            )
          }
        })
      )
  }
]

const refusing = (
  refuses: (waitMs: number, nowMs: number, queued: number, ceiling: number) => boolean
): Admission => ({
  decide: (one, _pool, { expectedWaitMs, queuedCount }, nowMs) =>
    refuses(expectedWaitMs, nowMs, queuedCount, [1, 0.9, 0.7, 0.7][one.class]!)
      ? { reason: Reason.waitTooLong, retryAfterMs: 100 }
      : null
})

/** The allowed wait, whether the queue stands. */
const allows = (stands: boolean): number => (stands ? TARGET_MS : INTERVAL_MS)

const defects: ReadonlyArray<Planted<Make>> = [
  [
    "allows every queue an interval",
    "bounded-wait-rule",
    () => refusing((waitMs, _now, _queued, ceiling) => waitMs > INTERVAL_MS * ceiling && waitMs < Infinity)
  ],
  [
    "takes a queue for standing that was empty a moment ago",
    "bounded-wait-rule",
    () =>
      refusing((waitMs, _now, queued, ceiling) => waitMs > allows(queued > 0) * ceiling && waitMs < Infinity)
  ],
  [
    "forgets that the queue was empty",
    "bounded-wait-rule",
    () => {
      let firstMs = Number.NaN
      return refusing((waitMs, nowMs, _queued, ceiling) => {
        if (Number.isNaN(firstMs)) firstMs = nowMs
        return waitMs > allows(nowMs - firstMs > INTERVAL_MS) * ceiling && waitMs < Infinity
      })
    }
  ],
  [
    "refuses when it knows nothing",
    "bounded-wait-rule",
    () => {
      let emptyMs = Number.NaN
      return refusing((waitMs, nowMs, queued, ceiling) => {
        if (queued === 0 || Number.isNaN(emptyMs)) emptyMs = nowMs
        return waitMs > allows(nowMs - emptyMs > INTERVAL_MS) * ceiling
      })
    }
  ]
]

describe("bounded-wait", () => keepsAll(laws, bounded))
describe("planted defects", () => findsAll(laws, defects))

test("what has waited longer than a new request may is dropped, unless it was placed before", () => {
  const policy = bounded()
  const queue = (queuedCount: number) => ({ ...emptyQueue, queuedCount })
  const waited = { ...oneRequest, arrivedMs: 0 }
  policy.decide(oneRequest, pool, queue(0), 0)
  expect(policy.isOverdue!(waited, INTERVAL_MS)).toBe(false)
  // From here on the queue stands.
  expect(policy.isOverdue!({ ...waited, arrivedMs: INTERVAL_MS }, INTERVAL_MS + TARGET_MS + 1)).toBe(true)
  expect(policy.isOverdue!({ ...waited, arrivedMs: INTERVAL_MS }, INTERVAL_MS + TARGET_MS)).toBe(false)
  expect(policy.isOverdue!({ ...waited, attempt: 2 }, 60_000)).toBe(false)
  policy.decide(oneRequest, pool, queue(0), 60_000)
  expect(policy.isOverdue!({ ...waited, arrivedMs: 60_000 - INTERVAL_MS }, 60_000)).toBe(false)
})
