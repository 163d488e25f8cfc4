import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay, type ReplayOptions, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"
import { boundsOf } from "../../src/simulator/report/bounds.ts"
import { figuresOf, type Yardstick } from "../../src/simulator/report/figuresOf.ts"
import type { Figures } from "../../src/simulator/report/measures.ts"
import {
  BINS,
  meanPlots,
  type Plots,
  plotsOf,
  QUANTILES,
  TENANTS_MAX,
  type Timeline
} from "../../src/simulator/report/plots.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays } from "../support/replays.ts"

type Plotting = typeof plotsOf

const targets = { ttftMs: 200, tpotMs: 8 }

const check = (
  plot: Plotting,
  expectOf: (plots: Plots, result: ReplayResult, yardstick: Yardstick) => void
): void =>
  fc.assert(
    fc.property(replays, fc.nat(5), (options, skipped) => {
      const from = Math.min(skipped, options.workload.requests.length - 1)
      const yardstick = { bounds: boundsOf(options), from, targets, goodputMax: 1 }
      const result = replay(options)
      expectOf(plot(result, yardstick), result, yardstick)
    }),
    { numRuns: 50 }
  )

const sumOf = (values: Iterable<number>): number => [...values].reduce((sum, value) => sum + value, 0)

/** Up to rounding, which grows with the number. */
const expectNear = (value: number, expected: number): void =>
  expect(Math.abs(value - expected) / Math.max(1, Math.abs(expected))).toBeLessThan(1e-9)

const laws = [
  {
    id: "plots-quantiles",
    check: (plot: Plotting) =>
      check(plot, (plots, result, yardstick) => {
        const figures = figuresOf(result, yardstick)
        const { arrivedMs, firstMs, reasons } = result.outcomes
        const done = [...reasons.keys()].filter((i) => i >= yardstick.from && reasons[i] === 0)
        const ttftsMs = done.map((i) => firstMs[i]! - arrivedMs[i]!)
        expect(plots.ttftMs).toHaveLength(done.length > 0 ? QUANTILES + 1 : 0)
        for (const values of [plots.ttftMs, plots.tpotMs])
          expect(values).toEqual(values.toSorted((a, b) => a - b))
        // The least value that so large a share does not exceed.
        for (const [i, value] of plots.ttftMs.entries()) {
          const rank = (i * done.length) / QUANTILES
          expect(ttftsMs.filter((ms) => ms <= value).length).toBeGreaterThanOrEqual(rank)
          expect(ttftsMs.filter((ms) => ms < value).length).toBeLessThan(Math.max(rank, 1))
        }
        const at = (values: ReadonlyArray<number>, share: number): number =>
          values[Math.round(share * QUANTILES)] ?? Number.NaN
        expect([0.5, 0.95, 0.99].map((share) => at(plots.ttftMs, share))).toEqual([
          figures.ttftMsP50,
          figures.ttftMsP95,
          figures.ttftMsP99
        ])
        expect(at(plots.tpotMs, 0.99)).toEqual(figures.tpotMsP99)
      })
  },
  {
    id: "plots-time",
    check: (plot: Plotting) =>
      check(plot, ({ timeline }, { options, outcomes, workers }) => {
        const { binMs, inFlightLeast, inFlightMean, inFlightMost, queued } = timeline
        const { arrivedMs, endedMs, placedMs } = outcomes
        const numbers = [...options.workload.requests.keys()]
        const queuedMs = sumOf(
          numbers.map((i) => (outcomes.workers[i]! < 0 ? endedMs[i]! : placedMs[i]!) - arrivedMs[i]!)
        )
        const presentMs = sumOf(numbers.map((i) => endedMs[i]! - arrivedMs[i]!))
        expectNear(sumOf(queued) * binMs, queuedMs)
        expectNear(sumOf(inFlightMean) * workers.length * binMs, presentMs - queuedMs)
        const spanMs = Math.max(...endedMs) - arrivedMs[0]!
        expectNear(BINS * binMs, spanMs > 0 ? spanMs : BINS)
        for (const [bin, mean] of inFlightMean.entries()) {
          expect(inFlightLeast[bin]!).toBeLessThanOrEqual(mean + 1e-9)
          expect(inFlightMost[bin]!).toBeGreaterThanOrEqual(mean - 1e-9)
          expect(Math.min(queued[bin]!, inFlightLeast[bin]!)).toBeGreaterThanOrEqual(-1e-9)
        }
      })
  },
  {
    id: "plots-hits",
    check: (plot: Plotting) =>
      check(plot, ({ timeline }, result, yardstick) => {
        const { prefixHitRate } = figuresOf(result, { ...yardstick, from: 0 })
        const promptTokens = sumOf(timeline.promptTokens)
        const done = result.options.workload.requests.filter((_, i) => result.outcomes.reasons[i] === 0)
        expect(promptTokens).toBe(sumOf(done.map((request) => request.promptTokens)))
        if (promptTokens > 0) expectNear(sumOf(timeline.hitTokens) / promptTokens, prefixHitRate)
        for (const [bin, tokens] of timeline.hitTokens.entries())
          expect(tokens).toBeLessThanOrEqual(timeline.promptTokens[bin]!)
      })
  },
  {
    id: "plots-tenants",
    check: (plot: Plotting) =>
      check(plot, ({ tenants }, result, yardstick) => {
        const { tenantJain } = figuresOf(result, yardstick)
        const shares = tenants.map(({ fair, served }) => (fair > 0 ? served / fair : 0))
        const counted = result.options.workload.requests.slice(yardstick.from)
        expect(sumOf(tenants.map(({ asked }) => asked))).toBe(
          sumOf(counted.map(({ outputTokens, promptTokens }) => promptTokens + outputTokens))
        )
        if (Number.isNaN(tenantJain)) return expect(tenants.length).toBeLessThan(2)
        const squares = sumOf(shares.map((share) => share ** 2))
        expectNear(squares === 0 ? 1 : sumOf(shares) ** 2 / (shares.length * squares), tenantJain)
      })
  }
]

