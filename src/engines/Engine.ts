import type { Reason } from "../domain/Outcome.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"

/** One attempt, as the engine sees it. */
export interface EngineRequest {
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

/** What a worker runs. `submit` returns the function that cancels the request; after the end it does nothing. */
export interface Engine {
  readonly models: ReadonlyArray<string>
  /** Most requests it takes at once, running and waiting together. */
  readonly capacity: number
  readonly kvCapacityTokens: number
  readonly submit: (request: EngineRequest, sink: EngineSink) => () => void
  readonly load: () => WorkerLoad
}
