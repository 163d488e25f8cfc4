import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { Rejection } from "../../../src/policies/Admission.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { emptyQueue, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

const queueBounds = findAdmission("queue-bounds")
const busy = poolOf(equalWorkers(4, { eligible: false }))
const free = poolOf(equalWorkers(4))

interface Asked {
  readonly options?: Readonly<Record<string, number>>
  readonly seed?: number
  readonly rank?: number
  readonly pool?: typeof busy
}

const decide = (
  queuedCount: number,
  expectedWaitMs: number,
  { options = {}, seed = 1, rank = 0, pool = busy }: Asked = {}
): Rejection | null =>
  queueBounds
    .make(options, makeRng(seed))
    .decide({ ...oneRequest, class: rank }, pool, { ...emptyQueue, queuedCount, expectedWaitMs }, 0)

describe("the bounds are exact", () => {
  test.each([
    ["below both", 4095, 30_000, undefined],
    ["queue full", 4096, 0, Reason.queueFull],
    ["just above the wait", 0, 30_000.001, Reason.waitTooLong],
    ["above both: the queue comes first", 4096, 30_001, Reason.queueFull],
    ["a burst on a pool without a worker: the wait is unknown", 4095, Number.POSITIVE_INFINITY, undefined],
    ["no worker and the queue full", 4096, Number.POSITIVE_INFINITY, Reason.queueFull]
  ])("%s", (_, queuedCount, expectedWaitMs, reason) => {
    expect(decide(queuedCount, expectedWaitMs)?.reason).toBe(reason)
  })

  test("for any options and any class", () => {
    holds(
      fc.property(
        fc.nat(50),
        fc.nat(50),
        fc.nat(1000),
        fc.nat(1000),
        fc.nat(4),
        (queued, maxQueued, waitMs, maxWait, rank) => {
          const admitted = decide(queued, waitMs, { options: { maxQueued, maxWait }, rank }) === null
          const ceiling = [1, 0.9, 0.7][Math.min(rank, 2)]!
          expect(admitted).toBe(queued < maxQueued * ceiling && waitMs <= maxWait * ceiling)
        }
      )
    )
  })

  test("a request that need not wait is let in whatever the queue may hold", () => {
    const options = { maxQueued: 0 }
    expect(decide(0, 0, { options, pool: free })).toBeNull()
    expect(decide(0, 0, { options })?.reason).toBe(Reason.queueFull)
    expect(decide(1, 0, { options, pool: free })?.reason).toBe(Reason.queueFull)
  })
})

describe("retry-after", () => {
  test("is one to two times the expected wait, between 100 ms and two minutes", () => {
    holds(
      fc.property(fc.nat(), fc.double({ min: 0, max: 200_000, noNaN: true }), (seed, waitMs) => {
        const { retryAfterMs } = decide(4096, waitMs, { seed })!
        const predictedMs = Math.min(Math.max(waitMs, 100), 60_000)
        expect(retryAfterMs).toBeGreaterThanOrEqual(Math.ceil(predictedMs))
        expect(retryAfterMs).toBeLessThanOrEqual(Math.ceil(2 * predictedMs))
      })
    )
  })

  test("is at least maxWait while the wait is unknown", () => {
    expect(decide(4096, Number.POSITIVE_INFINITY)!.retryAfterMs).toBeGreaterThanOrEqual(30_000)
  })

  test("differs between clients refused at the same moment", () => {
    const admission = queueBounds.make({}, makeRng(1))
    const view = { ...emptyQueue, queuedCount: 4096, expectedWaitMs: 1000 }
    const waits = Array.from({ length: 100 }, () => admission.decide(oneRequest, busy, view, 0)!.retryAfterMs)
    expect(new Set(waits).size).toBeGreaterThan(80)
  })
})
