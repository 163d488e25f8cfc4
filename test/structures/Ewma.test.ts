import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Ewma, PeakEwma } from "../../src/structures/Ewma.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

const TAU_MS = 1000

interface Sample {
  readonly value: number
  readonly pauseMs: number
}

const samples: fc.Arbitrary<ReadonlyArray<Sample>> = fc.array(
  fc.record({
    value: fc.double({ min: 0, max: 1e6, noNaN: true }),
    pauseMs: fc.constantFrom(0, 1, 100, 1000, 30_000)
  }),
  { minLength: 1, maxLength: 20 }
)

type Average = Pick<Ewma, "record"> & { readonly at: (slot: number, nowMs: number) => number }

/** Calls `look` after every sample with the times and averages at it and at the one before. */
const run = (
  average: Average,
  of: ReadonlyArray<Sample>,
  look: (sample: Sample, before: number, after: number) => void
): void => {
  let nowMs = 5
  let before = 0
  for (const sample of of) {
    nowMs += sample.pauseMs
    average.record(3, sample.value, nowMs)
    const after = average.at(3, nowMs)
    look(sample, before, after)
    before = after
  }
}

const near = (value: number, expected: number): void =>
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-9 * Math.max(1, expected))

const laws = [
  {
    id: "ewma-weights",
    check: (average: () => Average) =>
      holds(
        fc.property(samples, (of) => {
          let expected: number | undefined
          run(average(), of, ({ value, pauseMs }, _, after) => {
            const left = Math.exp(-pauseMs / TAU_MS)
            expected = expected === undefined ? value : expected * left + value * (1 - left)
            near(after, expected)
          })
        })
      )
  },
  {
    id: "ewma-forgets",
    check: (average: () => Average) => {
      for (const pauseMs of [20, 250, TAU_MS]) {
        const forgetful = average()
        forgetful.record(3, 7, 0)
        let nowMs = 0
        while (nowMs < 800 * TAU_MS) forgetful.record(3, 0, (nowMs += pauseMs))
        expect(forgetful.at(3, nowMs)).toBe(0)
      }
    }
  }
]

const peakLaws = [
  {
    id: "peak-bounds",
    check: (average: () => Average) =>
      holds(
        fc.property(samples, (of) => {
          let highest = 0
          run(average(), of, ({ value }, _, after) => {
            highest = Math.max(highest, value)
            expect(after).toBeGreaterThanOrEqual(value * (1 - 1e-12))
            expect(after).toBeLessThanOrEqual(highest * (1 + 1e-12))
          })
        })
      )
  },
  {
    id: "peak-falls-slowly",
    check: (average: () => Average) =>
      holds(
        fc.property(samples, fc.nat(5000), (of, laterMs) => {
          const kept = average()
          let nowMs = 5
          run(kept, of, ({ pauseMs }, before, after) => {
            nowMs += pauseMs
            expect(after).toBeGreaterThanOrEqual(before * Math.exp(-pauseMs / TAU_MS) * (1 - 1e-12))
          })
          near(kept.at(3, nowMs + laterMs), kept.at(3, nowMs) * Math.exp(-laterMs / TAU_MS))
        })
      )
  },
  {
    // A spike is remembered, and a sample below it counts by the time since.
    id: "peak-weights",
    check: (average: () => Average) => {
      const peak = average()
      peak.record(0, 100, 0)
      peak.record(0, 20, TAU_MS)
      near(peak.at(0, TAU_MS), 100 / Math.E + 20 * (1 - 1 / Math.E))
      peak.record(0, 500, TAU_MS)
      expect(peak.at(0, TAU_MS)).toBe(500)
    }
  }
]

/** An average in a variable; `next` says how it takes a sample, `left` being what remains of the weight of those before. */
const averageBy =
  (next: (value: number, sample: number, left: number) => number, decays = true) =>
  (): Average => {
    let value = 0
    let sinceMs = Number.NEGATIVE_INFINITY
    const left = (nowMs: number): number => (decays ? Math.exp((sinceMs - nowMs) / TAU_MS) : 1)
    return {
      at: (_, nowMs) => value * left(nowMs),
      record: (_, sample, nowMs) => {
        value = next(value, sample, Math.exp((sinceMs - nowMs) / TAU_MS))
        sinceMs = nowMs
      }
    }
  }

const defects: ReadonlyArray<Planted<() => Average>> = [
  [
    "weighs every sample alike, whenever it comes",
    "ewma-weights",
    averageBy((a, b) => a + (b - a) / 8, false)
  ],
  [
    "starts from 0",
    "ewma-weights",
    averageBy((a, b, left) => a * Math.min(left, 0.5) + b * (1 - left), false)
  ],
  ["keeps the least there is", "ewma-forgets", averageBy((a, b, left) => b + (a - b) * left, false)]
]

const peakDefects: ReadonlyArray<Planted<() => Average>> = [
  ["averages on the way up too", "peak-bounds", averageBy((a, b, left) => a * left + b * (1 - left))],
  ["follows every sample", "peak-falls-slowly", averageBy((_, b) => b)],
  ["does not come down without samples", "peak-falls-slowly", averageBy(Math.max, false)],
  ["keeps the highest sample there was", "peak-weights", averageBy((a, b, left) => Math.max(a * left, b))]
]

describe("Ewma", () => keepsAll(laws, () => new Ewma(TAU_MS)))
describe("PeakEwma", () => keepsAll(peakLaws, () => new PeakEwma(TAU_MS)))
describe("planted defects", () => findsAll(laws, defects))
describe("planted defects of peaks", () => findsAll(peakLaws, peakDefects))

test("a slot that is reset has had no sample; others keep theirs", () => {
  for (const average of [new Ewma(TAU_MS), new PeakEwma(TAU_MS)]) {
    average.reset(70)
    for (const slot of [1, 70]) average.record(slot, 8, 10)
    average.reset(70)
    expect([1, 70, 500].map((slot) => average.at(slot, 10))).toEqual([8, 0, 0])
    average.record(70, 2, 11)
    expect(average.at(70, 11)).toBe(2)
  }
})
