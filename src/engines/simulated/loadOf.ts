import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import type { ContinuousBatch } from "./ContinuousBatch.ts"
import type { BatchRequest } from "./Sequence.ts"

/** What whoever runs a batch counts itself: its requests, and their tokens. */
export interface LoadTotals {
  readonly done: number
  readonly failed: number
  readonly cancelled: number
  readonly promptTokens: number
  readonly cachedTokens: number
  readonly outputTokens: number
}

/** What a worker with this batch reports. */
export const loadOf = <R extends BatchRequest>(
  batch: ContinuousBatch<R>,
  kvCapacityTokens: number,
  totals: LoadTotals
): WorkerLoad => ({
  running: batch.running,
  waiting: batch.waiting,
  kvUsedTokens: batch.cache.usedPages * batch.cache.pageTokens,
  kvCapacityTokens,
  requestsDone: totals.done,
  requestsFailed: totals.failed,
  requestsCancelled: totals.cancelled,
  promptTokens: totals.promptTokens,
  cachedPromptTokens: totals.cachedTokens,
  outputTokens: totals.outputTokens,
  steps: batch.steps,
  busyMs: batch.busyMs,
  stepPrefillTokens: batch.stepPrefillTokens,
  stepAttention: batch.stepAttention,
  stepDecodes: batch.stepDecodes,
  stepContextTokens: batch.stepContextTokens,
  pendingPrefillTokens: batch.pendingPrefillTokens
})
