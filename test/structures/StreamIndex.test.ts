import { expect, test } from "bun:test"
import fc from "fast-check"
import { StreamIndex } from "../../src/structures/StreamIndex.ts"

/** Few keys, so that sets and deletes meet; some far apart, as clients may choose them. */
const key = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.constantFrom(0xffff_ffff, 0x8000_0000, 1 << 16, 2 << 16, 3 << 16)
)
const operation = fc.record({
  do: fc.constantFrom("set", "set", "delete"),
  key,
  value: fc.nat({ max: 65_535 })
})

const ascending = (a: number, b: number): number => a - b

test("does what a Map does, under any sequence of operations", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const index = new StreamIndex()
      const model = new Map<number, number>()
      for (const step of operations) {
        if (step.do === "set") {
          index.set(step.key, step.value)
          model.set(step.key, step.value)
        } else {
          index.delete(step.key)
          model.delete(step.key)
        }
        expect(index.size).toBe(model.size)
        for (const one of [step.key, 1, 40, 0xffff_ffff]) expect(index.get(one)).toBe(model.get(one) ?? -1)
      }
      const values: Array<number> = []
      index.forEach((value) => values.push(value))
      expect(values.toSorted(ascending)).toEqual([...model.values()].toSorted(ascending))
    })
  )
})

test("keeps its memory when entries come and go", () => {
  const index = new StreamIndex()
  for (let key = 1; key <= 100_000; key++) {
    index.set(key, key % 1000)
    if (key > 50) index.delete(key - 50)
  }
  expect(index.size).toBe(50)
  expect(index.tableSize).toBeLessThanOrEqual(256)
})
