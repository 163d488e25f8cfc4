import { expect, test } from "bun:test"
import { preempt } from "../../../src/policies/rescue/preempt.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { PlacedRequests } from "../../support/placed.ts"
import { equalWorkers, poolOf, setEligible } from "../../support/pools.ts"

const fullPool = (isRefused = false) => {
  const pool = poolOf(equalWorkers(2, { inFlight: 0 }))
  setEligible(pool, () => false)
  return new PlacedRequests(preempt.make({}, makeRng(1)), pool, isRefused)
}

test("takes back the least urgent class first, and of it what was placed last, then what has the higher id", () => {
  const placed = fullPool()
  placed.place(0, 50, { class: 1, idLow: 1 })
  placed.place(0, 10, { class: 2, idLow: 2 })
  placed.place(1, 20, { class: 2, idLow: 3 })
  placed.place(1, 20, { class: 2, idLow: 4 })
  placed.queue({ slot: 9, class: 0 })
  // The world gives nobody back, so that it asks for the next best when one was asked for twice.
  const asked = placed.review(100)
  expect(asked).toEqual(["3", "3", "2", "2", "1", "1", "0", "0"].map((slot) => `requeue ${slot}`))
})

test("takes back no request more than twice, also where it was refused", () => {
  for (const isRefused of [false, true]) {
    const placed = fullPool(isRefused)
    placed.place(0, 0, { class: 1 })
    placed.queue({ slot: 9, class: 0 })
    expect(placed.review(1)).toHaveLength(2)
    expect(placed.review(2)).toEqual([])
  }
})

test("does nothing while there is room, nobody waits, or only an equal class does", () => {
  const roomy = new PlacedRequests(preempt.make({}, makeRng(1)), poolOf(equalWorkers(2, { inFlight: 0 })))
  roomy.place(0, 0, { class: 1 })
  roomy.queue({ slot: 9, class: 0 })
  expect(roomy.review(1)).toEqual([])
  const placed = fullPool()
  placed.place(0, 0, { class: 1 })
  expect(placed.review(1)).toEqual([])
  placed.queue({ slot: 9, class: 1 })
  expect(placed.review(2)).toEqual([])
})

test("classes beyond the last one told apart count as that one", () => {
  const placed = fullPool()
  placed.place(0, 0, { class: 1000 })
  placed.queue({ slot: 9, class: 255 })
  expect(placed.review(1)).toEqual([])
  placed.queue({ slot: 10, class: 254 })
  expect(placed.review(2)).toHaveLength(2)
})
