import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay, type ReplayOptions, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import { faster, type Workload, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { estimate } from "../../src/simulator/report/bootstrap.ts"
import { boundsOf } from "../../src/simulator/report/bounds.ts"
import { compare, type CompareOptions, type Comparison } from "../../src/simulator/report/compare.ts"
import { figuresOf } from "../../src/simulator/report/figuresOf.ts"
import { type Figures, measuredIn } from "../../src/simulator/report/measures.ts"
import type { Setting } from "../../src/simulator/report/ground.ts"
import { type Job, type Run, runnerOf } from "../../src/simulator/report/Study.ts"
import { notesOf, searches, sweepOf, type SweepOptions } from "../../src/simulator/report/sweep.ts"
import { comparisonCsv, sweepTableOf, tableOf, tableText } from "../../src/simulator/report/table.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { rounding } from "../../src/structures/rounding.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays } from "../support/replays.ts"
import { conclude } from "../support/studies.ts"

/** Decode steps alone take 6.4 ms. */
const targets = { ttftMs: 200, tpotMs: 8 }

type Counting = typeof figuresOf

const laws = [
  {
    id: "report-figures",
    check: (count: Counting) =>
      fc.assert(
        fc.property(replays, fc.nat(5), (options, skipped) => {
          const from = Math.min(skipped, options.workload.requests.length - 1)
          const result = replay(options)
          const figures = count(result, { bounds: boundsOf(options), from, targets, goodputMax: 1 })
          for (const [name, value] of Object.entries(naiveFigures(result, from)))
            expect([name, figures[name as keyof Figures]]).toEqual([
              name,
              Number.isNaN(value) ? Number.NaN : expect.closeTo(value, 6)
            ])
          const { failedShare, goodput, rejectedShare, tenantJain } = figures
          expect(goodput + failedShare + rejectedShare).toBeLessThanOrEqual(1 + 1e-9)
          if (from === 0)
            expect(rejectedShare * result.outcomes.reasons.length).toBeCloseTo(result.totals.rejected, 6)
          if (!Number.isNaN(tenantJain))
            expect(tenantJain).toBeWithin(1 / options.workload.tenants.length - 1e-9, 1 + 1e-9)
        }),
        { numRuns: 60 }
      )
  }
]

const defects: ReadonlyArray<Planted<Counting>> = [
  [
    "forgets who was refused",
    "report-figures",
    (result, yardstick) => {
      const figures = figuresOf(result, yardstick)
      return { ...figures, goodput: figures.goodput / (1 - figures.rejectedShare) }
    }
  ],
  [
    "counts the warm-up",
    "report-figures",
    (result, yardstick) => figuresOf(result, { ...yardstick, from: 0 })
  ],
  [
    "has no target for further tokens",
    "report-figures",
    (result, yardstick) =>
      figuresOf(result, { ...yardstick, targets: { ...targets, tpotMs: Number.POSITIVE_INFINITY } })
  ],
  [
    "takes the mean for the median",
    "report-figures",
    (result, yardstick) => {
      const figures = figuresOf(result, yardstick)
      return { ...figures, ttftMsP50: figures.ttftMsMean }
    }
  ]
]

describe("figures", () => keepsAll(laws, figuresOf))
describe("planted defects", () => findsAll(laws, defects))

