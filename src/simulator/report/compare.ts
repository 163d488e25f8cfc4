import type { EnginePreset } from "../../engines/simulated/CostModel.ts"
import type { PipelineChoice } from "../../policies/pipelines.ts"
import { replay, type ReplayOptions } from "../replay/Replay.ts"
import type { Workload } from "../replay/Workload.ts"
import { estimate, type Estimate } from "./bootstrap.ts"
import { aloneShare, type Bounds, boundsOf, capacityShare, type Targets, workersNeeded } from "./bounds.ts"
import { figuresOf, type Yardstick } from "./figuresOf.ts"
import { type Figures, measureNames, type MeasureName } from "./measures.ts"

/** Policies under a name. */
export interface Contender {
  readonly name: string
  readonly pipeline: PipelineChoice
}

export interface CompareOptions {
  /** The same for a trace whatever the seed; generated traffic differs. */
  readonly workloadOf: (seed: number) => Workload
  readonly workers: number
  readonly preset: EnginePreset
  readonly kvCapacityTokens?: number | undefined
  readonly contenders: ReadonlyArray<Contender>
  /** Who shows what a shared cache would give. */
  readonly reference: Contender
  readonly targets: Targets
  /** Share of the requests, from the first on, that warm the caches up and do not count. */
  readonly warmUp: number
  readonly seeds: ReadonlyArray<number>
}

/** A mean over seeds for each measure. */
export type Estimates = Readonly<Record<MeasureName, Estimate>>

export interface Result {
  readonly policy: string
  readonly estimates: Estimates
}

export interface Comparison {
  /** Requests that counted, and the share of their prompt tokens that came before. */
  readonly requests: number
  readonly repeatedShare: number
  readonly results: ReadonlyArray<Result>
  readonly bounds: {
    /** Each request alone on an idle worker that holds every block that came before. */
    readonly alone: { readonly goodput: number; readonly ttftMsMean: number; readonly tpotMsMean: number }
    /** As many requests as there is time for, and workers that are busy on average when all are served. */
    readonly capacity: { readonly goodput: number; readonly workersNeeded: number }
    /** A replay in which all workers have one unlimited store of prefix blocks behind their caches. */
    readonly sharedCache: Result
  }
}

/** One replay that is done. */
export interface Progress {
  readonly done: number
  readonly total: number
  readonly policy: string
  readonly seed: number
  readonly events: number
}

/**
 * Replays one workload under each of several pipelines, once for each seed, and sums up. A seed gives policies their randomness, workers
 * their names, by which ties are broken, and generated traffic its draws. Says after each replay how far it is.
 */
export function* compare(options: CompareOptions): Generator<Progress, Comparison> {
  const { contenders, kvCapacityTokens, preset, reference, seeds, workers } = options
  const total = seeds.length * (contenders.length + 1)
  const figures = contenders.map((): Array<Figures> => [])
  const references: Array<Figures> = []
  const limits: Array<Limits> = []
  let done = 0
  for (const seed of seeds) {
    const workload = options.workloadOf(seed)
    const fleet = Array.from({ length: workers }, (_, i) => ({
      name: `worker-${seed}-${i}`,
      preset,
      ...(kvCapacityTokens === undefined ? {} : { kvCapacityTokens })
    }))
    const limit = limitsOf(options, { workload, workers: fleet })
    limits.push(limit)
    const run = function* (
      { name, pipeline }: Contender,
      into: Array<Figures>,
      shared: Partial<ReplayOptions>
    ) {
      const result = replay({ workload, workers: fleet, pipeline, seed, ...shared })
      into.push(figuresOf(result, limit.yardstick))
      yield { done: ++done, total, policy: name, seed, events: result.events }
    }
    for (const [i, contender] of contenders.entries()) yield* run(contender, figures[i]!, {})
    yield* run(reference, references, {
      // A request that was moved would find its own blocks again.
      pipeline: { ...reference.pipeline, rescue: [] },
      sharedCache: true
    })
  }
  const meanOf = (value: (limit: Limits) => number): number => estimate(limits.map(value)).mean
  return {
    requests: limits[0]!.requests,
    repeatedShare: meanOf(({ repeatedShare }) => repeatedShare),
    results: contenders.map(({ name }, i) => ({ policy: name, estimates: estimatesOf(figures[i]!) })),
    bounds: {
      alone: {
        goodput: meanOf(({ aloneGoodput }) => aloneGoodput),
        ttftMsMean: meanOf(({ ttftMs }) => ttftMs),
        tpotMsMean: meanOf(({ tpotMs }) => tpotMs)
      },
      capacity: {
        goodput: meanOf(({ capacityGoodput }) => capacityGoodput),
        workersNeeded: meanOf(({ workersNeeded }) => workersNeeded)
      },
      sharedCache: { policy: reference.name, estimates: estimatesOf(references) }
    }
  }
}

/** What bounds one workload. */
interface Limits {
  readonly requests: number
  readonly repeatedShare: number
  readonly aloneGoodput: number
  readonly capacityGoodput: number
  readonly workersNeeded: number
  readonly ttftMs: number
  readonly tpotMs: number
  readonly yardstick: Yardstick
}

const limitsOf = (
  { targets, warmUp }: CompareOptions,
  fleet: Pick<ReplayOptions, "workload" | "workers">
): Limits => {
  const { requests } = fleet.workload
  const from = Math.floor(warmUp * requests.length)
  const bounds = boundsOf(fleet)
  const aloneGoodput = aloneShare(bounds, targets, from)
  const capacityGoodput = capacityShare(bounds, fleet, targets, from)
  const counted = requests.slice(from)
  const promptTokens = counted.reduce((sum, request) => sum + request.promptTokens, 0)
  return {
    requests: counted.length,
    repeatedShare: sumOf(bounds, "knownTokens", from) / promptTokens,
    aloneGoodput,
    capacityGoodput,
    workersNeeded: workersNeeded(bounds, fleet.workload),
    ttftMs: meanFrom(bounds, "ttftMs", from),
    tpotMs: meanFrom(bounds, "tpotMs", from),
    yardstick: { targets, from, bounds, goodputMax: Math.min(aloneGoodput, capacityGoodput) }
  }
}

/** Of what is finite: some have one token only, and some fit nowhere. */
const finite = (bounds: Bounds, name: keyof Bounds, from: number): Float64Array =>
  bounds[name].slice(from).filter(Number.isFinite)

const sumOf = (bounds: Bounds, name: keyof Bounds, from: number): number =>
  finite(bounds, name, from).reduce((sum, value) => sum + value, 0)

const meanFrom = (bounds: Bounds, name: keyof Bounds, from: number): number =>
  sumOf(bounds, name, from) / finite(bounds, name, from).length

const estimatesOf = (figures: ReadonlyArray<Figures>): Estimates => {
  const entries = measureNames.map((name) => [name, estimate(figures.map((one) => one[name]))])
  return Object.fromEntries(entries) as Estimates
}
