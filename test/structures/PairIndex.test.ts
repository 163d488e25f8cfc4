import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { PairIndex, pairIndexBytes } from "../../src/structures/PairIndex.ts"
import { holds } from "../support/arbitraries.ts"

/** Few halves, so that keys differ in one of them and come again; those at the ends of the range among them. */
const half = fc.oneof(fc.nat(6), fc.constantFrom(-1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe))
const step = fc.record({
  do: fc.constantFrom("set", "set", "delete"),
  first: half,
  second: half,
  value: fc.nat(0x7fff_fffe)
})

test("does what a Map does, under any sequence of operations", () => {
  holds(
    fc.property(fc.array(step, { maxLength: 150, size: "max" }), (steps) => {
      const index = new PairIndex()
      const model = new Map<string, number>()
      const key = (first: number, second: number): string => `${first | 0} ${second | 0}`
      for (const { do: what, first, second, value } of steps) {
        if (what === "set") {
          index.set(first, second, value)
          model.set(key(first, second), value)
        } else {
          index.delete(first, second)
          model.delete(key(first, second))
        }
        expect(index.size).toBe(model.size)
      }
      for (const { first, second } of steps)
        expect(index.get(first, second)).toBe(model.get(key(first, second)) ?? -1)
      index.clear()
      expect([index.size, index.get(1, 1), index.bytes]).toEqual([0, -1, new PairIndex().bytes])
    })
  )
})

test("so many keys take no more bytes than promised, and are all found again", () => {
  for (const keys of [8, 64, 4096]) {
    const index = new PairIndex()
    for (let i = 0; i < keys; i++) index.set(i * 0x1_0001, -i, i)
    expect(index.bytes).toBeLessThanOrEqual(pairIndexBytes(keys))
    for (let i = 0; i < keys; i++) expect(index.get(i * 0x1_0001, -i)).toBe(i)
  }
})
