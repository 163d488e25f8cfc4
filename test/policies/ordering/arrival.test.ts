import { describe, expect, test } from "bun:test"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { arrivalOrder } from "../../laws/orderingLaws.ts"
import { OrderingLife } from "../../support/OrderingLife.ts"
import { equalWorkers, poolOf } from "../../support/pools.ts"

const arrival = findOrdering("arrival")
const pool = poolOf(equalWorkers(1))
const begin = (): OrderingLife => new OrderingLife(arrival.make({}, makeRng(1)), pool)

const drain = (life: OrderingLife): Array<number> => [...life.queued].map(() => life.take())

test(arrivalOrder.statement, () => arrivalOrder.check(arrival))

describe("order", () => {
  test("requests that arrive in the same millisecond are served as they were enqueued", () => {
    const life = begin()
    for (const slot of [7, 3, 5, 1]) life.arrive(slot, {})
    expect(drain(life)).toEqual([7, 3, 5, 1])
  })

  test("requests requeued in any order go before all that came after them, by arrival", () => {
    const life = begin()
    for (const slot of [0, 1, 2, 3, 4]) life.arrive(slot, { arrivedMs: slot })
    for (const slot of drain(life).slice(0, 3)) life.place(slot)
    for (const slot of [4, 3]) life.putBack(slot)
    for (const slot of [1, 0, 2]) life.lose(slot)
    expect(drain(life)).toEqual([0, 1, 2, 3, 4])
  })

  test("a requeued request goes before one that arrived in the same millisecond and still waits", () => {
    const life = begin()
    life.arriveAtOnce(1, { arrivedMs: 10 })
    life.arrive(2, { arrivedMs: 10 })
    life.lose(1)
    expect(drain(life)).toEqual([1, 2])
  })

  test("requests re-announced after a restart, in any order, are served by arrival", () => {
    const life = begin()
    for (const slot of [4, 0, 3, 1, 2]) life.arrive(slot, { arrivedMs: slot })
    expect(drain(life)).toEqual([0, 1, 2, 3, 4])
  })
})
