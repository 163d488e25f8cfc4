import { expect, test } from "bun:test"
import { PairDeficits } from "../../src/policies/PairDeficits.ts"

test("a pair spends its quantum, and has it again by rounds and never more", () => {
  const pairs = new PairDeficits()
  expect(pairs.at(1, 2, 0, 100)).toBe(100)
  pairs.charge(1, 2, 0, 100, 250)
  expect([pairs.at(1, 2, 0, 100), pairs.at(2, 1, 0, 100)]).toEqual([-150, 100])
  expect(pairs.at(1, 2, 1, 100)).toBe(-50)
  expect(pairs.at(1, 2, 7, 100)).toBe(100)
  pairs.charge(1, 2, 7, 100, 30)
  expect(pairs.at(1, 2, 7, 100)).toBe(70)
})

test("beyond 65,536 pairs the one that was charged first is forgotten", () => {
  const pairs = new PairDeficits()
  for (let worker = 0; worker < 65_536; worker++) pairs.charge(0, worker, 0, 10, 10)
  pairs.charge(1, 0, 0, 10, 10)
  expect([pairs.at(0, 0, 0, 10), pairs.at(0, 1, 0, 10), pairs.at(1, 0, 0, 10)]).toEqual([10, 0, 0])
})
