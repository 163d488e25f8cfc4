import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { DecayingHistograms } from "../../src/structures/DecayingHistograms.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

const ROWS = 3
const HALF_LIFE_MS = 100
type Table = Pick<DecayingHistograms, keyof DecayingHistograms>
type Make = () => Table

interface Weighted {
  readonly row: number
  readonly value: number
  readonly atMs: number
}

const events = fc.array(
  fc.record({
    row: fc.nat(ROWS - 1),
    value: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.double({ min: 0.05, max: 1e6, noNaN: true })),
    pauseMs: fc.constantFrom(0, 1, 50, 100, 1000, 60_000),
    clear: fc.constantFrom(false, false, false, false, true)
  }),
  { minLength: 1, maxLength: 40 }
)

/** Values of the row and the prior, with what each weighs after its age, the lightest value first. */
const mixture = (all: ReadonlyArray<Weighted>, row: number, priorWeight: number, nowMs: number) => {
  const weigh = (which: number): ReadonlyArray<readonly [value: number, weight: number]> =>
    all
      .filter((each) => each.row === which)
      .map(({ value, atMs }) => [value, 2 ** ((atMs - nowMs) / HALF_LIFE_MS)])
  const prior = weigh(0)
  const scale = priorWeight / prior.reduce((sum, [, weight]) => sum + weight, 0)
  return [...weigh(row), ...prior.map(([value, weight]) => [value, weight * scale] as const)].toSorted(
    ([a], [b]) => a - b
  )
}

const laws = [
  {
    id: "decaying-histograms",
    statement:
      "weights, means and quantiles are those of the values by age, quantiles within 1/32, whatever was recorded and cleared",
    check: (make: Make) =>
      holds(
        fc.property(events, fc.nat(1000), fc.constantFrom(0.5, 10), (all, permille, priorWeight) => {
          const table = make()
          let recorded: Array<Weighted> = []
          let nowMs = 0
          for (const { row, value, pauseMs, clear } of all) {
            table.advance((nowMs += pauseMs))
            if (clear && row > 0) {
              table.clear(row)
              recorded = recorded.filter((each) => each.row !== row)
            }
            table.record(row, value)
            recorded.push({ row, value, atMs: nowMs })
          }
          // The prior is not empty, nor of long ago.
          table.record(0, 7)
          recorded.push({ row: 0, value: 7, atMs: nowMs })
          for (let row = 1; row < ROWS; row++) {
            const values = mixture(recorded, row, priorWeight, nowMs)
            const total = values.reduce((sum, [, weight]) => sum + weight, 0)
            const mean = values.reduce((sum, [value, weight]) => sum + value * weight, 0) / total
            expect(Math.abs(table.weight(row) + priorWeight - total)).toBeLessThan(1e-6 * total)
            expect(Math.abs(table.mean(row, 0, priorWeight) - mean)).toBeLessThan(1e-6 * mean)
            const q = permille / 1000
            const quantile = table.quantile(row, q, 0, priorWeight)
            const upTo = (bound: number): number =>
              values.reduce((sum, [value, weight]) => sum + (value <= bound ? weight : 0), 0) / total
            expect(upTo(quantile * (1 + 1 / 31))).toBeGreaterThanOrEqual(q - 1e-6)
            expect(upTo(quantile * (1 - 1 / 31))).toBeLessThanOrEqual(q + 1e-6)
          }
        })
      )
  }
]

const spoiled =
  (halfLifeMs: number, spoil: (inner: DecayingHistograms) => Partial<Table>): Make =>
  () => {
    const inner = new DecayingHistograms(ROWS, halfLifeMs)
    const table: Table = {
      advance: (nowMs) => inner.advance(nowMs),
      record: (row, value) => inner.record(row, value),
      weight: (row) => inner.weight(row),
      mean: (row, prior, priorWeight) => inner.mean(row, prior, priorWeight),
      quantile: (row, q, prior, priorWeight) => inner.quantile(row, q, prior, priorWeight),
      clear: (row) => inner.clear(row)
    }
    return { ...table, ...spoil(inner) }
  }

const defects: ReadonlyArray<Planted<Make>> = [
  ["forgets half as fast", "decaying-histograms", spoiled(2 * HALF_LIFE_MS, () => ({}))],
  ["does not clear", "decaying-histograms", spoiled(HALF_LIFE_MS, () => ({ clear: () => {} }))],
  [
    "writes into the next row",
    "decaying-histograms",
    spoiled(HALF_LIFE_MS, (inner) => ({ record: (row, value) => inner.record((row + 1) % ROWS, value) }))
  ],
  [
    "takes the lower end of the bucket",
    "decaying-histograms",
    spoiled(HALF_LIFE_MS, (inner) => ({
      quantile: (row, q, prior, priorWeight) => inner.quantile(row, q, prior, priorWeight) * (1 - 1 / 16)
    }))
  ]
]

describe("DecayingHistograms", () => keepsAll(laws, () => new DecayingHistograms(ROWS, HALF_LIFE_MS)))
describe("planted defects", () => findsAll(laws, defects))

test("values beyond the ends count in the last buckets", () => {
  const table = new DecayingHistograms(1, Number.POSITIVE_INFINITY)
  table.record(0, 0)
  expect(table.quantile(0, 1, 0, 1)).toBeLessThan(0.04)
  table.record(0, 1e300)
  expect(table.quantile(0, 1, 0, 1)).toBeGreaterThan(1e6)
})
