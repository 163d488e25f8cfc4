import { describe, expect, test } from "bun:test"
import { BatchPlacement } from "../../src/structures/BatchPlacement.ts"
import { TOTAL_MAX } from "../../src/structures/PrefixSum.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { loadsOf, requestsOf, sum, workersOf } from "../support/batches.ts"

const idle = { backlog: 0, speed: 1, headroom: Number.POSITIVE_INFINITY }
const roomFor = (...headrooms: ReadonlyArray<number>) =>
  headrooms.map((headroom) => ({ backlog: 0, speed: 1, headroom }))

const place = (
  costs: ReadonlyArray<number>,
  rows: ReadonlyArray<typeof idle>,
  order: ReadonlyArray<number> = [...rows.keys()],
  headShare?: number
): ReadonlyArray<number> => {
  const placed = new Int32Array(costs.length)
  const batch = { costs, rows, order }
  new BatchPlacement().place(requestsOf(batch), workersOf(batch), placed, headShare)
  return [...placed]
}

describe.each([
  ["scan", Number.POSITIVE_INFINITY],
  ["head and tail", 0.5],
  ["LPT", 0]
])("%s", (_, headShare) => {
  test.each([
    ["no request", [], [idle, idle], []],
    ["no worker", [0, 1, 2], [], [-1, -1, -1]],
    ["one worker", [5, 0, 7], [idle], [0, 0, 0]],
    ["a worker for each", [4, 4], [idle, idle], [0, 1]],
    ["a worker without room", [4, 4], roomFor(0, 9), [1, 1]],
    ["what does not fit, and all that follows", [2, 1, 8, 1], roomFor(5, 5), [0, 1, -1, -1]]
  ])("%s", (_, costs, rows, placed) => {
    expect(place(costs, rows, [...rows.keys()], headShare)).toEqual([...placed])
  })
})

test("the first worker gets what costs nothing where nothing costs anything", () => {
  expect(place([0, 0], [idle, idle, idle], [2, 0])).toEqual([2, 2])
})

test("a segment each, in the order of the workers", () => {
  expect(place([2, 2, 2, 2, 2, 2], [idle, idle, idle], [1, 2, 0])).toEqual([1, 1, 2, 2, 0, 0])
})

test("a request in the middle of two quotas goes to the second", () => {
  expect(place([2, 4, 2], [idle, idle])).toEqual([0, 1, 1])
})

test("a request too large for where it lies goes where it fits best", () => {
  // Quotas 4, 5, 9, 9: the second request begins in the first and has its middle in the second, which is too small for it.
  expect(place([3, 6, 6, 3, 9], roomFor(4, 5, 16, 40))).toEqual([0, 2, 2, 2, 3])
  expect(place([3, 6, 6, 3, 9], roomFor(4, 5, 12, 40))).toEqual([0, 3, 2, 2, 3])
})

test("a request that fits nowhere stays queued, also when smaller ones after it do not", () => {
  expect(place([4, 4, 2], roomFor(5, 5))).toEqual([0, -1, 1])
})

test("the costliest first to who finishes first, the others level what is left", () => {
  expect(place([1, 9, 1, 1, 6, 1, 1], [idle, idle], [0, 1], 0.5)).toEqual([0, 0, 1, 1, 1, 1, 1])
})

test("one object places batches of all sizes in turn", () => {
  const rng = makeRng(1)
  const placement = new BatchPlacement()
  for (const [requestCount, workerCount] of [
    [5, 3],
    [64, 64],
    [3000, 100],
    [7, 90],
    [0, 1],
    [2000, 1]
  ]) {
    const costs = Array.from({ length: requestCount! }, () => rng.int(100))
    const rows = Array.from({ length: workerCount! }, () => ({ ...idle, backlog: rng.int(50) }))
    const batch = { costs, rows, order: [...rows.keys()] }
    const placed = new Int32Array(requestCount!).fill(-9)
    expect(placement.place(requestsOf(batch), workersOf(batch), placed)).toBe(requestCount!)
    const finishes = loadsOf(batch, [...placed]).map((load, k) => load + rows[k]!.backlog)
    expect(sum(finishes)).toBe(sum(costs) + sum(rows.map(({ backlog }) => backlog)))
    for (const [k, finish] of finishes.entries())
      expect(finish).toBeLessThanOrEqual(Math.max(placement.level, rows[k]!.backlog) + 100)
  }
})

test("refuses what does not add up exactly", () => {
  expect(() => place([TOTAL_MAX, 1], [idle])).toThrow("2⁵²")
  expect(() => place([1], [{ ...idle, backlog: TOTAL_MAX }])).toThrow("2⁵²")
  expect(() => place([0.5], [idle])).toThrow("whole")
  expect(place([TOTAL_MAX - 1, 1], [idle, idle])).toEqual([0, 1])
})

test("leaves what lies beyond the batch alone", () => {
  const placed = Int32Array.of(7, 7, 7)
  const batch = { costs: [1, 1, 1], rows: [idle], order: [0] }
  const requests = { ...requestsOf(batch), count: 2 }
  expect(new BatchPlacement().place(requests, workersOf(batch), placed)).toBe(2)
  expect([...placed]).toEqual([0, 0, 7])
})