describe("the Jain index", () => {
  const ofTenants = (
    tenants: ReadonlyArray<number>,
    late: ReadonlyArray<number>,
    weights: Readonly<Record<string, number>> = {}
  ): Figures => {
    const requests = tenants.map((tenant, i) => ({
      arrivalMs: 1000 * i,
      promptTokens: 10,
      outputTokens: 10,
      maxTokens: 16,
      tenant,
      sessionHigh: 0,
      sessionLow: 0,
      keys: new Float64Array(0)
    }))
    const options: ReplayOptions = {
      workload: { name: "", blockTokens: 256, tenants: ["a", "b", "c"], requests },
      workers: [{ name: "worker", preset: presets["8b-h100"] }],
      pipeline: choiceOf(pipelines.simple),
      seed: 1,
      weightOf: (tenant) => weights[tenant] ?? 1
    }
    const result = replay(options)
    for (const number of late) result.outcomes.firstMs[number]! += 500
    for (const number of late) result.outcomes.endedMs[number]! += 500
    return figuresOf(result, { bounds: boundsOf(options), from: 0, targets, goodputMax: 1 })
  }

  test.each([
    ["everybody is served", [0, 1], [], 1],
    ["nobody is served", [0, 1], [0, 1], 1],
    ["one of two is served", [0, 1], [0], 0.5],
    ["one of three asked for more, and has as much as the others", [0, 0, 1, 2], [0], 1],
    [
      "one of three has twice as much, and the others had asked for that",
      [0, 0, 1, 1, 2, 2],
      [2, 4],
      (1.5 + 0.75 + 0.75) ** 2 / (3 * (1.5 ** 2 + 2 * 0.75 ** 2))
    ],
    ["a tenant that asked for nothing does not count", [0, 2], [], 1]
  ])("when %s", (_, tenants, late, jain) => {
    expect(ofTenants(tenants, late).tenantJain).toBeCloseTo(jain, 9)
  })

  test("goes by weight, by the names of tenants", () => {
    const tenants = [0, 0, 0, 0, 1, 1, 1, 1]
    const [three, two] = [
      [3, 5, 6, 7],
      [2, 3, 6, 7]
    ]
    expect(ofTenants(tenants, three, { a: 3 }).tenantJain).toBeCloseTo(1, 9)
    const uneven = (2 / 3 + 2) ** 2 / (2 * ((2 / 3) ** 2 + 2 ** 2))
    expect(ofTenants(tenants, two, { a: 3 }).tenantJain).toBeCloseTo(uneven, 9)
  })
})

const naiveFigures = ({ options, outcomes, workers }: ReplayResult, from: number): Partial<Figures> => {
  const numbers = [...options.workload.requests.keys()].slice(from)
  const request = (i: number) => options.workload.requests[i]!
  const done = numbers.filter((i) => outcomes.reasons[i] === 0)
  const mean = (values: ReadonlyArray<number>): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length
  const ttft = (i: number): number => outcomes.firstMs[i]! - outcomes.arrivedMs[i]!
  const tpot = (i: number): number =>
    (outcomes.endedMs[i]! - outcomes.firstMs[i]!) / (request(i).outputTokens - 1)
  const met = done.filter(
    (i) => ttft(i) <= targets.ttftMs && (request(i).outputTokens === 1 || tpot(i) <= targets.tpotMs)
  )
  const sorted = done.map(ttft).toSorted((a, b) => a - b)
  const sumOf = (numbers: ReadonlyArray<number>, of: (i: number) => number): number =>
    numbers.reduce((sum, i) => sum + of(i), 0)
  const work = workers.map(
    (_, worker) =>
      sumOf(
        done.filter((i) => outcomes.readers[i] === worker),
        (i) => request(i).promptTokens - outcomes.cachedTokens[i]!
      ) +
      sumOf(
        done.filter((i) => outcomes.workers[i] === worker),
        (i) => request(i).outputTokens
      )
  )
  return {
    goodput: met.length / numbers.length,
    goodputGap: 1 - met.length / numbers.length,
    ttftMsMean: mean(done.map(ttft)),
    // The least value that half of all do not exceed.
    ttftMsP50:
      sorted.find((ms) => sorted.filter((other) => other <= ms).length >= 0.5 * sorted.length) ?? Number.NaN,
    ttftMsP99:
      sorted.find((ms) => sorted.filter((other) => other <= ms).length >= 0.99 * sorted.length) ?? Number.NaN,
    tpotMsMean: mean(done.filter((i) => request(i).outputTokens > 1).map(tpot)),
    e2eMsMean: mean(done.map((i) => outcomes.endedMs[i]! - outcomes.arrivedMs[i]!)),
    prefixHitRate:
      mean(done.map((i) => outcomes.cachedTokens[i]!)) / mean(done.map((i) => request(i).promptTokens)),
    imbalanceMaxOverMean: mean(work) > 0 ? Math.max(...work) / mean(work) : 1,
    failedShare:
      numbers.filter(
        (i) =>
          outcomes.reasons[i] !== 0 &&
          (outcomes.endedMs[i]! > outcomes.arrivedMs[i]! || outcomes.placedMs[i]! >= 0)
      ).length / numbers.length
  }
}

