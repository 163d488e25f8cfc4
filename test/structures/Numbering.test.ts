import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { Numbering } from "../../src/structures/Numbering.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Subject = (keysMax: number, saltHigh: number, saltLow: number) => Pick<Numbering, "of">

const half = fc.constantFrom(0, 1, 2, 0x7fff_ffff, 0xffff_ffff)
const keys = fc.array(fc.tuple(half, half), { maxLength: 80, size: "max" })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })

const laws = [
  {
    id: "numbers-in-order",
    check: (make: Subject) =>
      holds(
        fc.property(keys, u32, u32, (keys, saltHigh, saltLow) => {
          const numbering = make(32, saltHigh, saltLow)
          const first: Array<string> = []
          for (const [high, low] of keys) {
            const name = `${high} ${low}`
            if (!first.includes(name)) first.push(name)
            expect(numbering.of(high, low)).toBe(first.indexOf(name))
          }
        })
      )
  },
  {
    id: "numbers-kept",
    check: (make: Subject) =>
      holds(
        fc.property(keys, fc.constantFrom(8, 16), u32, (keys, keysMax, salt) => {
          const numbering = make(keysMax, salt, ~salt >>> 0)
          const owners = new Map<number, string>()
          const numbers = new Map<string, number>()
          /** Different keys, the one that came last first. */
          let recent: ReadonlyArray<string> = []
          for (const [high, low] of keys) {
            const name = `${high} ${low}`
            const number = numbering.of(high, low)
            if (recent.slice(0, keysMax).includes(name)) expect(number).toBe(numbers.get(name)!)
            expect(owners.get(number) ?? name).toBe(name)
            owners.set(number, name)
            numbers.set(name, number)
            recent = [name, ...recent.filter((other) => other !== name)]
          }
        })
      )
  },
  {
    id: "numbers-forgotten",
    check: (make: Subject) =>
      holds(
        fc.property(fc.constantFrom(8, 16), fc.integer({ min: 1, max: 100 }), u32, (keysMax, more, salt) => {
          const numbering = make(keysMax, salt, salt)
          const first = numbering.of(7, 7)
          for (let key = 0; key < 2 * keysMax + more; key++) numbering.of(9, key)
          expect(numbering.of(7, 7)).toBeGreaterThan(first)
        })
      )
  }
]

const numbering: Subject = (keysMax, saltHigh, saltLow) => new Numbering(keysMax, saltHigh, saltLow)

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "forgets everything at once",
    "numbers-kept",
    (keysMax) => {
      let numbers = new Map<string, number>()
      let next = 0
      return {
        of: (high, low) => {
          const name = `${high} ${low}`
          const known = numbers.get(name)
          if (known !== undefined) return known
          if (numbers.size === keysMax) numbers = new Map()
          numbers.set(name, next)
          return next++
        }
      }
    }
  ],
  [
    "begins anew when it is full",
    "numbers-kept",
    (keysMax, saltHigh, saltLow) => {
      let inner = new Numbering(keysMax, saltHigh, saltLow)
      let seen = new Set<string>()
      return {
        of: (high, low) => {
          seen.add(`${high} ${low}`)
          if (seen.size > 2 * keysMax) {
            inner = new Numbering(keysMax, saltHigh, saltLow)
            seen = new Set()
          }
          return inner.of(high, low)
        }
      }
    }
  ],
  [
    "looks at one half of a key",
    "numbers-in-order",
    (keysMax, saltHigh, saltLow) => {
      const inner = new Numbering(keysMax, saltHigh, saltLow)
      return { of: (high) => inner.of(high, 0) }
    }
  ],
  ["forgets nothing", "numbers-forgotten", (_, saltHigh, saltLow) => new Numbering(1024, saltHigh, saltLow)],
  ["shows the hash", "numbers-in-order", () => ({ of: (high, low) => high ^ low })]
]

describe("numbers of keys", () => keepsAll(laws, numbering))
describe("planted defects", () => findsAll(laws, defects))
