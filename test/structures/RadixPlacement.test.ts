import { expect, test } from "bun:test"
import { sharedBlocks } from "../../src/structures/RadixOrder.ts"
import { RadixPlacement } from "../../src/structures/RadixPlacement.ts"
import { workersOf } from "../support/batches.ts"
import { chainOf } from "../support/pools.ts"

const roomFor = (...headrooms: ReadonlyArray<number>) =>
  workersOf({
    costs: [],
    rows: headrooms.map((headroom) => ({ backlog: 0, speed: 1, headroom })),
    order: [...headrooms.keys()]
  })

/** Chains of numbers that stand for all before them, a block being 10 tokens and 1 more for each prompt. */
const place = (
  chains: ReadonlyArray<ReadonlyArray<number>>,
  workers: ReturnType<typeof roomFor>
): ReadonlyArray<number> => {
  const placed = new Int32Array(chains.length)
  const requests = {
    count: chains.length,
    cost: Float64Array.from(chains, (chain) => 10 * chain.length + 1),
    requests: chains.map((chain) => ({ chain: chainOf(chain) })),
    blockCost: 10
  }
  const count = new RadixPlacement().place(requests, workers, placed)
  expect(count).toBe(placed.filter((slot) => slot >= 0).length)
  return [...placed]
}

const anyRoom = roomFor(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)

test("prompts that begin alike go together", () => {
  const [a, b] = [
    [1, 2, 3],
    [4, 5, 6]
  ]
  const placed = place([a, b, a, b, a, b], anyRoom)
  expect(new Set([placed[0], placed[2], placed[4]]).size).toBe(1)
  expect(new Set([placed[1], placed[3], placed[5]]).size).toBe(1)
  expect(placed[0]).not.toBe(placed[1])
})

test("prompts that share nothing, and those without a chain, are dealt out by cost", () => {
  expect(place([[1], [2], [3], [4]], anyRoom).filter((slot) => slot === 0)).toHaveLength(2)
  expect(place([[], [], [], []], anyRoom)).toEqual([0, 0, 1, 1])
})

test("no request, no worker", () => {
  expect(place([], anyRoom)).toEqual([])
  expect(place([[1], []], roomFor())).toEqual([-1, -1])
})

test("the first requests whose distinct work fits are admitted", () => {
  // 21 + 1 + 1 for the same prompt three times, then 11 for another.
  expect(place([[1, 2], [1, 2], [1, 2], [9]], roomFor(23))).toEqual([0, 0, 0, -1])
  expect(place([[1, 2], [1, 2], [1, 2], [9]], roomFor(34))).toEqual([0, 0, 0, 0])
  expect(place([[1, 2], [9], [1, 2]], roomFor(31))).toEqual([0, -1, -1])
})

test("refuses a request that costs less than its blocks", () => {
  const requests = { count: 2, cost: Float64Array.of(5, 5), blockCost: 10 }
  const same = { chain: chainOf([1]) }
  expect(() =>
    new RadixPlacement().place({ ...requests, requests: [same, same] }, anyRoom, new Int32Array(2))
  ).toThrow("not negative")
})

test("chains share their leading blocks, as far as the shorter goes", () => {
  const [short, long, other] = [chainOf([1, 2]), chainOf([1, 2, 3]), chainOf([1, 4])]
  expect([short, long, other].map((chain) => sharedBlocks(long, chain))).toEqual([2, 3, 1])
  expect(sharedBlocks({ ...short, count: 1 }, long)).toBe(1)
})
