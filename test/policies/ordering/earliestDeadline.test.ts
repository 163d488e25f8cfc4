import { expect, test } from "bun:test"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { deadlinesLaw, lateLaw } from "../../laws/sequencingLaws.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

const { make } = findOrdering("earliest-deadline")
const subject = { make: (options: Parameters<typeof make>[0]) => make(options, makeRng(1)) }
const pool = poolOf(equalWorkers(2))

const order = (deadlines: ReadonlyArray<number>, nowMs = 0): Array<number> => {
  const life = new OrderingLife(make({ horizon: 60_000 }, makeRng(1)), pool)
  for (const [slot, deadlineMs] of deadlines.entries()) life.arrive(slot, { deadlineMs, maxTokens: 1 })
  life.nowMs = nowMs
  return deadlines.map(() => life.take())
}

test(deadlinesLaw.statement, () => deadlinesLaw.check(subject))

test(lateLaw.statement, () => lateLaw.check(subject))

test.each([
  ["before the arrival", -1e300],
  ["of 0", 0]
])("a deadline %s is too late already", (_, deadlineMs) => {
  expect(order([deadlineMs, 5_000, 20_000])).toEqual([1, 2, 0])
})

test.each([
  ["of 1e300", 1e300],
  ["that is no number", Number.NaN],
  ["that is infinite", Number.POSITIVE_INFINITY]
])("a deadline %s counts as the horizon", (_, deadlineMs) => {
  expect(order([deadlineMs, 59_999, 60_001])).toEqual([1, 0, 2])
})

test("what is late is served by deadline when nothing else waits, and a worker is not kept idle", () => {
  expect(order([3_000, 1_000, 2_000], 10_000)).toEqual([1, 2, 0])
})

test("without an eligible worker only deadlines that have passed are late", () => {
  const none = poolOf(equalWorkers(2, { eligible: false }))
  const life = new OrderingLife(make({}, makeRng(1)), none)
  life.arrive(0, { promptTokens: 1_000_000, deadlineMs: 10 })
  life.arrive(1, { promptTokens: 1, deadlineMs: 5 })
  life.nowMs = 7
  expect([life.take(), life.take()]).toEqual([0, 1])
})
