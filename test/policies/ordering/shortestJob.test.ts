import { expect, test } from "bun:test"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { meanFlowLaw, shortestAgingLaw } from "../../laws/sequencingLaws.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { chainOf, equalWorkers, poolOf } from "../../support/pools.ts"

const { make } = findOrdering("shortest-job")
const subject = { make: (options: Parameters<typeof make>[0]) => make(options, makeRng(1)) }

test(shortestAgingLaw.statement, () => shortestAgingLaw.check(subject))

test(meanFlowLaw.statement, () => meanFlowLaw.check(subject))

test("short requests that keep coming hold a long one up for its cost ÷ aging, and no longer", () => {
  const aging = 1000
  const life = new OrderingLife(make({ aging, outputPrice: 0 }, makeRng(1)), poolOf(equalWorkers(1)))
  life.arrive(0, { promptTokens: 2001 })
  for (let slot = 1; ; slot++) {
    life.nowMs++
    life.arrive(slot, { promptTokens: 1 })
    if (life.take() === 0) break
  }
  expect(life.nowMs).toBe(2000)
})

test("a long prompt that a worker holds is short", () => {
  const pool = poolOf(equalWorkers(2, { cachedTokens: 10_240 }))
  const life = new OrderingLife(make({}, makeRng(1)), pool)
  life.arrive(0, { promptTokens: 1000 })
  life.arrive(1, { promptTokens: 10_300, chain: chainOf(Array.from({ length: 40 }, (_, i) => i)) })
  expect(life.take()).toBe(1)
})
