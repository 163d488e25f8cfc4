import type { EnginePreset } from "../../engines/simulated/CostModel.ts"
import type { PipelineChoice } from "../../policies/pipelines.ts"
import { replay, type ReplayOptions } from "../replay/Replay.ts"
import type { ReplayWorkerOptions } from "../replay/ReplayWorker.ts"
import type { Workload } from "../replay/Workload.ts"
import { aloneShare, type Bounds, boundsOf, capacityShare, type Targets } from "./bounds.ts"
import { figuresOf } from "./figuresOf.ts"
import type { Figures } from "./measures.ts"

/** Policies under a name. */
export interface Contender {
  readonly name: string
  readonly pipeline: PipelineChoice
  /** Whether the workers have one unlimited store of prefix blocks behind their caches. */
  readonly sharedCache?: boolean
}

/** What a replay is told of the world around workers and policies. */
export type World = Omit<ReplayOptions, "workload" | "workers" | "pipeline" | "seed" | "sharedCache">

/** Who competes, on what, for what. */
export interface Setting {
  readonly world: World
  readonly workers: number
  readonly preset: EnginePreset
  readonly kvCapacityTokens?: number | undefined
  readonly contenders: ReadonlyArray<Contender>
  readonly targets: Targets
  /** Share of the requests, from the first on, that warm the caches up and do not count. */
  readonly warmUp: number
  /** A seed gives policies their randomness, workers their names, by which ties are broken, and generated traffic its draws. */
  readonly seeds: ReadonlyArray<number>
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
}

export const groundOf = (
  { kvCapacityTokens, preset, targets, warmUp, workers: count, world }: Setting,
  seed: number,
  workload: Workload
): Ground => {
  const workers = Array.from({ length: count }, (_, i) => ({
    name: `worker-${seed}-${i}`,
    preset,
    ...(kvCapacityTokens === undefined ? {} : { kvCapacityTokens })
  }))
  const from = Math.floor(warmUp * workload.requests.length)
  return { seed, world, workers, targets, from, bounds: boundsOf({ workload, workers }) }
}

/** Replays a workload under a contender. */
export const contend = (
  { bounds, from, seed, targets, workers, world }: Ground,
  workload: Workload,
  { pipeline, sharedCache = false }: Contender,
  goodputMax: number
): { readonly figures: Figures; readonly events: number } => {
  const result = replay({ ...world, workload, workers, pipeline, seed, sharedCache })
  return { figures: figuresOf(result, { bounds, from, targets, goodputMax }), events: result.events }
}

/** The shares of the requests that could meet the targets alone, and that there is time for. */
export const goodputBounds = (
  { bounds, from, targets, workers }: Ground,
  workload: Workload
): { readonly alone: number; readonly capacity: number } => ({
  alone: aloneShare(bounds, targets, from),
  capacity: capacityShare(bounds, { workload, workers }, targets, from)
})
