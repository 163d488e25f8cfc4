import type { WorkerColumns } from "../domain/PoolView.ts"

/**
 * What the fullness of a worker's KV cache costs a request, as waiting grows in a queue: `scaleMs` · k / (1 − k), k being the share that is
 * filled once the prompt is there, by the larger of what the worker reported and what was charged to it. k counts as 0.99 at most; 0
 * where the size of the cache is unknown.
 *
 * Source: SMG, `model_gateway/src/policies/least_load.rs`.
 */
export const kvBarrierMs = (
  { contextTokens, kvUsedTokens, kvCapacityTokens }: WorkerColumns,
  worker: number,
  promptTokens: number,
  scaleMs: number
): number => {
  const capacityTokens = kvCapacityTokens[worker]!
  if (capacityTokens === 0) return 0
  const filledTokens = Math.max(contextTokens[worker]!, kvUsedTokens[worker]!) + promptTokens
  return barrier(filledTokens / capacityTokens) * scaleMs
}

/** u / (1 − u), with u at most 0.99: finite for what is full. */
export const barrier = (use: number): number => {
  const share = Math.min(0.99, use)
  return share / (1 - share)
}
