import { expect, test } from "bun:test"
import fc from "fast-check"
import { NameTable } from "../../src/client/NameTable.ts"

test("whoever reads the definitions in order knows every number's name, and numbers stay small", () => {
  const name = fc.integer({ min: 0, max: 150 }).map((n) => `name-${n}`)
  fc.assert(
    fc.property(fc.array(fc.tuple(name, fc.boolean()), { maxLength: 400 }), (uses) => {
      const table = new NameTable()
      const reader = new Map<number, string>()
      for (const [used, forgotten] of uses) {
        const known = table.known(used)
        const number = known ?? table.define(used)
        if (known === undefined) reader.set(number, used)
        expect(reader.get(number)).toBe(used)
        expect(number).toBeGreaterThanOrEqual(1)
        expect(number).toBeLessThanOrEqual(64)
        if (forgotten) table.forget(used)
      }
    })
  )
})

test("a name is defined once while it keeps its number", () => {
  const table = new NameTable()
  expect(table.define("a")).toBe(1)
  expect(table.define("b")).toBe(2)
  expect(table.known("a")).toBe(1)
  expect(table.known("c")).toBeUndefined()
})
