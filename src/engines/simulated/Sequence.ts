import type { PrefixNode } from "./KvCache.ts"

/** What the engine must know of a request. Kept by reference until the request has ended. */
export interface BatchRequest {
  readonly promptTokens: number
  /** How many tokens the answer has. */
  readonly outputTokens: number
  /** Keys of the prompt's prefix blocks, see `KvCache`; only blocks that the prompt fills are used. */
  readonly chain: Float64Array
}

type Phase = "waiting" | "running" | "ended"

/** One request inside the engine. Times are those given to `submit` and `step`. */
export class Sequence<R extends BatchRequest> {
  readonly request: R
  readonly submittedMs: number
  /** When it first joined the batch, and when its first token was done; -1 before. */
  admittedMs = -1
  firstTokenMs = -1
  /** Prompt tokens found in the prefix cache when it first joined the batch. */
  cachedTokens = 0
  /** Tokens of the answer so far. */
  produced = 0
  phase: Phase = "waiting"
  /** Tokens whose KV is there. While below `prefillTokens` the sequence prefills. */
  computed = 0
  prefillTokens = 0
  /** Tokens of prefill in the step under way. */
  chunk = 0
  prefix: PrefixNode | undefined
  /** Pages it holds beside its prefix. */
  pages = 0
  before: Sequence<R> | undefined
  behind: Sequence<R> | undefined

  constructor(request: R, submittedMs: number) {
    this.request = request
    this.submittedMs = submittedMs
  }
}
