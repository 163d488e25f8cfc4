import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { holds } from "../support/arbitraries.ts"
import { evennessRatio } from "../support/chiSquare.ts"

const draws = (rng: Rng, count: number): Array<number> =>
  Array.from({ length: count }, () => rng.int(2 ** 32))

// Seeds in bug reports and in benchmarks mean these sequences.
test("golden sequence of seed 1", () => {
  expect(draws(makeRng(1), 4)).toEqual([2693262067, 11749833, 2265367787, 4213581821])
})

test("a seed is taken modulo 2³² and decides the sequence", () => {
  holds(
    fc.property(fc.maxSafeInteger(), (seed) => {
      expect(draws(makeRng(seed), 8)).toEqual(draws(makeRng(seed), 8))
      expect(draws(makeRng(seed), 8)).toEqual(draws(makeRng(seed % 2 ** 32), 8))
    })
  )
})

test("next is in [0, 1) and int(n) in [0, n)", () => {
  holds(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 2 ** 32 }), (seed, bound) => {
      const rng = makeRng(seed)
      const [share, whole] = [rng.next(), rng.int(bound)]
      expect(share >= 0 && share < 1).toBe(true)
      expect(Number.isInteger(whole) && whole >= 0 && whole < bound).toBe(true)
    })
  )
})

test.each([2, 3, 10, 97])("int(%d) is uniform (χ² at 10⁻⁶)", (bound) => {
  const rng = makeRng(3)
  const counts = Array.from({ length: bound }, () => 0)
  for (let i = 0; i < 1000 * bound; i++) counts[rng.int(bound)]!++
  expect(evennessRatio(counts)).toBeLessThan(1)
})

test("pairs of successive draws are uniform (χ² at 10⁻⁶)", () => {
  const rng = makeRng(5)
  const counts = Array.from({ length: 256 }, () => 0)
  for (let i = 0; i < 100_000; i++) counts[rng.int(16) * 16 + rng.int(16)]!++
  expect(evennessRatio(counts)).toBeLessThan(1)
})

test("splits differ from each other, from their parent and from its other descendants", () => {
  for (const seed of [0, 1, 0xffffffff]) {
    const root = makeRng(seed)
    const family = [
      root,
      ...[0, 1, 2, 3].flatMap((purpose) => {
        const child = root.split(purpose)
        return [child, ...[0, 1, 2, 3].map((inner) => child.split(inner))]
      })
    ]
    expect(new Set(family.map((rng) => draws(rng, 2).join())).size).toBe(family.length)
  }
})

test("a split does not depend on what was drawn before, nor disturb what is drawn after", () => {
  const [fresh, used] = [makeRng(9), makeRng(9)]
  draws(used, 10)
  expect(draws(used.split(4), 5)).toEqual(draws(fresh.split(4), 5))
  expect(draws(used, 5)).toEqual(draws(makeRng(9), 15).slice(10))
})
