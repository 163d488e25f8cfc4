import type { Workload } from "../replay/Workload.ts"
import { estimate, type Estimate } from "./bootstrap.ts"
import { type Bounds, workersNeeded } from "./bounds.ts"
import { contend, type Contender, goodputBounds, type Ground, groundOf, type Setting } from "./ground.ts"
import { type Figures, measureNames, type MeasureName } from "./measures.ts"

export interface CompareOptions extends Setting {
  readonly workloadOf: (seed: number) => Workload
  /** Who shows what a shared cache would give. */
  readonly reference: Contender
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

/** Replays one workload under each of several pipelines, once for each seed, and sums up. Says after each replay how far it is. */
export function* compare(options: CompareOptions): Generator<Progress, Comparison> {
  const { reference, seeds } = options
  const contenders = [...options.contenders, reference]
  const total = seeds.length * contenders.length
  const figures = contenders.map((): Array<Figures> => [])
  const limits: Array<Limits> = []
  let done = 0
  for (const seed of seeds) {
    const workload = options.workloadOf(seed)
    const ground = groundOf(options, seed, workload)
    const limit = limitsOf(ground, workload)
    limits.push(limit)
    for (const [i, contender] of contenders.entries()) {
      const one = contend(ground, workload, contender, Math.min(limit.alone, limit.capacity))
      figures[i]!.push(one.figures)
      yield { done: ++done, total, policy: contender.name, seed, events: one.events }
    }
  }
  const meanOf = (name: keyof Limits): number => estimate(limits.map((limit) => limit[name])).mean
  const results = contenders.map(({ name }, i) => ({ policy: name, estimates: estimatesOf(figures[i]!) }))
  return {
    requests: meanOf("requests"),
    repeatedShare: meanOf("repeatedShare"),
    results: results.slice(0, -1),
    bounds: {
      alone: { goodput: meanOf("alone"), ttftMsMean: meanOf("ttftMs"), tpotMsMean: meanOf("tpotMs") },
      capacity: { goodput: meanOf("capacity"), workersNeeded: meanOf("workersNeeded") },
      sharedCache: results.at(-1)!
    }
  }
}

/** What bounds one workload. */
interface Limits {
  readonly requests: number
  readonly repeatedShare: number
  /** Of the goodput. */
  readonly alone: number
  readonly capacity: number
  readonly workersNeeded: number
  readonly ttftMs: number
  readonly tpotMs: number
}

const limitsOf = (ground: Ground, workload: Workload): Limits => {
  const { bounds, from } = ground
  const counted = workload.requests.slice(from)
  const promptTokens = counted.reduce((sum, request) => sum + request.promptTokens, 0)
  const known = finite(bounds, "knownTokens", from)
  return {
    requests: counted.length,
    repeatedShare: sumOf(known) / promptTokens,
    ...goodputBounds(ground, workload),
    workersNeeded: workersNeeded(bounds, workload),
    ttftMs: meanOf(finite(bounds, "ttftMs", from)),
    tpotMs: meanOf(finite(bounds, "tpotMs", from))
  }
}

/** Some requests have one token only, and some fit nowhere. */
const finite = (bounds: Bounds, name: keyof Bounds, from: number): Float64Array =>
  bounds[name].slice(from).filter(Number.isFinite)

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0)
const meanOf = (values: Float64Array): number => sumOf(values) / values.length

const estimatesOf = (figures: ReadonlyArray<Figures>): Estimates => {
  const entries = measureNames.map((name) => [name, estimate(figures.map((one) => one[name]))])
  return Object.fromEntries(entries) as Estimates
}
