import { expect, test } from "bun:test"
import { Reason } from "../../../src/domain/Outcome.ts"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

const policy = findOrdering("start-time-fair")
const pool = poolOf(equalWorkers(1))
const begin = (): OrderingLife => new OrderingLife(policy.make({ outputPrice: 0 }, makeRng(1)), pool)

const take = (life: OrderingLife, count: number): string =>
  Array.from({ length: count }, () => life.at(life.take()).tenant).join("")

test("requests go by start tags: cost ÷ weight after the one before", () => {
  const life = begin()
  for (let slot = 0; slot < 20; slot++)
    life.arrive(slot, { tenant: slot % 2, promptTokens: 30, weight: slot % 2 === 0 ? 1 : 3 })
  expect(take(life, 8)).toBe("01110111")
})

test("a tenant that comes late begins at virtual time, not at 0", () => {
  const life = begin()
  for (let slot = 0; slot < 9; slot++) life.arrive(slot, { tenant: 0, promptTokens: 10 })
  expect(take(life, 4)).toBe("0000")
  for (let slot = 10; slot < 15; slot++) life.arrive(slot, { tenant: 1, promptTokens: 10 })
  expect(take(life, 6)).toBe("101010")
})

test("once all have ended everybody begins at the same tag", () => {
  const life = begin()
  life.arriveAtOnce(0, { tenant: 0, promptTokens: 100 })
  life.end(0, Reason.none)
  for (let slot = 0; slot < 4; slot++) life.arrive(slot, { tenant: 0, promptTokens: 10 })
  for (let slot = 10; slot < 14; slot++) life.arrive(slot, { tenant: 1, promptTokens: 10 })
  expect(take(life, 4)).toBe("0101")
})

test("a lost attempt gives its tenant back what it cost, and no more", () => {
  const life = begin()
  for (let slot = 0; slot < 8; slot++) life.arrive(slot, { tenant: slot % 2, promptTokens: 10 })
  expect(take(life, 4)).toBe("0101")
  for (const slot of [0, 1, 2, 3]) life.place(slot)
  life.lose(0)
  life.lose(2)
  expect(take(life, 6)).toBe("001010")
})

test("a request that is dropped when its turn has come costs its tenant nothing", () => {
  const life = begin()
  life.arrive(0, { tenant: 0, promptTokens: 100 })
  for (let slot = 1; slot < 8; slot++) life.arrive(slot, { tenant: slot % 2, promptTokens: 10 })
  expect(life.take()).toBe(0)
  life.drop(0)
  expect(take(life, 6)).toBe("101010")
})
