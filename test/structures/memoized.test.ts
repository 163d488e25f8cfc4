import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { memoized } from "../../src/structures/memoized.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Memoizing = typeof memoized

const laws = [
  {
    id: "memoized-last",
    check: (memoizing: Memoizing) =>
      fc.assert(
        fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.nat(8)), (max, keys) => {
          const made: Array<number> = []
          const square = memoizing(max, (key: number) => {
            made.push(key)
            return key === 0 ? undefined : key * key
          })
          for (const key of keys) {
            const isKept = made.slice(-max).includes(key)
            const count = made.length
            expect(square(key)).toBe(key === 0 ? undefined : key * key)
            expect(made.length - count).toBe(isKept ? 0 : 1)
          }
        })
      )
  }
]

const defects: ReadonlyArray<Planted<Memoizing>> = [
  ["remembers nothing", "memoized-last", (_, make) => make],
  ["remembers everything", "memoized-last", (_, make) => memoized(Number.MAX_SAFE_INTEGER, make)],
  [
    "takes what is undefined for unknown",
    "memoized-last",
    (max, make) => {
      const known = memoized(max, make)
      return (key) => known(key) ?? make(key)
    }
  ]
]

describe("a function that remembers", () => keepsAll(laws, memoized))
describe("planted defects", () => findsAll(laws, defects))
