import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { ArrivalLists } from "../../src/structures/ArrivalLists.ts"
import { holds } from "../support/arbitraries.ts"

test("equal to arrays sorted by arrival, under random operations", () => {
  const step = fc.record({
    step: fc.constantFrom("add", "add", "putBack", "remove"),
    list: fc.nat(1),
    slot: fc.nat(30),
    arrivedMs: fc.nat(8)
  })
  holds(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const lists = new ArrivalLists(2)
      const arrays: Array<Array<{ readonly slot: number; readonly arrivedMs: number }>> = [[], []]
      for (const { arrivedMs, list, slot, step } of steps) {
        const home = arrays.findIndex((rows) => rows.some((row) => row.slot === slot))
        expect(lists.listOf(slot)).toBe(home)
        if (step === "remove") {
          expect(lists.remove(slot)).toBe(home >= 0)
          if (home >= 0) arrays[home] = arrays[home]!.filter((row) => row.slot !== slot)
        } else if (home < 0) {
          const rows = arrays[list]!
          if (step === "add") {
            lists.add(list, slot, arrivedMs)
            const at = rows.findIndex((row) => row.arrivedMs > arrivedMs)
            rows.splice(at < 0 ? rows.length : at, 0, { slot, arrivedMs })
          } else {
            lists.putBack(list, slot, arrivedMs)
            const at = rows.findIndex((row) => row.arrivedMs >= arrivedMs)
            rows.splice(at < 0 ? rows.length : at, 0, { slot, arrivedMs })
          }
        }
        for (const [i, rows] of arrays.entries()) expect(lists.first(i)).toBe(rows[0]?.slot ?? -1)
      }
      for (const [i, rows] of arrays.entries()) {
        for (const { slot } of rows) {
          expect(lists.first(i)).toBe(slot)
          lists.remove(slot)
        }
      }
    })
  )
})
