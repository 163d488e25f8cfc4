import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { SLOTS_MAX, SlotLists } from "../../src/structures/SlotLists.ts"
import { holds } from "../support/arbitraries.ts"

const forwards = (lists: SlotLists, list: number): Array<number> => {
  const slots: Array<number> = []
  for (let slot = lists.first(list); slot >= 0; slot = lists.after(slot)) slots.push(slot)
  return slots
}

const backwards = (lists: SlotLists, list: number): Array<number> => {
  const slots: Array<number> = []
  for (let slot = lists.last(list); slot >= 0; slot = lists.before(slot)) slots.push(slot)
  return slots
}

test("equal to arrays under random operations, read from either end", () => {
  const step = fc.record({ remove: fc.boolean(), list: fc.nat(2), slot: fc.nat(200), at: fc.nat() })
  holds(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const lists = new SlotLists(3)
      const arrays: Array<Array<number>> = [[], [], []]
      for (const { remove, list, slot, at } of steps) {
        const home = arrays.findIndex((slots) => slots.includes(slot))
        expect(lists.listOf(slot)).toBe(home)
        if (remove || home >= 0) {
          expect(lists.remove(slot)).toBe(home >= 0)
          if (home >= 0) arrays[home] = arrays[home]!.filter((other) => other !== slot)
        } else {
          const slots = arrays[list]!
          const behind = at % (slots.length + 1)
          if (behind === slots.length) lists.pushBack(list, slot)
          else lists.insertAfter(list, slots[behind - 1] ?? -1, slot)
          slots.splice(behind, 0, slot)
        }
        for (const [i, slots] of arrays.entries()) {
          expect(forwards(lists, i)).toEqual(slots)
          expect(backwards(lists, i)).toEqual(slots.toReversed())
        }
      }
    })
  )
})

test("a slot that is in a list goes into no other, and no slot is above the bound", () => {
  const lists = new SlotLists(2)
  lists.pushBack(0, SLOTS_MAX - 1)
  expect(() => lists.pushBack(1, SLOTS_MAX - 1)).toThrow("one list at most")
  expect(() => lists.pushBack(1, SLOTS_MAX)).toThrow("65 536")
  expect(lists.remove(SLOTS_MAX)).toBe(false)
})

test("each slot is visited once, those in the list at first, whatever becomes of it and what comes after it", () => {
  const fate = fc.constantFrom("stays", "leaves", "goes to the end", "goes elsewhere", "brings another")
  holds(
    fc.property(fc.array(fate, { maxLength: 12 }), (fates) => {
      const lists = new SlotLists(2)
      for (const slot of fates.keys()) lists.pushBack(0, slot)
      const visited: Array<number> = []
      lists.each(0, (slot) => {
        visited.push(slot)
        if (fates[slot] === "brings another") return lists.pushBack(0, 100 + slot)
        if (fates[slot] !== "stays") lists.remove(slot)
        if (fates[slot] === "goes to the end") lists.pushBack(0, slot)
        if (fates[slot] === "goes elsewhere") lists.pushBack(1, slot)
      })
      expect(visited).toEqual([...fates.keys()])
    })
  )
})
