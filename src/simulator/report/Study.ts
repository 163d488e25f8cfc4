import { mean } from "../../structures/mean.ts"
import { memoized } from "../../structures/memoized.ts"
import type { Workload } from "../replay/Workload.ts"
import { contend, type Contender, groundOf, type Setting } from "./ground.ts"
import { type Limits, limitsOf } from "./limits.ts"
import type { Figures } from "./measures.ts"
import type { Plots } from "./plots.ts"

/** One replay to make; without a contender, nothing but what bounds it. Plain values: a job may be done by another thread. */
export interface Job {
  readonly contender: Contender | undefined
  readonly seed: number
  /** By which factor requests come closer together. */
  readonly speed: number
  /** Whether its plots are wanted. */
  readonly plots: boolean
}

/** What came of a job. */
export interface Run {
  readonly limits: Limits
  /** Undefined without a contender. */
  readonly figures: Figures | undefined
  readonly plots: Plots | undefined
  readonly events: number
}

/** What one policy reaches, or what bounds all, with traffic of one speed. */
export interface Trial {
  readonly policy: string
  readonly speed: number
  readonly requestsPerSecond: number
  /** For how long the requests that count came. */
  readonly spanMs: number
  readonly goodput: number
}

/** The means over runs at one speed. */
export const trialOf = (
  policy: string,
  speed: number,
  runs: ReadonlyArray<Run>,
  goodputOf: (run: Run) => number
): Trial => ({
  policy,
  speed,
  requestsPerSecond: mean(runs.map(({ limits }) => limits.requestsPerSecond)),
  spanMs: mean(runs.map(({ limits }) => (1000 * limits.requests) / limits.requestsPerSecond)),
  goodput: mean(runs.map(goodputOf))
})

/**
 * Asks for replays, some at a time, and makes something of what came of them, in the order in which it asked. Whoever runs it may make them
 * in any order and side by side.
 */
export type Study<Found> = Generator<ReadonlyArray<Job>, Found, ReadonlyArray<Run>>

/** Workloads that are kept with what bounds them. */
const KEPT_MAX = 4

/** Does jobs on the traffic that `workloadOf` gives for a seed and a speed. The same job has the same result, whatever came before it. */
export const runnerOf = (
  setting: Setting,
  workloadOf: (seed: number, speed: number) => Workload
): ((job: Job) => Run) => {
  const grounds = memoized(KEPT_MAX, (seed: number) => groundOf(setting, seed, workloadOf(seed, 1)))
  const prepared = memoized(KEPT_MAX, (key: string) => {
    const [seed, speed] = JSON.parse(key) as [number, number]
    const ground = grounds(seed)
    const workload = workloadOf(seed, speed)
    return { ground, workload, limits: limitsOf(ground, workload) }
  })
  return ({ contender, plots, seed, speed }) => {
    const { ground, limits, workload } = prepared(JSON.stringify([seed, speed]))
    const run = { limits, figures: undefined, plots: undefined, events: 0 }
    if (contender === undefined) return run
    return { ...run, ...contend(ground, workload, contender, Math.min(limits.alone, limits.capacity), plots) }
  }
}
