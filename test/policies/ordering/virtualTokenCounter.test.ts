import { expect, test } from "bun:test"
import { Reason } from "../../../src/domain/Outcome.ts"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { type Facts, OrderingLife } from "../../support/OrderingLife.ts"
import { chainOf, equalWorkers, poolOf } from "../../support/pools.ts"

const policy = findOrdering("virtual-token-counter")
const pool = poolOf(equalWorkers(1))

/** Ten requests each of two tenants, in the slots 0 to 9 and 10 to 19, that wait. */
const begin = (
  options: Parameters<typeof policy.make>[0],
  of: (slot: number) => Facts = () => ({})
): OrderingLife => {
  const life = new OrderingLife(policy.make(options, makeRng(1)), pool)
  for (let slot = 0; slot < 20; slot++)
    life.arrive(slot, { tenant: Math.floor(slot / 10), promptTokens: 10, ...of(slot) })
  return life
}

/** The tenants of the next requests, each placed with so many tokens to compute. */
const served = (life: OrderingLife, count: number, uncachedTokens?: number): string =>
  Array.from({ length: count }, () => {
    const slot = life.take()
    life.place(slot, uncachedTokens ?? life.at(slot).promptTokens)
    return life.at(slot).tenant
  }).join("")

test("equal tenants take turns by tokens: one with prompts four times as long has a quarter of the requests", () => {
  expect(
    served(
      begin({}, (slot) => ({ promptTokens: slot < 10 ? 40 : 10 })),
      10
    )
  ).toBe("0111101111")
})

test("a tenant of weight 3 gets three times the tokens", () => {
  expect(
    served(
      begin({}, (slot) => ({ weight: slot < 10 ? 3 : 1 })),
      8
    )
  ).toBe("01001000")
})

test("output counts as it comes, at its price", () => {
  const life = begin({ outputPrice: 2 })
  expect(served(life, 2)).toBe("01")
  life.start(0)
  life.produce(0, 15)
  expect(served(life, 4)).toBe("1110")
})

test("cached tokens are free, or all are charged", () => {
  const turns = (charge: string): string => {
    const life = begin({ charge })
    return served(life, 1, 0) + served(life, 1) + served(life, 2, 0)
  }
  expect(turns("uncached")).toBe("0100")
  expect(turns("all")).toBe("0101")
})

test("predicted output is charged ahead, and what does not come is given back", () => {
  const life = begin({ predict: true, outputPrice: 1 }, () => ({ maxTokens: 200 }))
  expect(served(life, 2)).toBe("01")
  life.start(10)
  life.produce(10, 1)
  life.end(10, Reason.none)
  // Tenant 1 has paid 11, tenant 0 has paid 110.
  expect(served(life, 2)).toBe("10")
})

test("a lost attempt costs its tenant nothing, a cancelled one what was computed for it", () => {
  const firstIsLong = (slot: number): Facts => ({ promptTokens: slot === 0 ? 40 : 10 })
  const lost = begin({}, firstIsLong)
  expect(served(lost, 2)).toBe("01")
  lost.lose(0)
  expect(served(lost, 3)).toBe("011")

  const cancelled = begin({}, firstIsLong)
  expect(served(cancelled, 2)).toBe("01")
  cancelled.end(0, Reason.cancelled)
  expect(served(cancelled, 4)).toBe("1110")
})

test("a tenant whose last request finds no room keeps its place, one that comes back later has none saved", () => {
  const life = new OrderingLife(policy.make({}, makeRng(1)), pool)
  life.arrive(0, { tenant: 0, promptTokens: 10 })
  for (const slot of [10, 11, 12]) life.arrive(slot, { tenant: 1, promptTokens: 10 })
  expect([life.take(), life.take()]).toEqual([0, 10])
  life.putBack(0)
  expect(life.take()).toBe(0)
  life.place(0)
  for (const slot of [11, 12]) expect(life.take()).toBe(slot)
  for (const slot of [13, 14, 15]) life.arrive(slot, { tenant: 1, promptTokens: 10 })
  for (const slot of [1, 2, 3]) life.arrive(slot, { tenant: 0, promptTokens: 10 })
  expect(served(life, 6)).toBe("101010")
})

test("within a tenant requests go by arrival, or the shortest first with what is cached left out", () => {
  const holding = poolOf(equalWorkers(1, { cachedTokens: 2560 }))
  const order = (within: string): Array<number> => {
    const life = new OrderingLife(policy.make({ within }, makeRng(1)), holding)
    life.arrive(0, { promptTokens: 900 })
    life.arrive(1, { promptTokens: 400 })
    life.arrive(2, { promptTokens: 2600, chain: chainOf([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) })
    return [life.take(), life.take(), life.take()]
  }
  expect(order("arrival")).toEqual([0, 1, 2])
  expect(order("shortest")).toEqual([2, 1, 0])
})
