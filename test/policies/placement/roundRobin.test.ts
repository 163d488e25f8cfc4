import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

const roundRobin = findPlacement("round-robin")

test("any k·N picks in a row give each of N workers exactly k", () => {
  holds(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 4 }),
      fc.nat(20),
      (seed, count, turns, before) => {
        const pool = poolOf(equalWorkers(count))
        const placement = roundRobin.make({}, makeRng(seed))
        for (let i = 0; i < before; i++) placement.pick(oneRequest, pool, 0)
        const counts = Array.from({ length: count }, () => 0)
        for (let i = 0; i < turns * count; i++) counts[placement.pick(oneRequest, pool, 0)]!++
        expect(counts).toEqual(counts.map(() => turns))
      }
    )
  )
})

test("keys at both ends of their range take their turns", () => {
  const ends = [0, 1, 0xfffffffe, 0xffffffff]
  const rows = ends.flatMap((keyHigh) => ends.map((keyLow) => ({ ...equalWorkers(1)[0]!, keyHigh, keyLow })))
  const pool = poolOf(rows)
  const placement = roundRobin.make({}, makeRng(1))
  const picks = rows.map(() => placement.pick(oneRequest, pool, 0))
  expect(new Set(picks).size).toBe(rows.length)
})

test("balancers with different seeds start at different workers", () => {
  const pool = poolOf(equalWorkers(8))
  const firsts = Array.from({ length: 100 }, (_, seed) =>
    roundRobin.make({}, makeRng(seed)).pick(oneRequest, pool, 0)
  )
  expect(new Set(firsts).size).toBeGreaterThan(4)
})
