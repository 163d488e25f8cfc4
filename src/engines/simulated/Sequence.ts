import type { PrefixNode } from "./KvCache.ts"

/** What the engine must know of a request. Kept by reference until the request has ended. */
export interface BatchRequest {
  readonly promptTokens: number
  /** How many tokens the answer has; with 0 the prompt is read and its KV cache kept for another engine. */
  readonly outputTokens: number
  /** The prompt was read by another engine, whose KV cache comes from there. */
  readonly handedOver?: boolean | undefined
  /** Keys of the prompt's prefix blocks, see `KvCache`; only blocks that the prompt fills are used. */
  readonly chain: Float64Array
}

/** `arriving`: in the batch, but its KV cache is still on its way. `kept`: out of the batch, and its KV cache is there until `cancel`. */
type Phase = "waiting" | "arriving" | "running" | "kept" | "ended"

/** One request inside the engine. Times are those given to `submit` and `step`. */
export class Sequence<R extends BatchRequest> {
  readonly request: R
  readonly submittedMs: number
  /** When it first joined the batch, and when its first token was done, or its prompt where that is all; -1 before. */
  admittedMs = -1
  firstTokenMs = -1
  /** Prompt tokens found in the prefix cache, or handed over, when it first joined the batch. */
  cachedTokens = 0
  /** Tokens of the answer so far. */
  produced = 0
  phase: Phase = "waiting"
  /** Whether its KV cache can come from elsewhere, and when it is all there. */
  awaited: boolean
  arrivesMs = 0
  /** Tokens whose KV is there. While below `prefillTokens` the sequence prefills. */
  computed = 0
  prefillTokens = 0
  /** What changes with every step it decodes is true as of so many steps of its engine, which counts anew when need be; see `count`. */
  countedAt = 0
  /** The step with which it ends, while it decodes. */
  endsWith = 0
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
    this.awaited = request.handedOver === true
  }
}

/** Whether it gets a token with every step. */
export const isDecoding = ({ computed, phase, prefillTokens }: Sequence<BatchRequest>): boolean =>
  phase === "running" && computed >= prefillTokens

/** How many tokens it had when so many steps of its engine had ended, if it has got one with each since. */
export const producedBy = (sequence: Sequence<BatchRequest>, stepsEnded: number): number => {
  const steps = stepsEnded - sequence.countedAt
  return sequence.produced + (isDecoding(sequence) ? steps : Math.min(0, steps))
}
