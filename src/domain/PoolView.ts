/**
 * Columns over all workers of one balancer; the index is the worker's slot. A column is the last heartbeat plus everything
 * this balancer sent since: charged before the send, released exactly once (`inFlight`, `pendingPromptTokens`).
 */
export interface WorkerColumns {
  /** Stable 64-bit hash of the worker's name as two u32: the same in every process and after a restart. */
  readonly keyHigh: Uint32Array
  readonly keyLow: Uint32Array
  /** Attempts charged to the worker and not yet ended. */
  readonly inFlight: Int32Array
  /** Most attempts the worker takes at once. */
  readonly capacity: Int32Array
  /** Relative speed; 1 for a worker at the pool's norm, 0.5 for one half as fast. Always > 0. */
  readonly speed: Float64Array
  /** Prompt tokens of attempts that have not produced a token yet. */
  readonly pendingPromptTokens: Float64Array
  /** From the last heartbeat: sequences in the running batch, and waiting for it. */
  readonly running: Int32Array
  readonly waiting: Int32Array
  /** From the last heartbeat: KV cache tokens in use, and the size of the KV cache (0 when unknown). */
  readonly kvUsedTokens: Float64Array
  readonly kvCapacityTokens: Float64Array
  /** When the last heartbeat came. */
  readonly observedAtMs: Float64Array
}

/**
 * The workers a policy may pick for a request: those of its model that are ready and below their capacity.
 *
 * `eligible[0 .. eligibleCount)` holds worker slots sorted by key, so that the order says nothing about how slots were given out.
 */
export interface PoolView {
  readonly workers: WorkerColumns
  readonly eligible: Int32Array
  readonly eligibleCount: number
}
