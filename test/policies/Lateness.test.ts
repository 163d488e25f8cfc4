import { expect, test } from "bun:test"
import { Lateness } from "../../src/policies/Lateness.ts"
import { quietForecast } from "../support/pools.ts"

/** Of requests with this prediction each, the first tokens came this late. Whether another one like them is late, and its prediction. */
const after = (predictedMs: number, actualMs: ReadonlyArray<number>) => {
  const forecast = { ...quietForecast, placedMs: () => 1000, placedTtftMs: () => predictedMs }
  const lateness = new Lateness()
  for (const actual of actualMs) lateness.started(7, forecast, 1000 + actual)
  return {
    isLate: (waitedMs: number) => lateness.isLate(7, forecast, waitedMs),
    predictedMs: lateness.predicted(7, forecast)
  }
}
const hundred = (actual: (i: number) => number) => Array.from({ length: 100 }, (_, i) => actual(i))

test("nobody is late before a hundred requests have started, whatever they wait", () => {
  expect(after(100, hundred(() => 100).slice(1)).isLate(1e12)).toBe(false)
  expect(
    after(
      100,
      hundred(() => 100)
    ).isLate(200)
  ).toBe(true)
})

test("late is who waits longer, against its prediction, than 95 % have waited", () => {
  const lateness = after(
    100,
    hundred((i) => i + 1)
  )
  expect(lateness.predictedMs).toBe(100)
  expect(lateness.isLate(93)).toBe(false)
  expect(lateness.isLate(97)).toBe(true)
})

test("predictions below 10 ms count as 10", () => {
  const lateness = after(
    1,
    hundred(() => 10)
  )
  expect(lateness.isLate(9.8)).toBe(false)
  expect(lateness.isLate(10.2)).toBe(true)
  expect(lateness.predictedMs).toBe(10)
})
