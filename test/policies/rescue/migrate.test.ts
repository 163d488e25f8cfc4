import { expect, test } from "bun:test"
import { migrate } from "../../../src/policies/rescue/migrate.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { PlacedRequests } from "../../support/placed.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

/** Workers with room for 1,000 tokens, and requests of `promptTokens` and no answer to speak of. */
const made = (isRefused = false) => {
  const pool = poolOf(equalWorkers(3, { inFlight: 0, kvCapacityTokens: 1000 }))
  return new PlacedRequests(migrate.make({}, makeRng(1)), pool, isRefused)
}
const held = (promptTokens: number) => ({ promptTokens, maxTokens: 1 })

test("moves the largest request that does not turn the difference around, from the fullest to the emptiest", () => {
  const placed = made()
  for (const [i, tokens] of [350, 100, 530].entries()) placed.stream(0, 3 - i, held(tokens))
  placed.stream(1, 0, held(100))
  expect(placed.review(5)).toEqual(["migrate 0 2"])
})

test("fills nobody above the threshold", () => {
  const placed = made()
  for (const worker of [0, 1, 2]) placed.stream(worker, 0, held(500))
  for (const tokens of [450, 450]) placed.stream(0, 0, held(tokens))
  // 1.4 to 0.5 would become 0.95 to 0.95, or 0.9 to 1.
  expect(placed.review(1)).toEqual([])
})

test("leaves alone what is not above the threshold, and what has not started", () => {
  const placed = made()
  for (const tokens of [400, 395]) placed.stream(0, 0, held(tokens))
  expect(placed.review(1)).toEqual([])
  placed.place(0, 0, held(100))
  placed.place(0, 0, held(300))
  expect(placed.review(1).map((asked) => asked.slice(0, 9))).toEqual(["migrate 0"])
})

test("moves each request once, and tries again where it was refused", () => {
  const kinds = (placed: PlacedRequests, reviews: number) =>
    Array.from({ length: reviews }, (_, i) => placed.review(i)[0]?.slice(0, 9))
  const placed = made()
  for (const tokens of [420, 410, 60]) placed.stream(0, 0, held(tokens))
  // To this policy it looks as if the request came back each time.
  expect(kinds(placed, 4)).toEqual(["migrate 0", "migrate 1", "migrate 2", undefined])
  const refused = made(true)
  for (const tokens of [420, 410, 60]) refused.stream(0, 0, held(tokens))
  expect(kinds(refused, 2)).toEqual(["migrate 0", "migrate 0"])
})
