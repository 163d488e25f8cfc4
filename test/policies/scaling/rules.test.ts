import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { OptionValue } from "../../../src/domain/config/pipeline.ts"
import { findScaling } from "../../../src/policies/registry.ts"
import type { ScalingView } from "../../../src/policies/Scaling.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"

const PERIOD_MS = 15_000

/** Four workers of 10 places, 20 requests at them. */
const calm: ScalingView = {
  ready: 4,
  starting: 0,
  min: 1,
  max: 20,
  periodMs: PERIOD_MS,
  arrivalsPerSecond: 10,
  serviceMs: 2000,
  ttftMsP95: 1500,
  inFlight: 20,
  queued: 0,
  capacity: 10,
  backlogMs: 700,
  kvUse: 0.5,
  coldStartMs: 0
}

/** Of a period in which nothing was seen. */
const unseen: Partial<ScalingView> = {
  arrivalsPerSecond: Number.NaN,
  serviceMs: Number.NaN,
  ttftMsP95: Number.NaN,
  inFlight: Number.NaN,
  queued: Number.NaN,
  backlogMs: Number.NaN,
  kvUse: Number.NaN
}

/** What a policy that shrinks at once wants in the last of some periods. Before them it has seen one, and so keeps nobody in doubt. */
const wanted = (
  name: string,
  options: Readonly<Record<string, OptionValue>>,
  ...views: ReadonlyArray<Partial<ScalingView>>
): number => {
  const policy = findScaling(name).make({ window: 0, ...options }, makeRng(1))
  return [unseen, ...views].map((view, i) => policy.desired({ ...calm, ...view }, i * PERIOD_MS)).at(-1)!
}

describe("target-tracking", () => {
  const inFlight = { metric: "in-flight" }
  const kvUse = { metric: "kv-use" }
  const backlog = { metric: "backlog", backlog: 1000 }
  test.each([
    ["half of the places, for seven tenths", inFlight, {}, 3],
    ["as many as the target takes", inFlight, { inFlight: 28 }, 4],
    ["not quite a tenth above", inFlight, { inFlight: 30.79 }, 4],
    ["a little more", inFlight, { inFlight: 30.81 }, 5],
    ["not quite a tenth below", inFlight, { inFlight: 25.21 }, 4],
    ["those who wait count", inFlight, { inFlight: 40, queued: 100 }, 20],
    ["those on their way count: enough for both", inFlight, { inFlight: 40, starting: 2 }, 6],
    ["and are compared with what is needed", inFlight, { ready: 2, starting: 2, inFlight: 29.4 }, 4],
    ["no more than 64 places are counted", inFlight, { inFlight: 256, capacity: 256 }, 6],
    ["the KV cache is half in use", kvUse, {}, 3],
    ["the KV cache is full", kvUse, { kvUse: 1 }, 6],
    [
      "one of three workers is not ready, and has no KV in use",
      kvUse,
      { ready: 2, starting: 1, kvUse: 1 },
      3
    ],
    ["less than a second of prompts is pending", backlog, {}, 3],
    ["three seconds of prompts are pending", backlog, { backlogMs: 3000 }, 12]
  ])("%s", (_, options, view, count) => expect(wanted("target-tracking", options, view)).toBe(count))
})

describe("queue-driven", () => {
  test.each([
    ["what arrives fills 20 places, for eight tenths", {}, 3],
    ["a queue of 60 takes 4 more places to be gone in 30 s", { queued: 60 }, 3],
    ["a queue of 600 takes 40 more", { queued: 600 }, 8],
    ["nothing has ended: those who are here have a place each", { serviceMs: Number.NaN, queued: 20 }, 5],
    ["nobody arrives, and nobody is here", { arrivalsPerSecond: 0, serviceMs: Number.NaN, inFlight: 0 }, 1],
    ["nobody arrives, and some are still here", { arrivalsPerSecond: 0, inFlight: 20 }, 2]
  ])("%s", (_, view, count) => expect(wanted("queue-driven", {}, view)).toBe(count))
})

test("a rounding error orders no worker", () => {
  // 1.1 × 3 / 0.3 comes to 11.000000000000002.
  const view = { capacity: 1, arrivalsPerSecond: 1.1, serviceMs: 3000, inFlight: 3 }
  expect(wanted("queue-driven", { share: 0.3 }, view)).toBe(11)
})

