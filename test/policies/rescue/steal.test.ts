import { expect, test } from "bun:test"
import { steal } from "../../../src/policies/rescue/steal.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { PlacedRequests } from "../../support/placed.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

/** 32,000 tokens take a second. */
const poolOfThree = () => poolOf(equalWorkers(3, { inFlight: 0, prefillTokenMs: 1 / 32 }))
const second = { promptTokens: 32_000 }
const made = (options = {}, pool = poolOfThree()) => new PlacedRequests(steal.make(options, makeRng(1)), pool)

test("takes the second oldest request of the worker with the most pending prefill time", () => {
  const placed = made()
  for (const [worker, sinceMs] of [
    [0, 30],
    [0, 10],
    [0, 20],
    [1, 0],
    [1, 1]
  ] as const)
    placed.place(worker, sinceMs, second)
  expect(placed.review(100)).toEqual(["move 2 2"])
})

test("of requests placed at one moment the one with the lower id is the older", () => {
  const placed = made()
  for (const id of [7, 5, 6]) placed.place(0, 0, { ...second, idLow: id })
  // One to each of the two thieves, but one at a time from the one victim.
  expect(placed.review(100)).toHaveLength(1)
  expect(placed.asked[0]).toStartWith("move 2 ")
})

test("leaves the request that is being computed, and what would save no more than `guard`", () => {
  const one = made()
  one.place(0, 0, { promptTokens: 320_000 })
  expect(one.review(100)).toEqual([])
  const close = made({ guard: 1000 })
  close.place(0, 0, second)
  close.place(0, 0, second)
  expect(close.review(100)).toEqual([])
  close.place(0, 0, { promptTokens: 32 })
  expect(close.review(100)).toHaveLength(1)
})

test("counts what the thief has cached, and the victim had, against the wait", () => {
  const workers = equalWorkers(2, { inFlight: 0, prefillTokenMs: 1 / 32 })
  const slow = [workers[0]!, { ...workers[1]!, prefillTokenMs: 1 }]
  const placed = made({}, poolOf(slow))
  placed.place(0, 0, second)
  placed.place(0, 0, second)
  // 32 s instead of 1 s, to save 1 s.
  expect(placed.review(100)).toEqual([])
})

test("moves a request twice at most", () => {
  const placed = made()
  placed.place(0, 0, second)
  placed.place(0, 1, second)
  placed.place(0, 2, second)
  // The moves are only asked for: to this policy it looks as if the request came back each time.
  expect([1, 2, 3, 4].map((nowMs) => placed.review(nowMs).length)).toEqual([1, 1, 0, 0])
})
