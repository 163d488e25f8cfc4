import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { replay, type ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import {
  aloneShare,
  type Bounds,
  boundsOf,
  capacityShare,
  workersNeeded
} from "../../src/simulator/report/bounds.ts"
import { figuresOf } from "../../src/simulator/report/figuresOf.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays, split } from "../support/replays.ts"

interface Bounding {
  readonly boundsOf: (options: ReplayOptions) => Bounds
  readonly capacityShare: typeof capacityShare
}

/** Whether all workers do both, or some only read and others only write. */
const alsoSplit = fc.oneof(replays, replays.map(split))

const holds = (check: (options: ReplayOptions) => void, among = alsoSplit): void =>
  fc.assert(fc.property(among, check), { numRuns: 100 })

/** What adding in another order makes of sums of milliseconds. */
const ROUNDING_MS = 1e-6

const isFinite = (value: number): boolean => Number.isFinite(value)

const laws = [
  {
    id: "bound-below",
    check: ({ boundsOf }: Bounding) =>
      holds((options) => {
        const { ttftMs, tpotMs } = boundsOf(options)
        const { outcomes } = replay(options)
        for (const [number, { outputTokens }] of options.workload.requests.entries()) {
          const firstMs = outcomes.firstMs[number]!
          if (!(firstMs >= 0)) continue
          expect(firstMs - outcomes.arrivedMs[number]!).toBeGreaterThan(ttftMs[number]! - ROUNDING_MS)
          if (outcomes.reasons[number] !== 0 || outputTokens === 1) continue
          const meanMs = (outcomes.endedMs[number]! - firstMs) / (outputTokens - 1)
          expect(meanMs).toBeGreaterThan(tpotMs[number]! - ROUNDING_MS)
        }
      })
  },
  {
    id: "bound-reached",
    check: ({ boundsOf }: Bounding) =>
      holds((options) => {
        const { workload } = options
        // One after the other at one worker that forgets nothing, or at several with one store: nobody could do better.
        const like = { ...options.workers[0]!, kvCapacityTokens: 2 ** 30 }
        const sharedCache = options.workers.length > 1
        const alone: ReplayOptions = {
          ...options,
          sharedCache,
          workers: options.workers.map((_, i) => ({ ...like, name: `worker-${i}` })),
          pipeline: {
            ...options.pipeline,
            admission: [],
            batching: { policy: "none", options: {} },
            rescue: []
          },
          workload: {
            ...workload,
            requests: workload.requests.map((request, i) => ({ ...request, arrivalMs: i * 40_000 }))
          },
          requestTimeoutMs: 100_000,
          heartbeatMs: 10_000
        }
        const { ttftMs, tpotMs } = boundsOf(alone)
        const { outcomes } = replay(alone)
        for (const [number, { outputTokens }] of workload.requests.entries()) {
          const firstMs = outcomes.firstMs[number]!
          expect(firstMs - outcomes.arrivedMs[number]!).toBeCloseTo(ttftMs[number]!, 6)
          if (outputTokens > 1)
            expect((outcomes.endedMs[number]! - firstMs) / (outputTokens - 1)).toBeCloseTo(tpotMs[number]!, 6)
        }
      }, replays)
  },
  {
    id: "bound-work",
    check: ({ boundsOf }: Bounding) =>
      holds((options) => {
        const bounds = boundsOf(options)
        const { outcomes, workers } = replay(options)
        const done = bounds.workMs.filter((_, number) => outcomes.reasons[number] === 0)
        const busyMs = workers.reduce((sum, worker) => sum + worker.busyMs, 0)
        expect(busyMs).toBeGreaterThan(done.reduce((sum, ms) => sum + ms, 0) - ROUNDING_MS)
      })
  },
  {
    id: "bound-goodput",
    check: ({ boundsOf, capacityShare }: Bounding) =>
      fc.assert(
        fc.property(
          alsoSplit,
          fc.constantFrom(30, 100, 1000),
          fc.constantFrom(8, 40),
          (options, ttftMs, tpotMs) => {
            const targets = { ttftMs, tpotMs }
            const from = Math.floor(options.workload.requests.length / 10)
            const bounds = boundsOf(options)
            const alone = aloneShare(bounds, targets, from)
            const capacity = capacityShare(bounds, options, targets, from)
            const yardstick = { bounds, from, targets, goodputMax: Math.min(alone, capacity) }
            const { goodput, goodputGap } = figuresOf(replay(options), yardstick)
            expect(goodput).toBeLessThanOrEqual(Math.min(alone, capacity))
            expect(goodputGap).toBeGreaterThanOrEqual(0)
          }
        ),
        { numRuns: 100 }
      )
  },
  {
    id: "bound-workers",
    check: ({ boundsOf }: Bounding) =>
      holds((options) => {
        const bounds = boundsOf(options)
        const { requests } = options.workload
        const spanMs = requests.at(-1)!.arrivalMs - requests[0]!.arrivalMs
        const busyMs = bounds.workMs.filter(isFinite).reduce((sum, ms) => sum + ms, 0)
        if (spanMs > 1) expect(workersNeeded(bounds, options.workload)).toBeCloseTo(busyMs / spanMs, 9)
        if (spanMs === 0) expect(workersNeeded(bounds, options.workload)).toBeNaN()
        for (const ms of bounds.workMs) expect(ms).toBeGreaterThan(0)
      })
  }
]

const real: Bounding = { boundsOf, capacityShare }
const changed = (change: (bounds: Bounds, options: ReplayOptions) => Partial<Bounds>): Bounding => ({
  ...real,
  boundsOf: (options) => {
    const bounds = boundsOf(options)
    return { ...bounds, ...change(bounds, options) }
  }
})

const defects: ReadonlyArray<Planted<Bounding>> = [
  [
    "knows of no cache",
    "bound-below",
    {
      ...real,
      boundsOf: (options) =>
        boundsOf({
          ...options,
          workload: {
            ...options.workload,
            requests: options.workload.requests.map((request) => ({ ...request, keys: new Float64Array(0) }))
          }
        })
    }
  ],
  [
    "takes the slowest worker",
    "bound-below",
    {
      ...real,
      boundsOf: (options) =>
        boundsOf({
          ...options,
          workers: [options.workers.toSorted((a, b) => (b.slowFactor ?? 1) - (a.slowFactor ?? 1))[0]!]
        })
    }
  ],
  ["forgets the way", "bound-reached", changed(({ ttftMs }) => ({ ttftMs: ttftMs.map((ms) => ms - 1) }))],
  [
    "counts the context from the end",
    "bound-reached",
    changed(({ tpotMs }, { workload: { requests } }) => ({
      tpotMs: tpotMs.map((ms, i) => ms + 4.6e-5 * requests[i]!.outputTokens)
    }))
  ],
  [
    "gives every request steps of its own",
    "bound-work",
    changed(({ workMs }, { workers, workload: { requests } }) => ({
      workMs: workMs.map((ms, i) => ms + requests[i]!.outputTokens * workers[0]!.preset.cost.baseMs)
    }))
  ],
  [
    "lets work end when the last request comes",
    "bound-goodput",
    {
      ...real,
      capacityShare: (bounds, fleet, _, from) => capacityShare(bounds, fleet, { ttftMs: 0, tpotMs: 0 }, from)
    }
  ],
  [
    "looks at one request only",
    "bound-workers",
    changed(({ workMs }) => ({ workMs: workMs.map((ms, i) => (i === 0 ? ms : 0)) }))
  ]
]

describe("the time that workers have", () => {
  /** Ten requests at once, each with so much work. */
  const share = (prefillMs: number, workMs: number): number => {
    const ms = (value: number) => new Float64Array(10).fill(value)
    const zeros = { ttftMs: ms(0), tpotMs: ms(0), knownTokens: ms(0) }
    const request = { arrivalMs: 0, promptTokens: 1, outputTokens: 11, maxTokens: 16, keys: ms(0) }
    const requests = Array.from({ length: 10 }, () => ({
      ...request,
      tenant: 0,
      sessionHigh: 0,
      sessionLow: 0
    }))
    return capacityShare(
      { ...zeros, prefillMs: ms(prefillMs), workMs: ms(workMs) },
      {
        workers: [{ name: "worker", preset: presets["8b-h100"] }],
        workload: { name: "", blockTokens: 256, tenants: ["default"], requests }
      },
      { ttftMs: 250, tpotMs: 100 },
      0
    )
  }

  test.each([
    ["for prompts it is over when the last may have its first token", 100, 100, 0.2],
    ["for all there is to do when the last must be over", 10, 300, 0.4],
    ["it is enough", 25, 125, 1]
  ])("%s", (_, prefillMs, workMs, fitting) => {
    expect(share(prefillMs, workMs)).toBe(fitting)
  })
})

test("of a prompt that came before some tokens are computed all the same, also where it fills its blocks", () => {
  const request = { arrivalMs: 0, outputTokens: 1, maxTokens: 1, tenant: 0, sessionHigh: 0, sessionLow: 0 }
  const requests = [512, 512, 513].map((promptTokens) => ({
    ...request,
    promptTokens,
    keys: Float64Array.of(1, 2)
  }))
  const { knownTokens } = boundsOf({
    workers: [{ name: "worker", preset: presets["8b-h100"] }],
    workload: { name: "", blockTokens: 256, tenants: ["default"], requests }
  })
  expect([...knownTokens]).toEqual([0, 256, 512])
})

describe("bounds", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))
