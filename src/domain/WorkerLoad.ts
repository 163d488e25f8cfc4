/** The load a worker reports with every heartbeat. Counts are clamped to be finite and not negative before anyone sees them. */
export interface WorkerLoad {
  /** Sequences in the running batch. */
  readonly running: number
  /** Sequences accepted and not yet in the batch. */
  readonly waiting: number
  readonly kvUsedTokens: number
  readonly kvCapacityTokens: number
  /** Totals since the worker started. */
  readonly requestsDone: number
  readonly requestsFailed: number
  readonly requestsCancelled: number
  readonly promptTokens: number
  readonly cachedPromptTokens: number
  readonly outputTokens: number
  /** Steps of the engine; over all of them the sums of their durations, prefill tokens, decoding sequences, and context tokens of these. */
  readonly steps: number
  readonly busyMs: number
  readonly stepPrefillTokens: number
  /** Σ n·(tokens before it + n/2) over the prefill chunks, n their tokens: what attention in them costs. */
  readonly stepAttention: number
  readonly stepDecodes: number
  readonly stepContextTokens: number
  /** Tokens that the sequences here must still prefill. No total. */
  readonly pendingPrefillTokens: number
}

export const idleLoad: WorkerLoad = {
  running: 0,
  waiting: 0,
  kvUsedTokens: 0,
  kvCapacityTokens: 0,
  requestsDone: 0,
  requestsFailed: 0,
  requestsCancelled: 0,
  promptTokens: 0,
  cachedPromptTokens: 0,
  outputTokens: 0,
  steps: 0,
  busyMs: 0,
  stepPrefillTokens: 0,
  stepAttention: 0,
  stepDecodes: 0,
  stepContextTokens: 0,
  pendingPrefillTokens: 0
}
