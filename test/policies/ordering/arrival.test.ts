import { describe, expect, test } from "bun:test"
import type { Ordering } from "../../../src/policies/Ordering.ts"
import { findOrdering } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { arrivalOrder } from "../../laws/orderingLaws.ts"
import { oneRequest } from "../../support/pools.ts"

const arrival = findOrdering("arrival")!
const make = (): Ordering => arrival.make({}, makeRng(1))
const at = (slot: number, arrivedMs: number) => ({ ...oneRequest, slot, arrivedMs })

const drain = (ordering: Ordering): Array<number> => {
  const order: Array<number> = []
  for (let slot = ordering.next(0); slot >= 0; slot = ordering.next(0)) order.push(slot)
  return order
}

test(arrivalOrder.statement, () => arrivalOrder.check(arrival))

describe("order", () => {
  test("requests that arrive in the same millisecond are served as they were enqueued", () => {
    const ordering = make()
    for (const slot of [7, 3, 5, 1]) ordering.enqueue(at(slot, 10), 10)
    expect(drain(ordering)).toEqual([7, 3, 5, 1])
  })

  test("requests requeued in any order go before all that came after them, by arrival", () => {
    const ordering = make()
    for (const slot of [0, 1, 2, 3, 4]) ordering.enqueue(at(slot, slot), 5)
    for (let i = 0; i < 3; i++) ordering.next(5)
    for (const slot of [1, 0, 2]) ordering.requeue(at(slot, slot), 6)
    expect(drain(ordering)).toEqual([0, 1, 2, 3, 4])
  })

  test("a requeued request goes before one that arrived in the same millisecond and still waits", () => {
    const ordering = make()
    ordering.enqueue(at(2, 10), 10)
    ordering.requeue(at(1, 10), 11)
    expect(drain(ordering)).toEqual([1, 2])
  })

  test("requests re-announced after a restart, in any order, are served by arrival", () => {
    const ordering = make()
    for (const slot of [4, 0, 3, 1, 2]) ordering.enqueue(at(slot, slot), 100)
    expect(drain(ordering)).toEqual([0, 1, 2, 3, 4])
  })
})

test("the largest slot of the request table is taken, a larger one refused", () => {
  const ordering = make()
  ordering.enqueue(at(65_535, 0), 0)
  expect(() => ordering.enqueue(at(65_536, 0), 0)).toThrow("65 536")
  expect(ordering.size()).toBe(1)
})

test("a slot is queued once", () => {
  const ordering = make()
  ordering.enqueue(at(1, 0), 0)
  expect(() => ordering.enqueue(at(1, 0), 0)).toThrow("one list")
  expect(ordering.size()).toBe(1)
})
