import { expect, test } from "bun:test"
import { scalingView } from "../../src/actors/scalingView.ts"
import type { Demand } from "../../src/policies/DemandMeter.ts"
import { equalWorkers, poolOf } from "../support/pools.ts"

const demand: Demand = {
  periodMs: 15_000,
  arrivalsPerSecond: 2,
  serviceMs: 900,
  ttftMsP95: 80,
  inFlight: 1.8,
  queued: 3,
  queuedPromptTokens: 4000
}
const { workers } = poolOf([
  ...equalWorkers(1, {
    capacity: 10,
    kvUsedTokens: 50,
    kvCapacityTokens: 100,
    pendingPrefillTokens: 1000,
    pendingPrefillAttention: 0,
    prefillTokenMs: 0.1
  }),
  ...equalWorkers(1, {
    capacity: 30,
    kvUsedTokens: 0,
    kvCapacityTokens: 100,
    pendingPrefillTokens: 0,
    pendingPrefillAttention: 0,
    prefillTokenMs: 0.3
  })
])
const bounds = { starting: 1, min: 1, max: 4, coldStartMs: 700 }

test("is the demand, and means over the workers that take work", () => {
  const { queuedPromptTokens: _, ...figures } = demand
  expect(scalingView(demand, { ready: [0, 1], ...bounds }, workers)).toEqual({
    ...figures,
    ...bounds,
    ready: 2,
    capacity: 20,
    kvUse: 0.25,
    // 100 ms pending at one of two, and 4,000 tokens at 0.2 ms for both.
    backlogMs: expect.closeTo(50 + 400, 9)
  })
})

test("knows nothing of workers while there are none", () => {
  const { ready, capacity, kvUse, backlogMs } = scalingView(demand, { ready: [], ...bounds }, workers)
  expect([ready, capacity, kvUse, backlogMs]).toEqual([0, Number.NaN, Number.NaN, Number.NaN])
})