describe("latency-driven", () => {
  const late = { ttftMsP95: 3000 }
  const very = { ttftMsP95: 30_000 }
  const early = { ttftMsP95: 500 }
  const quiet = { arrivalsPerSecond: 0, ttftMsP95: Number.NaN, inFlight: 0 }
  test.each<readonly [string, ReadonlyArray<Partial<ScalingView>>, number]>([
    ["in time", [{}], 4],
    ["late by a half", [late], 6],
    ["later than twice", [very], 8],
    ["more workers are on their way already", [{ ...very, starting: 6 }], 10],
    ["well in time: as few as fill seven tenths", [early], 3],
    ["late again with more workers, and nobody is queued: those of before", [late, { ...very, ready: 6 }], 6],
    ["and late once more", [late, { ...very, ready: 6 }, { ...very, ready: 6 }], 12],
    ["late again, and the queue grows", [late, { ...very, ready: 6, queued: 9 }], 12],
    [
      "a queue that two more periods end",
      [
        { ...very, queued: 90 },
        { ...very, ready: 8, queued: 60 }
      ],
      8
    ],
    [
      "a queue that they do not end",
      [
        { ...very, queued: 90 },
        { ...very, ready: 8, queued: 61 }
      ],
      16
    ],
    ["once late, not again with more arrivals each than were in time", [late, { ...early, ready: 6 }], 6],
    [
      "but with fewer arrivals there are fewer workers",
      [late, { ...early, ready: 6 }, { ...early, ready: 6, arrivalsPerSecond: 5 }],
      3
    ],
    ["nobody is here", [quiet], 1],
    ["some are here, and none had a token", [{ ...quiet, queued: 3 }], 4]
  ])("%s", (_, views, count) => expect(wanted("latency-driven", {}, ...views)).toBe(count))
})

describe("erlang-c", () => {
  test("8 busy places of one each: as many as the table of Erlang C says", () => {
    // C(12, 8) = 0.1398, C(13, 8) = 0.0738, C(14, 8) = 0.0366.
    const one = { capacity: 1, arrivalsPerSecond: 8, serviceMs: 1000, inFlight: 8 }
    expect(wanted("erlang-c", { wait: 0, late: 0.1 }, one)).toBe(13)
    expect(wanted("erlang-c", { wait: 0, late: 0.05 }, one)).toBe(14)
    // P(W > 0.5 s) with 11: 0.2452·e^(−1.5) = 0.0547; with 12: 0.0189.
    expect(wanted("erlang-c", { wait: 500, late: 0.05 }, one)).toBe(12)
  })

  test.each([
    [
      "by Little's law 60 in flight fill 6 workers, whatever arrivals and service time say",
      { inFlight: 60 },
      6
    ],
    ["fewer in flight do not", { inFlight: 5 }, 3],
    ["nothing has ended: 20 are here", { serviceMs: Number.NaN }, 3]
  ])("%s", (_, view, count) =>
    expect(wanted("erlang-c", { concurrency: 10 }, { capacity: 20, ...view })).toBe(count)
  )
})

describe("holt-winters", () => {
  /** Arrivals that grow by as much in each period. */
  const growing = (slope: number, periods: number): ReadonlyArray<Partial<ScalingView>> =>
    Array.from({ length: periods }, (_, i) => ({ arrivalsPerSecond: 4 + slope * i, inFlight: 0 }))

  test("sizes for the arrivals of the period in which workers ordered at this moment take work", () =>
    holds(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 2, max: 20 }),
        fc.integer({ min: 0, max: 6 }),
        (slope, periods, coldPeriods) => {
          const views = growing(slope, periods).map((view) => ({
            ...view,
            coldStartMs: coldPeriods * PERIOD_MS - 1
          }))
          const ahead = coldPeriods === 0 ? 1 : 1 + coldPeriods
          const then = { arrivalsPerSecond: 4 + slope * (periods - 1 + ahead), inFlight: 0 }
          // A rounding error of the forecast may move the number where it is about to change.
          const around = [1 - 1e-9, 1 + 1e-9].map((factor) =>
            wanted("erlang-c", {}, { ...then, arrivalsPerSecond: then.arrivalsPerSecond * factor })
          )
          expect(around).toContain(wanted("holt-winters", {}, ...views))
        }
      )
    ))

  test("never has fewer than this moment's arrivals need", () =>
    holds(
      fc.property(
        fc.array(fc.double({ min: 0, max: 50, noNaN: true }), { minLength: 1, maxLength: 30 }),
        (arrivals) => {
          const views = arrivals.map((arrivalsPerSecond) => ({ arrivalsPerSecond, inFlight: 0 }))
          expect(wanted("holt-winters", {}, ...views)).toBeGreaterThanOrEqual(
            wanted("erlang-c", {}, views.at(-1)!)
          )
        }
      )
    ))

  test("orders workers before the rush hour of the third day, and not before that of the second", () => {
    const day = 8
    const options = { season: day * PERIOD_MS, trend: 0 }
    const rush = (i: number): Partial<ScalingView> => ({
      arrivalsPerSecond: i % day === 0 ? 40 : 2,
      inFlight: 0
    })
    const before = (days: number): number =>
      wanted("holt-winters", options, ...Array.from({ length: day * days }, (_, i) => rush(i)))
    expect(before(2)).toBe(wanted("erlang-c", {}, rush(0)))
    expect(before(1)).toBeLessThan(before(2))
  })
})
