import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { BestFit } from "../../src/structures/BestFit.ts"
import { EarliestFinish } from "../../src/structures/EarliestFinish.ts"
import { stableSort } from "../../src/structures/stableSort.ts"
import { holds } from "../support/arbitraries.ts"
import { type WorkerRow, workersOf } from "../support/batches.ts"

/** The first of the rows for which `value` is least, -1 for none. */
const firstLeast = (rows: ReadonlyArray<number>, value: (row: number) => number): number =>
  rows.find((row) => value(row) === Math.min(...rows.map(value))) ?? -1

const costs = fc.array(fc.nat(12), { maxLength: 30 })

test("stableSort is Array's sort, which keeps the order of equals", () => {
  holds(
    fc.property(fc.array(fc.nat(5), { maxLength: 40 }), (keys) => {
      const values = Int32Array.from(keys.keys())
      stableSort(values, keys.length, new Int32Array(keys.length), (a, b) => keys[a]! < keys[b]!)
      expect([...values]).toEqual([...keys.keys()].toSorted((a, b) => keys[a]! - keys[b]!))
    })
  )
})

describe("BestFit", () => {
  test("takes the least room that suffices, of several the first", () => {
    const bestFit = new BestFit()
    holds(
      fc.property(fc.array(fc.nat(20), { maxLength: 12 }), costs, (rooms, costs) => {
        const room = Float64Array.from(rooms)
        const left = [...rooms]
        bestFit.start(room, rooms.length)
        for (const cost of costs) {
          const expected = firstLeast(
            [...left.keys()].filter((row) => left[row]! >= cost),
            (row) => left[row]!
          )
          expect(bestFit.take(cost)).toBe(expected)
          if (expected >= 0) left[expected]! -= cost
          expect([...room]).toEqual(left)
        }
      })
    )
  })
})

describe("EarliestFinish", () => {
  const workers: fc.Arbitrary<ReadonlyArray<WorkerRow>> = fc.array(
    fc.record({
      backlog: fc.nat(9),
      speed: fc.constantFrom(1, 2, 4),
      headroom: fc.oneof(fc.nat(30), fc.constant(Number.POSITIVE_INFINITY))
    }),
    { maxLength: 12 }
  )

  test("takes who finishes first of those with headroom, of several the first", () => {
    const earliest = new EarliestFinish()
    holds(
      fc.property(workers, costs, (rows, costs) => {
        const { backlog, speed, headroom } = workersOf({ costs: [], rows, order: [] })
        earliest.start({ count: rows.length, backlog, speed, headroom })
        for (const cost of costs) {
          const expected = firstLeast(
            [...rows.keys()].filter((row) => headroom[row]! >= cost),
            (row) => (backlog[row]! + cost) / speed[row]!
          )
          const [before, room] = [backlog[expected] ?? 0, headroom[expected] ?? 0]
          expect(earliest.take(cost)).toBe(expected)
          if (expected < 0) continue
          expect([backlog[expected]!, headroom[expected]!]).toEqual([before + cost, room - cost])
        }
      })
    )
  })
})
