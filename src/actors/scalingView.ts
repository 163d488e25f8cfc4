import type { WorkerColumns } from "../domain/PoolView.ts"
import { pendingMs } from "../policies/costs.ts"
import type { Demand } from "../policies/DemandMeter.ts"
import type { ScalingView } from "../policies/Scaling.ts"

/** The workers of a model: the slots of those that take work, how many are on their way, and the bounds. */
export interface Crew {
  readonly ready: ReadonlyArray<number>
  readonly starting: number
  readonly min: number
  readonly max: number
  readonly coldStartMs: number
}

/** What a scaling policy sees at the end of a period: the demand, and the workers as their columns have them. Pure. */
export const scalingView = (demand: Demand, crew: Crew, workers: WorkerColumns): ScalingView => {
  const { ready, ...bounds } = crew
  const mean = (of: (worker: number) => number): number =>
    ready.reduce((sum, worker) => sum + of(worker), 0) / ready.length
  const { queuedPromptTokens, ...figures } = demand
  const queuedMs = mean((worker) => workers.prefillTokenMs[worker]!) * queuedPromptTokens
  return {
    ...figures,
    ...bounds,
    ready: ready.length,
    capacity: mean((worker) => workers.capacity[worker]!),
    backlogMs: mean((worker) => pendingMs(workers, worker)) + queuedMs / ready.length,
    kvUse: mean((worker) => workers.kvUsedTokens[worker]! / workers.kvCapacityTokens[worker]!)
  }
}
