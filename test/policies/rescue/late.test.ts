import { describe, expect, test } from "bun:test"
import { hedge } from "../../../src/policies/rescue/hedge.ts"
import { requeueStragglers } from "../../../src/policies/rescue/requeueStragglers.ts"
import type { RescueEntry } from "../../../src/policies/Rescue.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { PlacedRequests } from "../../support/placed.ts"
import { type Candidate, equalWorkers, poolOf } from "../../support/pools.ts"

/** Where 32,000 tokens take a second, and a step nothing to speak of. */
const scene = (
  policy: RescueEntry,
  {
    options = {},
    row = {},
    foreseen = 100
  }: { options?: object; row?: Partial<Candidate>; foreseen?: number } = {}
) => {
  const pool = poolOf(equalWorkers(2, { inFlight: 0, prefillTokenMs: 1 / 32, baseMs: 1e-6, ...row }))
  const placed = new PlacedRequests(policy.make({ ...options }, makeRng(1)), pool)
  placed.foresee(foreseen, 0)
  return { placed, pool }
}

describe("requeue-stragglers", () => {
  test("compares what is left of the predicted wait with a start elsewhere", () => {
    const { placed } = scene(requeueStragglers)
    // 10 s are pending; elsewhere it would take 1 s.
    placed.place(0, 0, { promptTokens: 288_000 })
    placed.place(0, 0, { promptTokens: 32_000 })
    expect(placed.review(1999)).toEqual([])
    expect(placed.review(2001)).toEqual(["requeue 1"])
    const { placed: other } = scene(requeueStragglers)
    other.place(0, 0, { promptTokens: 288_000 })
    other.place(0, 0, { promptTokens: 32_000 })
    // 1.9 s are left, or so it seems; then it is late.
    expect(other.review(8100)).toEqual([])
    expect(other.review(9900)).toEqual([])
    expect(other.review(10_500)).toEqual(["requeue 1"])
  })

  test("before a hundred requests have started nobody is late", () => {
    for (const [foreseen, asked] of [
      [99, []],
      [100, ["requeue 0"]]
    ] as const) {
      const { placed } = scene(requeueStragglers, { foreseen })
      placed.place(0, 0, { promptTokens: 3200 })
      expect(placed.review(5000)).toEqual([...asked])
    }
  })

  test("takes none back without a budget", () => {
    const { placed } = scene(requeueStragglers, { options: { budget: 0 } })
    placed.place(0, 0)
    expect(placed.review(3000)).toEqual([])
  })

  test("takes a request back once", () => {
    const { placed } = scene(requeueStragglers)
    placed.place(0, 0)
    expect([3000, 4000].map((nowMs) => placed.review(nowMs).length)).toEqual([1, 0])
  })
})

describe("hedge", () => {
  test("copies nothing without a budget", () => {
    const { placed } = scene(hedge, { options: { budget: 0, tokenBudget: 1 } })
    placed.place(0, 0)
    expect(placed.review(60_000)).toEqual([])
  })

  test("copies what is late against its prediction, after the shortest wait", () => {
    const { placed } = scene(hedge)
    placed.place(0, 0, { promptTokens: 100 })
    expect(placed.review(999)).toEqual([])
    expect(placed.review(1001)).toEqual(["hedge 0 1"])
    expect(placed.review(2000)).toEqual([])
    const { placed: foreseen } = scene(hedge)
    foreseen.place(0, 0, { promptTokens: 320_000 })
    foreseen.place(0, 0, { promptTokens: 100 })
    expect(foreseen.review(9000)).toEqual([])
    expect(foreseen.review(11_000)).toEqual(["hedge 1 1"])
  })

  test("leaves it where nobody could start it within half the time it has waited", () => {
    const { placed } = scene(hedge, { options: { tokenBudget: 1 } })
    placed.place(0, 0, { promptTokens: 100 })
    placed.place(1, 3500, { promptTokens: 80_000 })
    expect(placed.review(4000)).toEqual([])
    expect(placed.review(4100)).toEqual(["hedge 0 1"])
  })

  test("pays for the tokens that the copy computes, also where fewer were to be computed by the first", () => {
    const { placed } = scene(hedge, { options: { tokenBudget: 0 } })
    placed.place(0, 0)
    expect(placed.review(5000)).toEqual([])
    const { placed: paid } = scene(hedge, { options: { tokenBudget: 0.05 } })
    // 5 % of 320,000 tokens, and of what it brings itself.
    paid.place(0, 0, { promptTokens: 17_000 })
    expect(paid.review(5000)).toEqual([])
    paid.place(0, 0, { promptTokens: 17_500 })
    expect(paid.review(6000)).toEqual(["hedge 0 1"])
  })

  test("counts the places of full workers as well", () => {
    const { placed, pool } = scene(hedge, { row: { capacity: 4 } })
    pool.workers.inFlight.set([3, 3])
    placed.place(0, 0)
    // 7 of 8 are taken: only the other worker is eligible, with one place of four free.
    Object.assign(pool, { eligible: Int32Array.of(1, 0), eligibleCount: 1 })
    expect(placed.review(5000)).toEqual([])
  })
})
