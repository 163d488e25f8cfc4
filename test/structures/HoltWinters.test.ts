import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { HoltWinters, type Smoothing } from "../../src/structures/HoltWinters.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

interface Subject {
  readonly make: (smoothing: Smoothing, seasonSteps: number) => Pick<HoltWinters, "observe" | "forecast">
}

const weight = fc.double({ min: 0, max: 1, noNaN: true })
const smoothing = fc.record({ level: weight, trend: weight, season: weight })
const figure = fc.double({ min: -1000, max: 1000, noNaN: true })
const steps = fc.integer({ min: 1, max: 50 })

const near = (value: number, expected: number): void =>
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(expected)))

/** Observes `series` at 0, 1, … up to `count` and looks at the forecast after that. */
const forecastOf = (
  { make }: Subject,
  weights: Smoothing,
  seasonSteps: number,
  series: ReadonlyArray<number>,
  ahead: number
): number => {
  const forecaster = make(weights, seasonSteps)
  for (const value of series) forecaster.observe(value)
  return forecaster.forecast(ahead)
}

/** Level and trend as the textbook has them, from the whole series each time. */
const textbook = (
  { level: a, trend: b }: Smoothing,
  series: ReadonlyArray<number>,
  ahead: number
): number => {
  let [level, trend] = [series[1]!, series[1]! - series[0]!]
  for (const value of series.slice(2)) {
    const before = level
    level = a * value + (1 - a) * (level + trend)
    trend = b * (level - before) + (1 - b) * trend
  }
  return level + ahead * trend
}

const laws = [
  {
    id: "holt-linear",
    check: (subject: Subject) =>
      holds(
        fc.property(
          smoothing,
          figure,
          figure,
          fc.integer({ min: 2, max: 40 }),
          steps,
          (weights, at0, slope, count, ahead) => {
            const series = Array.from({ length: count }, (_, i) => at0 + slope * i)
            near(forecastOf(subject, weights, 0, series, ahead), at0 + slope * (count - 1 + ahead))
          }
        )
      )
  },
  {
    id: "holt-recursion",
    check: (subject: Subject) =>
      holds(
        fc.property(
          smoothing,
          fc.array(figure, { minLength: 2, maxLength: 40 }),
          steps,
          (weights, series, ahead) =>
            near(forecastOf(subject, weights, 0, series, ahead), textbook(weights, series, ahead))
        )
      )
  },
  {
    id: "holt-winters-season",
    check: (subject: Subject) =>
      holds(
        fc.property(
          smoothing,
          figure,
          figure,
          fc.array(figure, { minLength: 2, maxLength: 12 }),
          fc.nat(40),
          steps,
          (weights, at0, slope, season, more, ahead) => {
            const value = (i: number): number => at0 + slope * i + season[i % season.length]!
            const count = 2 * season.length + more
            const series = Array.from({ length: count }, (_, i) => value(i))
            near(forecastOf(subject, weights, season.length, series, ahead), value(count - 1 + ahead))
          }
        )
      )
  },
  {
    id: "holt-winters-missing",
    check: (subject: Subject) =>
      holds(
        fc.property(
          smoothing,
          fc.array(figure, { minLength: 2, maxLength: 10 }),
          fc.nat(30),
          steps,
          (weights, season, gap, ahead) => {
            const series = [...season, ...season]
            const holes = Array.from({ length: gap }, () => Number.NaN)
            near(
              forecastOf(subject, weights, season.length, [Number.NaN, ...series, ...holes], ahead),
              forecastOf(subject, weights, season.length, series, gap + ahead)
            )
          }
        )
      )
  },
  {
    id: "holt-winters-follows",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.array(figure, { minLength: 3, maxLength: 9 }), figure, (season, shift) => {
          const level = { level: 0.5, trend: 0.1, season: 0.5 }
          const value = (i: number): number => season[i % season.length]!
          const before = Array.from({ length: 2 * season.length }, (_, i) => value(i))
          // The shape is turned by one step, and everything moved: after many seasons this is what is expected.
          const after = Array.from({ length: 60 * season.length }, (_, i) => value(i + 1) + shift)
          const found = forecastOf({ make: subject.make }, level, season.length, [...before, ...after], 1)
          expect(Math.abs(found - (value(after.length + 1) + shift))).toBeLessThan(1)
        })
      )
  }
]

const asItIs: Subject = { make: (weights, seasonSteps) => new HoltWinters(weights, seasonSteps) }

describe("Holt and Winters", () => {
  keepsAll(laws, asItIs)

  test("expects nothing before the first observation, and its repetition after one", () => {
    const forecaster = asItIs.make({ level: 0.5, trend: 0.5, season: 0.5 }, 0)
    expect(forecaster.forecast(1)).toBeNaN()
    forecaster.observe(7)
    expect(forecaster.forecast(9)).toBe(7)
  })
})

describe("planted defects of Holt and Winters", () => {
  /** The smoothing as it is, but for what `change` makes of weights, season, and observations. */
  const planted = (
    change: (weights: Smoothing, seasonSteps: number) => readonly [Smoothing, number],
    hear: (value: number) => number = (value) => value
  ): Subject => ({
    make: (...given) => {
      const forecaster = new HoltWinters(...change(...given))
      return {
        observe: (value) => forecaster.observe(hear(value)),
        forecast: (ahead) => forecaster.forecast(ahead)
      }
    }
  })

  const defects: ReadonlyArray<Planted<Subject>> = [
    [
      "forecasts one step ahead, however far is asked for",
      "holt-linear",
      {
        make: (weights) => {
          const forecaster = new HoltWinters(weights, 0)
          return { observe: (value) => forecaster.observe(value), forecast: () => forecaster.forecast(1) }
        }
      }
    ],
    [
      "takes the trend's weight for the level",
      "holt-recursion",
      planted(({ level, trend, season }, steps) => [{ level: trend, trend: level, season }, steps])
    ],
    ["is a step off in the season", "holt-winters-season", planted((weights, steps) => [weights, steps + 1])],
    ["knows no season", "holt-winters-season", planted((weights) => [weights, 0])],
    [
      "takes what is missing for nothing",
      "holt-winters-missing",
      planted(
        (weights, steps) => [weights, steps],
        (value) => (Number.isNaN(value) ? 0 : value)
      )
    ],
    [
      "keeps the first shape of a season",
      "holt-winters-follows",
      planted((weights, steps) => [{ ...weights, season: 0 }, steps])
    ]
  ]
  findsAll(laws, defects)
})
