import { expect, test } from "bun:test"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"
import { exponential, responseMsMean, serve } from "../../support/queueing.ts"

const powerOfTwo = findPlacement("power-of-two")

test.each([1, 2, 3, 5, 16])("d = %d: the pick is the least of d distinct samples", (d) => {
  sampleLaw(d).check({ ...powerOfTwo, make: (_, rng) => powerOfTwo.make({ d }, rng) })
})

test("the default is d = 2", () => sampleLaw(2).check(powerOfTwo))

test("with d workers or fewer it is the least loaded for its speed", () => {
  const rows = equalWorkers(3).map((row, i) => ({ ...row, inFlight: 1 + i, speed: (1 + i) ** 2 }))
  const placement = powerOfTwo.make({ d: 3 }, makeRng(1))
  for (let i = 0; i < 100; i++) expect(placement.pick(oneRequest, poolOf(rows), 0)).toBe(2)
})

test.each([
  [1, 5],
  [2, 5],
  [3, 5],
  [16, 5]
])("d = %d: of %d workers it compared d, or all, and picked the least loaded of these", (d, count) => {
  const pool = poolOf(equalWorkers(count).map((row, i) => ({ ...row, inFlight: i })))
  const placement = powerOfTwo.make({ d }, makeRng(3))
  for (let i = 0; i < 100; i++) {
    const picked = placement.pick(oneRequest, pool, 0)
    const compared = pool.workers.inFlight.filter((_, worker) => placement.compared!(worker, pool))
    expect(compared.length).toBe(Math.min(d, count))
    expect(pool.workers.inFlight[picked]).toBe(Math.min(...compared))
  }
})

// The supermarket model, for as many workers as one likes: T = Σ λ^(2^i − 2) over i ≥ 1, in service times.
test.each([
  [0.5, 1.2657],
  [0.9, 2.6141]
])("at a load of %d a request takes %d service times, to within four percent", (load, expected) => {
  const served = serve(powerOfTwo, {
    workers: 200,
    load,
    arrivals: 100_000,
    promptTokens: (rng) => 100 * exponential(rng),
    promptTokensMean: 100
  })
  expect(Math.abs(responseMsMean(served) / 100 / expected - 1)).toBeLessThan(0.04)
})

// Azar et al.: the fullest of n bins holds (1 + o(1)) ln n / ln ln n balls for d = 1, ln ln n / ln d + O(1) for d ≥ 2.
test.each([
  [1, 6, 10],
  [2, 3, 4],
  [3, 2, 3]
])("d = %d: 100 000 requests on as many idle workers leave %d to %d on the fullest", (d, least, most) => {
  const pool = poolOf(equalWorkers(100_000, { inFlight: 0 }))
  const placement = powerOfTwo.make({ d }, makeRng(2))
  for (let i = 0; i < 100_000; i++) pool.workers.inFlight[placement.pick(oneRequest, pool, 0)]!++
  const fullest = pool.workers.inFlight.reduce((a, b) => Math.max(a, b))
  expect(fullest).toBeGreaterThanOrEqual(least)
  expect(fullest).toBeLessThanOrEqual(most)
})
