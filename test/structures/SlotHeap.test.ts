import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { SLOT_HEAP_BYTES, SlotHeap } from "../../src/structures/SlotHeap.ts"
import { holds } from "../support/arbitraries.ts"

test("finds the least key under any sequence of operations", () => {
  const step = fc.record({
    do: fc.constantFrom("add", "add", "remove", "setKey", "setKey"),
    slot: fc.nat(100),
    key: fc.oneof(fc.nat(50), fc.constant(Number.POSITIVE_INFINITY))
  })
  holds(
    fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
      const heap = new SlotHeap()
      const keys = new Map<number, number>()
      const members = new Set<number>()
      for (const { do: what, slot, key } of steps) {
        if (what === "add") members.add(slot)
        if (what === "remove") members.delete(slot)
        if (what === "setKey") {
          keys.set(slot, key)
          heap.setKey(slot, key)
        } else heap[what](slot)
        const least = Math.min(...[...members].map((member) => keys.get(member) ?? 0))
        expect(heap.size).toBe(members.size)
        expect(heap.keyOf(slot)).toBe(keys.get(slot) ?? 0)
        if (members.size === 0) expect(heap.first).toBe(-1)
        else {
          expect(members.has(heap.first)).toBe(true)
          expect(heap.keyOf(heap.first)).toBe(least)
        }
      }
      const order: Array<number> = []
      for (let slot = heap.first; slot >= 0; slot = heap.first) {
        order.push(heap.keyOf(slot))
        heap.remove(slot)
      }
      expect(order).toEqual(order.toSorted((a, b) => (a === b ? 0 : a - b)))
      expect(order.length).toBe(members.size)
    })
  )
})

test("takes the bytes it says", () => {
  const heap = new SlotHeap()
  for (let slot = 0; slot < 1024; slot++) heap.add(slot)
  expect(heap.bytes).toBe(1024 * SLOT_HEAP_BYTES)
  heap.clear()
  expect([heap.size, heap.first, heap.bytes, heap.keyOf(3)]).toEqual([0, -1, 0, 0])
})
