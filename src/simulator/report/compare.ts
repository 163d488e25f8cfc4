import { estimate, type Estimate } from "./bootstrap.ts"
import type { Competition, Contender } from "./ground.ts"
import type { Limits } from "./limits.ts"
import { type Measured, measuredIn } from "./measures.ts"
import { meanPlots, type Plots } from "./plots.ts"
import { type Run, type Study, type Trial, trialOf } from "./Study.ts"

export interface CompareOptions extends Competition {
  /** By which factor requests come closer together. */
  readonly speed: number
  /** Whether there is something to draw. */
  readonly plots: boolean
  /** Other speeds at which the goodput with the first seed is wanted. */
  readonly otherSpeeds: ReadonlyArray<number>
}

/** A mean over seeds for each measure. */
export type Estimates = Measured<Estimate>

export interface Result {
  readonly policy: string
  readonly estimates: Estimates
  /** Where they are wanted. */
  readonly plots: Plots | undefined
}

export interface Comparison {
  /** Requests that counted, and the share of their prompt tokens that came before. */
  readonly requests: number
  readonly repeatedShare: number
  readonly results: ReadonlyArray<Result>
  /** With the first seed, of each policy and, last, of the bound: at each speed, the slowest first. */
  readonly trials: ReadonlyArray<ReadonlyArray<Trial>>
  readonly bounds: {
    /** Each request alone on an idle worker that holds every block that came before. */
    readonly alone: { readonly goodput: number; readonly ttftMsMean: number; readonly tpotMsMean: number }
    /** As many requests as there is time for, and workers that are busy on average when all are served. */
    readonly capacity: { readonly goodput: number; readonly workersNeeded: number }
    readonly sharedCache: Result
  }
}

/** Replays one workload under each of several pipelines, once for each seed, then at other speeds, and sums up. */
export function* compare(options: CompareOptions): Study<Comparison> {
  const { otherSpeeds, plots, reference, seeds, speed } = options
  const contenders = [...options.contenders, reference]
  // One seed after the other, for who keeps the traffic of one.
  const runs = yield seeds.flatMap((seed) =>
    contenders.map((contender) => ({ contender, seed, speed, plots }))
  )
  const others = otherSpeeds.flatMap((other) =>
    options.contenders.map((contender) => ({ contender, seed: seeds[0]!, speed: other, plots: false }))
  )
  const otherRuns = others.length === 0 ? [] : yield others
  const limits = seeds.map((_, i) => runs[i * contenders.length]!.limits)
  const meanOf = (name: keyof Limits): number => estimate(limits.map((limit) => limit[name])).mean
  const results = contenders.map(({ name }, i) =>
    resultOf(
      name,
      seeds.map((_, k) => runs[k * contenders.length + i]!)
    )
  )
  return {
    requests: meanOf("requests"),
    repeatedShare: meanOf("repeatedShare"),
    results: results.slice(0, -1),
    trials: trialsOf(
      options.contenders,
      [speed, ...otherSpeeds],
      [...runs.slice(0, options.contenders.length), ...otherRuns]
    ),
    bounds: {
      alone: { goodput: meanOf("alone"), ttftMsMean: meanOf("ttftMs"), tpotMsMean: meanOf("tpotMs") },
      capacity: { goodput: meanOf("capacity"), workersNeeded: meanOf("workersNeeded") },
      sharedCache: results.at(-1)!
    }
  }
}

/** By policy, of runs of all policies at one speed after the other. */
const trialsOf = (
  contenders: ReadonlyArray<Contender>,
  speeds: ReadonlyArray<number>,
  runs: ReadonlyArray<Run>
): Comparison["trials"] => {
  const trials = (policy: string, at: number, goodputOf: (run: Run) => number): ReadonlyArray<Trial> =>
    speeds
      .map((speed, i) => trialOf(policy, speed, [runs[i * contenders.length + at]!], goodputOf))
      .toSorted((a, b) => a.speed - b.speed)
  return [
    ...contenders.map(({ name }, at) => trials(name, at, ({ figures }) => figures!.goodput)),
    trials("bound", 0, ({ limits }) => Math.min(limits.alone, limits.capacity))
  ]
}

const resultOf = (policy: string, runs: ReadonlyArray<Run>): Result => {
  const entries = measuredIn(runs[0]!.figures!).map((name) => [
    name,
    estimate(runs.map((run) => run.figures![name]!))
  ])
  const plots = runs.flatMap((run) => run.plots ?? [])
  return {
    policy,
    estimates: Object.fromEntries(entries) as Estimates,
    plots: plots.length > 0 ? meanPlots(plots) : undefined
  }
}
