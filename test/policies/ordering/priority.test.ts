import { expect, test } from "bun:test"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { agingLaw } from "../../laws/sequencingLaws.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

const { make } = findOrdering("priority")
const pool = poolOf(equalWorkers(1))

test(agingLaw.statement, () => agingLaw.check({ make: (options) => make(options, makeRng(1)) }))

test("a request that has gained a class on another is equal to it, and the more urgent one goes first", () => {
  const life = new OrderingLife(make({ aging: 100 }, makeRng(1)), pool)
  life.arrive(0, { class: 2 })
  life.arrive(1, { class: 1 })
  life.nowMs = 100
  life.arrive(2, { class: 1 })
  life.nowMs = 200
  life.arrive(3, { class: 0 })
  life.arrive(4, { class: 2 })
  expect([life.take(), life.take(), life.take(), life.take(), life.take()]).toEqual([1, 3, 2, 0, 4])
})

test("urgent requests that keep coming hold another up for its class × aging", () => {
  const life = new OrderingLife(make({ aging: 100 }, makeRng(1)), pool)
  life.arrive(0, { class: 3 })
  for (let slot = 1; ; slot++) {
    life.nowMs++
    life.arrive(slot, { class: 0 })
    if (life.take() === 0) break
  }
  expect(life.nowMs).toBe(301)
})
