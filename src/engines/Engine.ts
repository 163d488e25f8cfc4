import type { Reason } from "../domain/Outcome.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"

/** How long, in its engine's time, a worker keeps the KV cache of a prompt it has read for another one, unless it is told before that it may go. */
export const KV_KEPT_MS = 10_000
/** In what time that other one must have it, from when it was asked: well within the above, whatever messages take. */
export const KV_COMES_MS = 8_000

/** One attempt, as the engine sees it. */
export interface EngineRequest {
  /** Index into the engine's models. */
  readonly model: number
  /** Text of the prompt, or null when only counts are known. */
  readonly prompt: string | null
  readonly promptTokens: number
  /** Most tokens to produce. */
  readonly maxTokens: number
  /** How long the answer is, for a simulated engine; ignored by others, undefined when unknown. */
  readonly outputTokens: number | undefined
  /** Prefix block hashes, eight bytes each, first block first; equal prefix, equal leading hashes. Empty when unknown. */
  readonly chain: Buffer
  readonly idHigh: number
  readonly idLow: number
  /**
   * Left out where the request is whole. `prefill`: the prompt is to be read, which `finished` tells, and its KV cache kept until `cancel`.
   * `decode`: the answer is to be produced from a KV cache that another engine keeps.
   */
  readonly part?: "prefill" | "decode" | undefined
}

/** How an answer ended. */
export interface EngineFinish {
  readonly reason: "stop" | "length"
  readonly outputTokens: number
  /** Prompt tokens found in the prefix cache. */
  readonly cachedTokens: number
  /** On the engine's own clock: waiting for the batch, reading the prompt, and everything from submit to the last token. */
  readonly queueMs: number
  readonly prefillMs: number
  readonly totalMs: number
}

/** Where an engine's answer goes. Exactly one of `finished` and `failed` ends it; nothing follows `cancel`. */
export interface EngineSink {
  /** The next token's text; tokens come in order. */
  readonly token: (text: string) => void
  readonly finished: (finish: EngineFinish) => void
  readonly failed: (reason: Reason, message: string) => void
}

/**
 * Who is told what an engine's prefix cache holds: hashes as they came in `EngineRequest.chain`, with the model they belong to. At every
 * moment what was told is closed under prefixes. The bytes are the receiver's.
 */
export interface CacheSink {
  /** `chain` is a block, or eight zero bytes for the start of a prompt, and one or more blocks that follow it and are cached from now on. */
  readonly stored: (model: number, chain: Uint8Array) => void
  /** These blocks are cached no more; each comes after those that follow it. */
  readonly removed: (model: number, hashes: Uint8Array) => void
}

export interface CacheWatch {
  /** Tells the sink everything that is cached, as `stored`. Not from inside the sink. */
  readonly tellAll: () => void
  readonly stop: () => void
}

/**
 * What a worker runs. `submit` returns the function that cancels the request; after the end it does nothing, but for letting go of a KV
 * cache that is kept.
 */
export interface Engine {
  readonly models: ReadonlyArray<string>
  /** Most requests it takes at once, running and waiting together. */
  readonly capacity: number
  /** Most of them that run at once. */
  readonly maxSequences: number
  readonly kvCapacityTokens: number
  /** Time passes so many times faster for it than by the clock; as fast when left out. */
  readonly timeScale?: number
  readonly submit: (request: EngineRequest, sink: EngineSink) => () => void
  readonly load: () => WorkerLoad
  /** Tells `sink` of every change of the prefix cache, in place of who was told before. Missing where the engine does not say. */
  readonly watchCache?: (sink: CacheSink) => CacheWatch
}
