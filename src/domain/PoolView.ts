import type { PrefixMatch } from "../structures/PrefixIndex.ts"
import type { RequestView } from "./RequestView.ts"

/** What a worker does: whole requests, or one half of a request whose KV cache is handed over in between. */
export const Role = { both: 0, prefill: 1, decode: 2 } as const

/**
 * Columns over all workers of one balancer; the index is the worker's slot. A column is the last heartbeat plus everything
 * this balancer sent since: charged before the send, released exactly once (`inFlight`, `pending…`, `contextTokens`).
 */
export interface WorkerColumns {
  /** Stable 64-bit hash of the worker's name as two u32: the same in every process and after a restart. */
  readonly keyHigh: Uint32Array
  readonly keyLow: Uint32Array
  /** Attempts charged to the worker and not yet ended. */
  readonly inFlight: Int32Array
  /** Those of them that have not produced a token yet. */
  readonly prefilling: Int32Array
  /** Most attempts the worker takes at once. */
  readonly capacity: Int32Array
  /** Most sequences of one step; as many as there can be where the worker does not say. */
  readonly maxSequences: Int32Array
  /**
   * Relative speed; 1 for a worker at the pool's norm, 0.5 for one half as fast. Always > 0. What the worker registered, lowered while
   * it warms up or straggles.
   */
  readonly speed: Float64Array
  /** Prompt tokens, expected not to be cached there, of attempts that have not produced a token yet. */
  readonly pendingPrefillTokens: Float64Array
  /** Σ n·(cached tokens before it + n/2) over the same attempts, n their uncached tokens: what attention in their prefill costs. */
  readonly pendingPrefillAttention: Float64Array
  /**
   * While prompts are pending: since when the first of them is computed, which is the last first token there or, without one, when it was
   * placed; and by when all that were pending at that moment should be.
   */
  readonly prefillSinceMs: Float64Array
  readonly prefillDueMs: Float64Array
  /** KV tokens the attempts in flight hold or will: their prompts, and the outputs expected of them. */
  readonly contextTokens: Float64Array
  /** The outputs alone. */
  readonly answerTokens: Float64Array
  /** From the last heartbeat: sequences in the running batch, and waiting for it. */
  readonly running: Int32Array
  readonly waiting: Int32Array
  /** From the last heartbeat: KV cache tokens in use, and the size of the KV cache (0 when unknown). */
  readonly kvUsedTokens: Float64Array
  readonly kvCapacityTokens: Float64Array
  /** When the last heartbeat came. */
  readonly observedAtMs: Float64Array
  /**
   * What a step of the engine costs, fitted to what the worker reported, in ms: `baseMs + prefillTokenMs·tokens +
   * prefillAttentionMs·Σ n·(context + n/2) + decodeSequenceMs·sequences + decodeContextMs·Σ context`. Finite; never negative; the first two > 0.
   */
  readonly baseMs: Float64Array
  readonly prefillTokenMs: Float64Array
  readonly prefillAttentionMs: Float64Array
  readonly decodeSequenceMs: Float64Array
  readonly decodeContextMs: Float64Array
}

/** What the pool has learned from the requests that ended, and what it predicted for those that are placed. */
export interface Forecast {
  /** Output length that a share `quantile` of the tenant's requests stays below; between 1 and `maxTokens`. */
  readonly outputTokens: (request: RequestView, quantile: number) => number
  /** Mean output length of the tenant's requests; between 1 and `maxTokens`. */
  readonly meanOutputTokens: (request: RequestView) => number
  /** Nine of ten requests had their first token within this many times the predicted time; 1 before any has. */
  readonly ttftRatio: number
  /** By request slot, once placed: when its live attempt was, or its last, and the time to first token that was predicted then. */
  readonly placedMs: (slot: number) => number
  readonly placedTtftMs: (slot: number) => number
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
  /** Workers that only read prompts, and that only produce tokens, as `eligible` has those that do both. */
  readonly prefill: Int32Array
  readonly prefillCount: number
  readonly decode: Int32Array
  readonly decodeCount: number
  /** Prompt tokens that one block of a chain stands for. */
  readonly blockTokens: number
  /**
   * Who holds the leading blocks of the request's chain, deepest first, with what is on its way there; nobody where the pipeline keeps
   * no prefix index. Valid until the next call of this or `cachedTokens`.
   */
  readonly match: (request: RequestView) => PrefixMatch
  /** By worker slot: prompt tokens of the request that it holds; at most `promptTokens − 1`. Valid until the next call. */
  readonly cachedTokens: (request: RequestView) => Float64Array
  readonly forecast: Forecast
}
