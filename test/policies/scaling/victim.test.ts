import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { chooseVictim } from "../../../src/policies/scaling/victim.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"

interface Subject {
  readonly choose: typeof chooseVictim
}

interface Row {
  readonly keyHigh: number
  readonly keyLow: number
  readonly inFlight: number
  readonly value: number
}

const rows = fc.uniqueArray(
  fc.record({
    keyHigh: fc.nat(2),
    keyLow: fc.nat(5),
    inFlight: fc.nat(2),
    value: fc.constantFrom(0, 0, 0.5, 7)
  }),
  { minLength: 1, maxLength: 12, selector: ({ keyHigh, keyLow }) => keyHigh * 100 + keyLow }
)

/** The choice among all of the rows, with row i in slot `slots[i]`; by row. */
const chosen = ({ choose }: Subject, of: ReadonlyArray<Row>, slots: ReadonlyArray<number>): Row => {
  const column = (read: (row: Row) => number): ReadonlyArray<number> => {
    const values = Array.from({ length: 16 }, () => 0)
    for (const [i, row] of of.entries()) values[slots[i]!] = read(row)
    return values
  }
  const slot = choose(
    {
      inFlight: Int32Array.from(column(({ inFlight }) => inFlight)),
      keyHigh: Uint32Array.from(column(({ keyHigh }) => keyHigh)),
      keyLow: Uint32Array.from(column(({ keyLow }) => keyLow))
    },
    slots.slice(0, of.length),
    Float64Array.from(column(({ value }) => value))
  )
  return of[slots.indexOf(slot)]!
}

const laws = [
  {
    id: "victim-least",
    check: (subject: Subject) =>
      holds(
        fc.property(rows, fc.shuffledSubarray([...Array(16).keys()], { minLength: 16 }), (of, slots) => {
          const least = of.toSorted(
            (a, b) =>
              a.value - b.value || a.inFlight - b.inFlight || a.keyHigh - b.keyHigh || a.keyLow - b.keyLow
          )[0]!
          expect(chosen(subject, of, slots)).toBe(least)
        })
      )
  }
]

describe("who goes first when a pool shrinks", () => {
  keepsAll(laws, { choose: chooseVictim })

  test("one alone", () =>
    expect(
      chosen({ choose: chooseVictim }, [{ keyHigh: 1, keyLow: 1, inFlight: 9, value: 9 }], [5])
    ).toBeDefined())
})

describe("planted defects of it", () => {
  const defects: ReadonlyArray<Planted<Subject>> = [
    [
      "takes the first of equals",
      "victim-least",
      {
        choose: (_, among, values) =>
          among.reduce((victim, slot) => (values[slot]! < values[victim]! ? slot : victim))
      }
    ],
    [
      "takes the highest key",
      "victim-least",
      {
        choose: (workers, among, values) =>
          chooseVictim({ ...workers, keyLow: workers.keyLow.map((low) => 100 - low) }, among, values)
      }
    ],
    [
      "spares the one with the fewest requests",
      "victim-least",
      {
        choose: (workers, among, values) =>
          chooseVictim({ ...workers, inFlight: workers.inFlight.map((count) => -count) }, among, values)
      }
    ]
  ]
  findsAll(laws, defects)
})
