import { expect, test } from "bun:test"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

const policy = findOrdering("deficit-round-robin")
const pool = poolOf(equalWorkers(1))
const begin = (quantum: number): OrderingLife =>
  new OrderingLife(policy.make({ quantum, outputPrice: 0 }, makeRng(1)), pool)

test("a turn serves what the quantum covers, and what is left of it counts in the next", () => {
  const life = begin(25)
  for (let slot = 0; slot < 12; slot++)
    life.arrive(slot, { tenant: slot % 2, promptTokens: slot % 2 === 0 ? 10 : 25 })
  expect(Array.from({ length: 12 }, () => life.take() % 2).join("")).toBe("001000101111")
})

test("rounds in which nobody can be served are not walked", () => {
  const life = begin(1)
  for (let slot = 0; slot < 4; slot++)
    life.arrive(slot, { tenant: slot, promptTokens: 1_000_000_000 - slot, weight: slot === 0 ? 1 : 0.5 })
  expect([life.take(), life.take(), life.take(), life.take()]).toEqual([3, 2, 1, 0])
})

test("a request that found no room, and one that was lost, go first when it is their turn, and are paid for once", () => {
  const life = begin(10)
  for (let slot = 0; slot < 8; slot++) life.arrive(slot, { tenant: slot % 2, promptTokens: 10 })
  expect([life.take(), life.take()]).toEqual([0, 1])
  life.putBack(1)
  expect(life.take()).toBe(1)
  life.place(0)
  life.lose(0)
  expect(Array.from({ length: 7 }, () => life.take())).toEqual([0, 2, 3, 4, 5, 6, 7])
})

test("a request that is dropped when its turn has come costs its tenant nothing", () => {
  const life = begin(20)
  for (let slot = 0; slot < 8; slot++) life.arrive(slot, { tenant: slot % 2, promptTokens: 20 })
  expect(life.take()).toBe(0)
  life.drop(0)
  expect(Array.from({ length: 4 }, () => life.take())).toEqual([2, 1, 4, 3])
})