const withTimeline = (plots: Plots, timeline: Partial<Timeline>): Plots => ({
  ...plots,
  timeline: { ...plots.timeline, ...timeline }
})

const defects: ReadonlyArray<Planted<Plotting>> = [
  [
    "counts the warm-up",
    "plots-quantiles",
    (result, yardstick) => plotsOf(result, { ...yardstick, from: 0 })
  ],
  [
    "is one quantile too low",
    "plots-quantiles",
    (result, yardstick) => {
      const plots = plotsOf(result, yardstick)
      return { ...plots, ttftMs: [...plots.ttftMs.slice(0, 1), ...plots.ttftMs.slice(0, -1)] }
    }
  ],
  [
    "takes the first token for the placement",
    "plots-time",
    (result, yardstick) => {
      const { firstMs, placedMs } = result.outcomes
      const late = firstMs.map((ms, i) => (Number.isNaN(ms) ? placedMs[i]! : ms))
      return plotsOf({ ...result, outcomes: { ...result.outcomes, placedMs: late } }, yardstick)
    }
  ],
  [
    "leaves out the last bin",
    "plots-time",
    (result, yardstick) => {
      const plots = plotsOf(result, yardstick)
      return withTimeline(plots, {
        inFlightMean: plots.timeline.inFlightMean.with(BINS - 1, 0),
        inFlightLeast: plots.timeline.inFlightLeast.with(BINS - 1, 0)
      })
    }
  ],
  [
    "shows the fewest for the mean",
    "plots-time",
    (result, yardstick) => {
      const plots = plotsOf(result, yardstick)
      return withTimeline(plots, { inFlightMean: plots.timeline.inFlightLeast })
    }
  ],
  [
    "counts a token too many",
    "plots-hits",
    (result, yardstick) => {
      const plots = plotsOf(result, yardstick)
      return withTimeline(plots, {
        promptTokens: plots.timeline.promptTokens.with(0, plots.timeline.promptTokens[0]! + 1)
      })
    }
  ],
  [
    "has no target for further tokens",
    "plots-tenants",
    (result, yardstick) => plotsOf(result, { ...yardstick, targets: { ...targets, tpotMs: Infinity } })
  ],
  [
    "leaves out who was not served",
    "plots-tenants",
    (result, yardstick) => {
      const plots = plotsOf(result, yardstick)
      return { ...plots, tenants: plots.tenants.filter(({ served }) => served > 0) }
    }
  ]
]

describe("plots", () => keepsAll(laws, plotsOf))
describe("planted defects", () => findsAll(laws, defects))

const many = (count: number, seed: number): { readonly plots: Plots; readonly figures: Figures } => {
  const options: ReplayOptions = {
    workload: workloadOf([
      generateTraffic({
        seed,
        requests: 400,
        requestsPerSecond: 40,
        promptTokens: { mean: 1000, variation: 1 },
        outputTokens: { mean: 30, variation: 1 },
        tenants: { count, skew: 1 }
      })
    ]),
    workers: [{ name: "worker", preset: presets["8b-h100"] }],
    pipeline: choiceOf(pipelines.simple),
    seed
  }
  const yardstick = { bounds: boundsOf(options), from: 40, targets, goodputMax: 1 }
  const result = replay(options)
  return { plots: plotsOf(result, yardstick), figures: figuresOf(result, yardstick) }
}

test("of many tenants those are shown that asked for most, and the rest as one", () => {
  const { tenants } = many(40, 1).plots
  expect(tenants).toHaveLength(TENANTS_MAX + 1)
  const tokens = tenants.slice(0, -1).map((each) => each.asked)
  expect(tokens).toEqual(tokens.toSorted((a, b) => b - a))
  expect(tenants.at(-1)!.tenant).toMatch(/^\d\d others$/)
})

test("of several seeds quantiles are means, which agree with the means of the figures", () => {
  const seeds = [1, 2, 3].map((seed) => many(2, seed))
  const mean = meanPlots(seeds.map(({ plots }) => plots))
  const figures = seeds.map((each) => each.figures.ttftMsP95)
  expect(mean.ttftMs[0.95 * QUANTILES]).toBe(sumOf(figures) / 3)
  expect(mean.timeline).toEqual(seeds[0]!.plots.timeline)
  const nothing = { ...mean, ttftMs: [], tpotMs: [] }
  expect(meanPlots([nothing, mean]).ttftMs).toEqual(mean.ttftMs)
  expect(meanPlots([nothing]).ttftMs).toEqual([])
})