describe("an estimate over seeds", () => {
  const finite = fc.double({ min: -1e6, max: 1e6, noNaN: true })

  test("has its mean inside its interval, which lies inside the values", () => {
    fc.assert(
      fc.property(fc.array(finite, { minLength: 2, maxLength: 10 }), (values) => {
        const { high, low, mean } = estimate(values)
        const slack = 1e-9 * Math.max(...values.map(Math.abs))
        expect(low).toBeLessThanOrEqual(mean + slack)
        expect(high).toBeGreaterThanOrEqual(mean - slack)
        expect(low).toBeGreaterThanOrEqual(Math.min(...values) - slack)
        expect(high).toBeLessThanOrEqual(Math.max(...values) + slack)
        expect(estimate(values)).toEqual({ high, low, mean })
      })
    )
  })

  test("of one value has no interval, and leaves out what is not there", () => {
    expect(estimate([3])).toEqual({ mean: 3, low: Number.NaN, high: Number.NaN })
    expect(estimate([3, Number.NaN, 5]).mean).toBe(4)
    expect(estimate([]).mean).toBeNaN()
  })

  test.each([
    [2, 0.5],
    [3, 0.7],
    [5, 0.84],
    [10, 0.9],
    [20, 0.92]
  ])("of %i values covers the true mean as often as the docs say", (count, share) => {
    const rng = makeRng(5)
    const normal = (): number => Math.sqrt(-2 * Math.log(1 - rng.next())) * Math.cos(2 * Math.PI * rng.next())
    const runs = 600
    const covered = Array.from({ length: runs }, () =>
      estimate(Array.from({ length: count }, normal))
    ).filter(({ high, low }) => low <= 0 && high >= 0)
    // Three standard errors.
    const apart = 3 * Math.sqrt((share * (1 - share)) / runs)
    expect(covered.length / runs).toBeWithin(share - apart, share + apart)
  })
})

