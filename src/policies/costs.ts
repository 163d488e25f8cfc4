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

/** Steps that so many prompt tokens take, at least one. */
export const chunks = (tokens: number, chunkTokens: number): number =>
  tokens <= chunkTokens ? 1 : Math.ceil(tokens / chunkTokens)

/** Computing the prompts that are pending there. */
export const pendingMs = (workers: WorkerColumns, worker: number): number =>
  workers.prefillTokenMs[worker]! * workers.pendingPrefillTokens[worker]! +
  workers.prefillAttentionMs[worker]! * workers.pendingPrefillAttention[worker]!

/** The same with the decode steps that go along, one for every chunk of `chunkTokens`. */
export const pendingStepsMs = (
  workers: WorkerColumns,
  worker: number,
  chunkTokens = CHUNK_TOKENS
): number => {
  const tokens = workers.pendingPrefillTokens[worker]!
  return tokens <= 0
    ? 0
    : pendingMs(workers, worker) + chunks(tokens, chunkTokens) * decodeStepMs(workers, worker)
}

/**
 * Until the prompts that are pending there are computed: less what was done of them since the first was begun. Only of those that were
 * pending then anything can have been, or a worker that hangs would seem to have worked off what it is sent.
 */
export const waitMs = (
  workers: WorkerColumns,
  worker: number,
  nowMs: number,
  chunkTokens = CHUNK_TOKENS
): number => {
  const doneMs = Math.min(nowMs, workers.prefillDueMs[worker]!) - workers.prefillSinceMs[worker]!
  return Math.max(0, pendingStepsMs(workers, worker, chunkTokens) - doneMs)
}

/** The decode steps that `n` prompt tokens go along with, `chunkTokens` in each and at least one; and the one that is under way where there is somebody. */
export const stepsMs = (workers: WorkerColumns, worker: number, n: number, chunkTokens: number): number =>
  (Math.min(1, workers.inFlight[worker]!) + chunks(n, chunkTokens)) * decodeStepMs(workers, worker)

/**
 * Until there is room for one more: KV space for prompt and answer, and a place among the sequences of a step. Both are freed evenly over
 * the steps of an answer as long as this one, so the wait is the share of what is there that has to go.
 */
export const roomMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number
): number => {
  const share = leavingShare(workers, worker, promptTokens, cachedTokens, outputTokens)
  return share === 0 ? 0 : share * outputTokens * decodeStepMs(workers, worker)
}

/**
 * The share of what is at a worker that must end before such a request has room; 1 also for what never fits. The KV cache holds no more than
 * the requests there do when they share nothing, and no more than it held at the last heartbeat, what is pending and all answers. Where its
 * size is unknown nothing is missing.
 */
export const leavingShare = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number
): number => {
  const capacityTokens = workers.kvCapacityTokens[worker]!
  const sequences = workers.inFlight[worker]!
  const heldTokens = Math.min(
    workers.contextTokens[worker]! + cachedTokens,
    workers.kvUsedTokens[worker]! + workers.pendingPrefillTokens[worker]! + workers.answerTokens[worker]!
  )
  const neededTokens = promptTokens - cachedTokens + outputTokens
  const excessTokens = capacityTokens > 0 ? heldTokens + neededTokens - capacityTokens : 0
  const excessSequences = sequences + 1 - workers.maxSequences[worker]!
  const tokenShare = excessTokens > 0 ? excessTokens / heldTokens : 0
  const sequenceShare = excessSequences > 0 ? excessSequences / sequences : 0
  return Math.min(1, Math.max(tokenShare, sequenceShare))
}

/** Time to first token of a request that is placed there at this moment: the prompts before its own, its own, and the wait for room. */
export const ttftMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  outputTokens: number,
  nowMs: number,
  chunkTokens = CHUNK_TOKENS
): number => {
  const n = promptTokens - cachedTokens
  return (
    waitMs(workers, worker, nowMs, chunkTokens) +
    prefillMs(workers, worker, n, cachedTokens) +
    stepsMs(workers, worker, n, chunkTokens) +
    roomMs(workers, worker, promptTokens, cachedTokens, outputTokens)
  )
}

/** The same of the attempt that was charged last, once the columns count it; without the wait for room. */
export const chargedTtftMs = (workers: WorkerColumns, worker: number, nowMs: number): number =>
  waitMs(workers, worker, nowMs) + (workers.inFlight[worker]! > 1 ? decodeStepMs(workers, worker) : 0)

/** What the answer adds to the steps of those who decode beside it: each of its tokens makes a step longer. */
export const decodeMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  outputTokens: number
): number =>
  outputTokens *
  (workers.decodeSequenceMs[worker]! + workers.decodeContextMs[worker]! * (promptTokens + outputTokens / 2))

/**
 * Delay that counts, of an answer whose tokens come apart: nobody notices one that comes a little later, so each counts with the cube of what
 * a decode step takes, `stepMs`, beyond a bare one, `bareMs`; and in full where that is `spacingMs`.
 */
export const spacedMs = (stepMs: number, bareMs: number, outputTokens: number, spacingMs: number): number => {
  const apartMs = stepMs - bareMs
  return (outputTokens * apartMs * apartMs * apartMs) / (spacingMs * spacingMs)
}

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
 * What an answer does not absorb of a delay by others' prefill: an eighth where that takes `absorbedMs`, and much less where it is shorter,
 * for an answer has time to spare as long as its tokens come faster than they must.
 */
export const lastingMs = (ownMs: number, absorbedMs: number): number => {
  const share = ownMs / (ownMs + absorbedMs)
  return ownMs * share * share * share
}

/**
 * Delay that counts, of all who are there together: a share `againShare` of what they would be spared if the request went where most of its
 * prompt, `mostTokens`, is cached, for each waits while that is computed again; and of all its prefill there what they do not absorb. 0 where
 * nobody is.
 */
export const externalityMs = (
  workers: WorkerColumns,
  worker: number,
  promptTokens: number,
  cachedTokens: number,
  mostTokens: number,
  againShare: number,
  absorbedMs: number
): number => {
  const ownMs = prefillMs(workers, worker, promptTokens - cachedTokens, cachedTokens)
  const againMs = prefillMs(workers, worker, mostTokens - cachedTokens, cachedTokens)
  return workers.inFlight[worker]! * (againShare * againMs + lastingMs(ownMs, absorbedMs))
}
