import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Chain, type ChainEntry } from "../../../src/actors/runtime/Chain.ts"

const valuesOf = (chain: Chain<number>): ReadonlyArray<number> => {
  const values: Array<number> = []
  for (let entry = chain.first; entry !== undefined; entry = entry.next) values.push(entry.value)
  return values
}

test("a chain holds what was added and not removed, in order; an entry is removed once, from its own chain", () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.nat(40), { freq: 3 }), { maxLength: 80, size: "max" }), (steps) => {
      const [chain, other] = [new Chain<number>(), new Chain<number>()]
      const entries: Array<ChainEntry<number>> = []
      let model: Array<number> = []
      for (const [index, step] of steps.entries()) {
        const entry = step === null ? undefined : entries[step]
        if (step === 40) expect(chain.shift()).toBe(model.shift())
        else if (entry === undefined) {
          entries.push(chain.add(index))
          model.push(index)
        } else {
          expect(other.remove(entry)).toBe(false)
          expect(chain.remove(entry)).toBe(model.includes(entry.value))
          model = model.filter((value) => value !== entry.value)
        }
        expect(valuesOf(chain)).toEqual(model)
      }
    })
  )
})