describe("a comparison", () => {
  const setting: Setting = { workers: 2, preset: presets["8b-h100"], targets, world: {}, warmUp: 0.1 }
  const runner = runnerOf(setting, (seed, speed) =>
    faster(
      workloadOf([
        generateTraffic({
          seed,
          requests: 120,
          requestsPerSecond: 40,
          promptTokens: { mean: 1500, variation: 1 },
          outputTokens: { mean: 30, variation: 1 },
          sharedPrefix: { count: 20, tokens: 2048, share: 0.7 }
        })
      ]),
      speed
    )
  )
  const options: CompareOptions = {
    contenders: [
      { name: "default", pipeline: choiceOf(pipelines.default) },
      {
        name: "turns",
        pipeline: { ...choiceOf(pipelines.default), placement: { policy: "round-robin", options: {} } }
      }
    ],
    reference: {
      name: "default",
      pipeline: { ...choiceOf(pipelines.default), rescue: [] },
      sharedCache: true
    },
    seeds: [1, 2, 3],
    speed: 1,
    plots: false,
    otherSpeeds: []
  }
  const run = (some: Partial<CompareOptions> = {}, doing: (job: Job) => Run = runner): Comparison =>
    conclude(compare({ ...options, ...some }), doing)
  const comparison = run()

  test("is the same when it is made again, in whatever order its replays are made", () => {
    expect(run()).toEqual(comparison)
    const backwards = (jobs: ReadonlyArray<Job>) => jobs.toReversed()
    expect(conclude(compare(options), runner, backwards)).toEqual(comparison)
    // Whoever answers in the order of the making is found out.
    const study = compare(options)
    const { value } = study.next([])
    expect(study.next(backwards(value as ReadonlyArray<Job>).map(runner)).value).not.toEqual(comparison)
  })

  test("has at other speeds what a comparison at that speed has with the first seed, from the slowest on", () => {
    const { trials } = run({ otherSpeeds: [3, 0.5] })
    const at = [0.5, 1, 3].map((speed) => run({ seeds: [1], speed }))
    const [known, turns, bound] = trials
    expect(trials).toHaveLength(3)
    expect(known!.map(({ speed }) => speed)).toEqual([0.5, 1, 3])
    for (const [i, trial] of [known!, turns!].entries())
      expect(trial.map(({ goodput }) => goodput)).toEqual(
        at.map(({ results }) => results[i]!.estimates.goodput.mean)
      )
    expect(bound!.map(({ goodput }) => goodput)).toEqual(
      at.map(({ bounds }) => Math.min(bounds.alone.goodput, bounds.capacity.goodput))
    )
    expect(known!.map(({ requestsPerSecond }) => requestsPerSecond / known![1]!.requestsPerSecond)).toEqual([
      expect.closeTo(0.5, 9),
      1,
      expect.closeTo(3, 9)
    ])
    expect(run({ otherSpeeds: [3] }).results).toEqual(comparison.results)
  })

  test("asks for every replay at once, seed by seed", () => {
    const asked: Array<string> = []
    run({}, (job) => {
      asked.push(`${job.contender!.name} ${job.seed}`)
      return runner(job)
    })
    expect(asked).toEqual(
      [1, 2, 3].flatMap((seed) => ["default", "turns", "default"].map((name) => `${name} ${seed}`))
    )
  })

  test("has each policy's means over the seeds, alone or beside others", () => {
    for (const [i, contender] of options.contenders.entries()) {
      const alone = run({ contenders: [contender] })
      expect(alone.results).toEqual([comparison.results[i]!])
      const single = options.seeds.map(
        (seed) => run({ contenders: [contender], seeds: [seed] }).results[0]!.estimates.goodput
      )
      expect(single.every(({ low }) => Number.isNaN(low))).toBe(true)
      expect(comparison.results[i]!.estimates.goodput.mean).toBeCloseTo(
        single.reduce((sum, { mean }) => sum + mean, 0) / 3,
        9
      )
    }
  })

  test("has bounds that nobody passes, and a shared cache that finds what came before", () => {
    const { alone, capacity, sharedCache } = comparison.bounds
    for (const { estimates } of comparison.results) {
      expect(estimates.goodput.mean).toBeLessThanOrEqual(Math.min(alone.goodput, capacity.goodput))
      expect(estimates.ttftOverBound.mean).toBeGreaterThanOrEqual(1)
      expect(estimates.prefixHitRate.mean).toBeLessThan(sharedCache.estimates.prefixHitRate.mean)
    }
    // Who comes while a prompt is computed finds only its beginning.
    expect(sharedCache.estimates.prefixHitRate.mean / comparison.repeatedShare).toBeWithin(0.95, 1.05)
  })

  test("as a table marks the best of each column", () => {
    const lines = tableText(tableOf(comparison)).split("\n")
    expect(lines.map((line) => line.slice(0, 10).trim())).toEqual([
      "policy",
      "default",
      "",
      "turns",
      "",
      "",
      "bound: eac",
      "bound: tim",
      "one infini",
      ""
    ])
    expect(lines[2]).toContain("±")
    const [default_, turns] = comparison.results.map(({ estimates }) => estimates.ttftMsMean.mean)
    expect(default_!).toBeLessThan(turns!)
    expect(lines[1]).toContain(`${default_!.toFixed(default_! < 100 ? 1 : 0)}*`)
    expect(lines[3]).not.toContain(`${turns!.toFixed(turns! < 100 ? 1 : 0)}*`)
    expect(lines.slice(6).join("")).not.toContain("*")
    const without = tableText(tableOf(run({ seeds: [1] })))
    expect(without).not.toContain("±")
  })

  test("as CSV has a value for each measure and end, and as many in each line", () => {
    const [head, ...lines] = comparisonCsv(comparison).trimEnd().split("\n")
    const columns = 2 + 3 * measuredIn(comparison.bounds.sharedCache.estimates).length
    expect(head!.split(",")).toHaveLength(columns)
    expect(lines.map((line) => line.split(",").slice(0, 2))).toEqual([
      ["policy", "default"],
      ["policy", "turns"],
      ["sharedCache", "default"],
      ["alone", ""],
      ["capacity", ""]
    ])
    for (const line of lines) expect(line.split(",")).toHaveLength(columns)
    const at = head!.split(",").indexOf("ttftMsP95.high")
    expect(Number(lines[1]!.split(",")[at])).toBeCloseTo(comparison.results[1]!.estimates.ttftMsP95.high, 2)
  })
})

