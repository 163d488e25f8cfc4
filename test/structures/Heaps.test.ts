import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Heaps } from "../../src/structures/Heaps.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { SLOTS_MAX } from "../../src/structures/SlotLists.ts"
import { holds } from "../support/arbitraries.ts"

test("gives slots in the order of arrays that are sorted, under random operations", () => {
  const step = fc.record({
    step: fc.constantFrom("insert", "insert", "remove", "update"),
    heap: fc.nat(2),
    slot: fc.nat(60),
    key: fc.nat(20)
  })
  holds(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const keys = new Map<number, number>()
      const before = (a: number, b: number): boolean => keys.get(a)! - keys.get(b)! < 0
      const heaps = new Heaps(3, before)
      const homes = new Map<number, number>()
      const leastOf = (heap: number): number =>
        Math.min(...[...homes].filter(([, home]) => home === heap).map(([slot]) => keys.get(slot)!))
      for (const { heap, key, slot, step } of steps) {
        // Keys differ, as the order of equals is not said.
        if (step === "insert" && !homes.has(slot)) {
          keys.set(slot, key * 100 + slot)
          heaps.insert(heap, slot)
          homes.set(slot, heap)
        }
        if (step === "update" && homes.has(slot)) {
          keys.set(slot, key * 100 + slot)
          heaps.update(slot)
        }
        if (step === "remove") expect(heaps.remove(slot)).toBe(homes.delete(slot))
        expect(heaps.heapOf(slot)).toBe(homes.get(slot) ?? -1)
        for (const each of [0, 1, 2])
          expect(keys.get(heaps.first(each)) ?? Number.POSITIVE_INFINITY).toBe(leastOf(each))
      }
    })
  )
})

test.each([
  ["rising", (i: number) => i],
  ["falling", (i: number) => -i],
  ["shuffled", (i: number) => (i * 2_654_435_761) % 65_521]
])("an operation on n slots compares at most 4 × log₂ n times, keys %s", (_, keyOf) => {
  const count = 4096
  const keys = Float64Array.from({ length: count }, (__, i) => keyOf(i))
  const rng = makeRng(1)
  let compared = 0
  let most = 0
  const heaps = new Heaps(1, (a, b) => {
    compared++
    return keys[a]! < keys[b]!
  })
  const counted = (operation: () => void): void => {
    compared = 0
    operation()
    most = Math.max(most, compared)
  }
  for (let slot = 0; slot < count; slot++) counted(() => heaps.insert(0, slot))
  for (let i = 0; i < count; i++) {
    const slot = rng.int(count)
    keys[slot] = rng.int(count)
    counted(() => heaps.update(slot))
  }
  for (let i = 0; i < count; i++) counted(() => heaps.remove(i % 3 === 0 ? rng.int(count) : heaps.first(0)))
  expect(most).toBeLessThanOrEqual(4 * Math.log2(count))
})

test("a slot that is in a heap goes into no other, and no slot is above the bound", () => {
  const heaps = new Heaps(2, (a, b) => a < b)
  heaps.insert(0, SLOTS_MAX - 1)
  expect(() => heaps.insert(1, SLOTS_MAX - 1)).toThrow("one heap at most")
  expect(() => heaps.insert(1, SLOTS_MAX)).toThrow("65 536")
  expect(heaps.remove(SLOTS_MAX)).toBe(false)
})
