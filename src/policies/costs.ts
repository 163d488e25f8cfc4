import type { WorkerColumns } from "../domain/PoolView.ts"

/**
 * Predictions in ms for one worker, from the columns alone: the fitted step costs, and the load charged so far. Each O(1).
 *
 * `n` stands for the uncached prompt tokens a request brings, `context` for the cached tokens before them. Every result is finite and not
 * negative. `speed` is not looked at where the fitted costs of the worker itself are used: they hold it already.
 */

/** Most tokens of a step, in engines that nothing is known of: vLLM's usual one. */
export const CHUNK_TOKENS = 2048

/** One decode step, with the sequences that decode there. */
export const decodeStepMs = (workers: WorkerColumns, worker: number): number =>
  workers.baseMs[worker]! +
  workers.decodeSequenceMs[worker]! * (workers.inFlight[worker]! - workers.prefilling[worker]!) +
  workers.decodeContextMs[worker]! * workers.contextTokens[worker]!

/** Computing `n` prompt tokens behind `context` others, beyond the steps this takes anyway. */
export const prefillMs = (workers: WorkerColumns, worker: number, n: number, context: number): number =>
  workers.prefillTokenMs[worker]! * n + workers.prefillAttentionMs[worker]! * n * (context + n / 2)

/** Working off the prompts that are pending there. */
export const pendingMs = (workers: WorkerColumns, worker: number): number =>
  workers.prefillTokenMs[worker]! * workers.pendingPrefillTokens[worker]! +
  workers.prefillAttentionMs[worker]! * workers.pendingPrefillAttention[worker]!

/** The decode steps that `n` prompt tokens and those pending before them go along with, `chunkTokens` in each; an idle worker takes one too. */
export const stepsMs = (workers: WorkerColumns, worker: number, n: number, chunkTokens: number): number =>
  Math.max(1, Math.ceil((workers.pendingPrefillTokens[worker]! + n) / chunkTokens)) *
  decodeStepMs(workers, worker)

/**
 * Until the KV cache has room for prompt and answer beside what is held there. What is held goes evenly over the steps of an answer as
 * long as this one, so the wait is the share of it that has to go; at most all of it, also for what never fits. 0 where the size of the
 * cache is unknown.
 */
export const kvWaitMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  outputTokens: number
): number => {
  const capacityTokens = workers.kvCapacityTokens[worker]!
  const heldTokens = workers.contextTokens[worker]!
  const excessTokens = heldTokens + promptTokens + outputTokens - capacityTokens
  if (capacityTokens <= 0 || excessTokens <= 0) return 0
  return Math.min(1, excessTokens / heldTokens) * outputTokens * decodeStepMs(workers, worker)
}

/**
 * Time to first token of a request that is placed there at this moment: the prompts before its own and its own, a decode step for every
 * chunk of `chunkTokens` of them, and the wait for KV space.
 */
export const ttftMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number,
  chunkTokens = CHUNK_TOKENS
): number => {
  const n = promptTokens - cachedTokens
  return (
    pendingMs(workers, worker) +
    prefillMs(workers, worker, n, cachedTokens) +
    stepsMs(workers, worker, n, chunkTokens) +
    kvWaitMs(workers, worker, promptTokens, outputTokens)
  )
}

/** What the answer adds to the steps of those who decode beside it: each of its tokens makes a step longer. */
export const decodeMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  outputTokens: number
): number =>
  outputTokens *
  (workers.decodeSequenceMs[worker]! + workers.decodeContextMs[worker]! * (promptTokens + outputTokens / 2))

/** Time of the worker that the request takes, beyond the steps that are made anyway: its prefill, and what its answer adds to steps. */
export const occupancyMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number
): number =>
  prefillMs(workers, worker, promptTokens - cachedTokens, cachedTokens) +
  decodeMs(workers, worker, promptTokens, outputTokens)

/**
 * Delay that counts, of all who are there together: what they would be spared if the request went where most of its prompt, `mostTokens`,
 * is cached, for each waits while that is computed again; and of all its prefill there what they do not absorb, which is half where it
 * takes `absorbedMs` and the less the shorter it is. 0 where nobody is.
 */
export const externalityMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  mostTokens: number,
  absorbedMs: number
): number => {
  const ownMs = prefillMs(workers, worker, promptTokens - cachedTokens, cachedTokens)
  const againMs = prefillMs(workers, worker, mostTokens - cachedTokens, cachedTokens)
  return workers.inFlight[worker]! * (againMs + (ownMs * ownMs) / (ownMs + absorbedMs))
}