describe("a sweep", () => {
  const pipeline = choiceOf(pipelines.default)
  const setting: Setting = {
    workers: 2,
    preset: presets["8b-h100"],
    targets: { ttftMs: 500, tpotMs: 20 },
    world: {},
    warmUp: 0.1
  }
  const traffic = (seed: number, speed: number): Workload =>
    faster(
      workloadOf([
        generateTraffic({
          seed,
          requests: 150,
          requestsPerSecond: 4,
          promptTokens: { mean: 2000, variation: 1 },
          outputTokens: { mean: 30, variation: 1 }
        })
      ]),
      speed
    )
  const options: SweepOptions = {
    contenders: [
      { name: "default", pipeline },
      { name: "random", pipeline: { ...pipeline, placement: { policy: "random", options: {} } } }
    ],
    reference: { name: "store", pipeline, sharedCache: true },
    seeds: [1, 2],
    goal: 0.9
  }
  const runner = runnerOf(setting, traffic)
  const found = sweepOf(searches(options).map((search) => conclude(search, runner)))

  test("ends with a speed at which the goal is met, next to one at which it is missed", () => {
    for (const search of [...found.results, found.bounds.bound, found.bounds.sharedCache]) {
      const missed = search.trials.filter(({ goodput }) => goodput < options.goal).map(({ speed }) => speed)
      expect(search.found.goodput).toBeGreaterThanOrEqual(options.goal)
      expect(search.trials).toContainEqual(search.found)
      expect(Math.min(...missed) / search.found.speed).toBeWithin(1, 1.02)
    }
  })

  test("says the very speeds it tried: who replays at one finds what was found", () => {
    // The traffic so much faster that speeds are far below 1, where rounding takes most.
    const fast = runnerOf(setting, (seed, speed) => traffic(seed, 150 * speed))
    const far = sweepOf(searches(options).map((search) => conclude(search, fast)))
    for (const sweep of [found, far]) {
      const tried = [...sweep.results, sweep.bounds.bound, sweep.bounds.sharedCache].flatMap(
        ({ trials }) => trials
      )
      expect(tried.map(({ speed }) => rounding("", speed))).toEqual(tried.map(({ speed }) => speed))
      const rows = sweepTableOf(sweep, setting.workers).policies
      expect(rows.map(({ cells }) => Number(cells[2]!.mean))).toEqual(
        sweep.results.map((each) => each.found.speed)
      )
    }
  })

  test("says the rate of that speed, ranks policies, and keeps below the bound", () => {
    const [ours, random] = found.results.map((search) => search.found)
    const rates = options.seeds.map((seed) => {
      const { requests } = traffic(seed, ours!.speed)
      return (149 * 1000) / (requests.at(-1)!.arrivalMs - requests[0]!.arrivalMs)
    })
    expect(ours!.requestsPerSecond).toBeCloseTo((rates[0]! + rates[1]!) / 2, 9)
    expect(ours!.speed).toBeGreaterThan(random!.speed)
    expect(found.bounds.bound.found.speed).toBeGreaterThan(ours!.speed)
  })

  test("finds the same again, whichever search is first", () => {
    const backwards = searches(options)
      .toReversed()
      .map((search) => conclude(search, runnerOf(setting, traffic)))
    expect(sweepOf(backwards.toReversed())).toEqual(found)
  })

  test("takes a goal for met that is met exactly", () => {
    const [first] = searches({ ...options, seeds: [1], goal: 0.9 })
    const searching = first!
    let step = searching.next()
    while (step.done !== true) {
      const runs = step.value.map(({ speed }) => ({
        figures: { goodput: speed <= 3 ? 0.9 : 0.8 },
        limits: { requestsPerSecond: speed }
      }))
      step = searching.next(runs as unknown as ReadonlyArray<Run>)
    }
    expect(step.value.found).toMatchObject({ goodput: 0.9, speed: expect.closeTo(3, 1) })
  })

  test("notes rates of bursts and those beyond which none is tried", () => {
    const noted = (targetMs: number, ...policies: ReadonlyArray<readonly [speed: number, spanMs: number]>) =>
      notesOf(
        {
          ...found,
          results: policies.map(([speed, spanMs], i) => ({
            found: { policy: `p${i}`, speed, requestsPerSecond: 100, spanMs, goodput: 1 },
            trials: []
          }))
        },
        { ttftMs: targetMs, tpotMs: 1 }
      )
    expect(noted(1000, [1, 10_000], [8, 10_000], [0, 0])).toEqual([])
    // 400 of them in 4 s; and 10 in a tenth of a second, of which the last may have come after a second.
    expect(noted(1000, [1, 4000])[0]).toMatch(/^p0: the rate of a burst, .* at least 1,000 requests/)
    expect(noted(1000, [1, 100], [1, 10_000])[0]).toMatch(
      /^p0: the rate of a burst, .* at least 100 requests/
    )
    expect(noted(1000, [4096, 10_000], [4096, 1])).toEqual([
      expect.stringMatching(/^p1: the rate of a burst/),
      expect.stringMatching(/^p0: the rate at speed 4,096, beyond which none is tried\./)
    ])
  })

  test("finds nothing where no speed is slow enough", () => {
    const impossible = { ...setting, targets: { ttftMs: 1, tpotMs: 1 } }
    const [first] = searches({ ...options, seeds: [1] })
    const { found, trials } = conclude(first!, runnerOf(impossible, traffic))
    expect(found).toEqual({ policy: "default", speed: 0, requestsPerSecond: 0, spanMs: 0, goodput: 0 })
    expect(trials.length).toBeLessThan(12)
  })
})
