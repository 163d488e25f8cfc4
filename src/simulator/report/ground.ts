import type { EnginePreset } from "../../engines/simulated/CostModel.ts"
import type { PipelineChoice, Targets } from "../../policies/pipelines.ts"
import { findPlacement } from "../../policies/registry.ts"
import { makeRng } from "../../structures/Rng.ts"
import { DecisionTime } from "../replay/DecisionTime.ts"
import { replay, type ReplayOptions } from "../replay/Replay.ts"
import type { ReplayWorkerOptions } from "../replay/ReplayWorker.ts"
import type { Workload } from "../replay/Workload.ts"
import { aloneShare, type Bounds, boundsOf, capacityShare } from "./bounds.ts"
import { figuresOf } from "./figuresOf.ts"
import type { Figures } from "./measures.ts"
import { type Plots, plotsOf } from "./plots.ts"

/** Policies under a name. */
export interface Contender {
  readonly name: string
  readonly pipeline: PipelineChoice
  /** Whether the workers have one unlimited store of prefix blocks behind their caches. */
  readonly sharedCache?: boolean
}

/** Who competes, who shows what a shared cache would give, and with which seeds. */
export interface Competition {
  readonly contenders: ReadonlyArray<Contender>
  readonly reference: Contender
  /** A seed gives policies their randomness, workers their names, by which ties are broken, and generated traffic its draws. */
  readonly seeds: ReadonlyArray<number>
}

/** What a replay is told of the world around workers and policies. */
export type World = Omit<ReplayOptions, "workload" | "workers" | "pipeline" | "seed" | "sharedCache">

/** How many workers only read prompts, and how many only write answers. All others do both. */
export interface Roles {
  readonly prefill: number
  readonly decode: number
}

/** What serves, and what is in time. */
export interface Setting {
  readonly world: World
  readonly workers: number
  /** What the first of them do, readers before writers, under policies that split requests; under all others each does both. */
  readonly roles?: Roles | undefined
  /** What the KV cache of one split request gets of the network. */
  readonly transferGbps?: number | undefined
  readonly preset: EnginePreset
  readonly kvCapacityTokens?: number | undefined
  readonly targets: Targets
  /** Share of the requests, from the first on, that warm the caches up and do not count. */
  readonly warmUp: number
  /** Whether it is measured how long decisions take. */
  readonly timeDecisions?: boolean
}

/** What is the same for all contenders with one seed, and at any speed. */
export interface Ground {
  readonly seed: number
  readonly world: World
  readonly workers: ReadonlyArray<ReplayWorkerOptions>
  readonly targets: Targets
  /** Number of the first request that counts. */
  readonly from: number
  readonly bounds: Bounds
  readonly timeDecisions: boolean
}

/** Who serves with one seed. */
export const workersOf = (
  { kvCapacityTokens, preset, roles, transferGbps, workers: count }: Setting,
  seed: number
): ReadonlyArray<ReplayWorkerOptions> => {
  const { decode, prefill } = roles ?? { decode: 0, prefill: 0 }
  return Array.from({ length: count }, (_, i) => ({
    name: `worker-${seed}-${i}`,
    role: i < prefill ? "prefill" : i < prefill + decode ? "decode" : "both",
    preset,
    kvCapacityTokens,
    transferGbps
  }))
}

/** The same as one pipeline has them: where nothing is split, who does one part would do nothing. */
export const workersUnder = (
  pipeline: PipelineChoice,
  workers: ReadonlyArray<ReplayWorkerOptions>
): ReadonlyArray<ReplayWorkerOptions> =>
  splits(pipeline) ? workers : workers.map((worker) => ({ ...worker, role: "both" }))

/** Whether it may have a request read by one worker and answered by another. */
export const splits = ({ placement: { options, policy } }: PipelineChoice): boolean =>
  findPlacement(policy).make(options, makeRng(0)).decodeOn !== undefined

export const groundOf = (setting: Setting, seed: number, workload: Workload): Ground => {
  const { targets, timeDecisions = false, warmUp, world } = setting
  const workers = workersOf(setting, seed)
  const from = Math.floor(warmUp * workload.requests.length)
  const bounds = boundsOf({ ...world, workload, workers })
  return { seed, world, workers, targets, from, bounds, timeDecisions }
}

/** Replays a workload under a contender. */
export const contend = (
  { bounds, from, seed, targets, timeDecisions, workers, world }: Ground,
  workload: Workload,
  { pipeline, sharedCache = false }: Contender,
  goodputMax: number,
  plots = false
): { readonly figures: Figures; readonly plots: Plots | undefined; readonly events: number } => {
  const time = timeDecisions ? new DecisionTime() : undefined
  const adapted = time && { adapted: time.adapted }
  const result = replay({
    ...world,
    workload,
    workers: workersUnder(pipeline, workers),
    pipeline,
    seed,
    sharedCache,
    ...adapted
  })
  const yardstick = { bounds, from, targets, goodputMax }
  return {
    figures: {
      ...figuresOf(result, yardstick),
      ...(time && { decisionUsMean: time.ns / 1000 / workload.requests.length })
    },
    plots: plots ? plotsOf(result, yardstick) : undefined,
    events: result.events
  }
}

/** The shares of the requests that could meet the targets alone, and that there is time for. */
export const goodputBounds = (
  { bounds, from, targets, workers }: Ground,
  workload: Workload
): { readonly alone: number; readonly capacity: number } => ({
  alone: aloneShare(bounds, targets, from),
  capacity: capacityShare(bounds, { workload, workers }, targets, from)
})
