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
  outputTokens: 0
}
