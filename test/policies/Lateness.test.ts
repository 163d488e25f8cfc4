import { expect, test } from "bun:test"
import { Lateness } from "../../src/policies/Lateness.ts"
import { equalWorkers, poolOf } from "../support/pools.ts"

/** Of requests with this prediction each, the first tokens came this late; then one more was placed. */
const after = (predictedMs: number, actualMs: ReadonlyArray<number>): Lateness => {
  const { workers } = poolOf(equalWorkers(1, { baseMs: predictedMs, prefillTokenMs: 0, decodeSequenceMs: 0 }))
  const lateness = new Lateness()
  for (const actual of actualMs) {
    lateness.placed(7, 0, workers, 1000)
    lateness.started(7, 1000 + actual)
  }
  lateness.placed(7, 0, workers, 1000)
  return lateness
}
const hundred = (actual: (i: number) => number) => Array.from({ length: 100 }, (_, i) => actual(i))

test("nobody is late before a hundred requests have started, whatever they wait", () => {
  expect(after(100, hundred(() => 100).slice(1)).isLate(7, 1e12)).toBe(false)
  expect(
    after(
      100,
      hundred(() => 100)
    ).isLate(7, 200)
  ).toBe(true)
})

test("late is who waits longer, against its prediction, than 95 % have waited", () => {
  const lateness = after(
    100,
    hundred((i) => i + 1)
  )
  expect(lateness.predicted(7)).toBe(100)
  expect(lateness.isLate(7, 93)).toBe(false)
  expect(lateness.isLate(7, 97)).toBe(true)
})

test("predictions below 10 ms count as 10", () => {
  const lateness = after(
    1,
    hundred(() => 10)
  )
  expect(lateness.isLate(7, 9.8)).toBe(false)
  expect(lateness.isLate(7, 10.2)).toBe(true)
  expect(lateness.predicted(7)).toBe(10)
})
