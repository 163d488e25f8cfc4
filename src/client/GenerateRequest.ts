import { LABEL_RULE, labelPattern } from "../domain/label.ts"
import { hash64 } from "../structures/hash.ts"
import { promptChain } from "./promptChain.ts"

/** What to generate. Only `maxTokens`, and a prompt or its length, are needed. */
export interface GenerateRequest {
  /** Left out: the first model the balancer serves. */
  readonly model?: string | undefined
  /** Text that is not empty; null or left out when only its length counts (a replayed trace). */
  readonly prompt?: string | null | undefined
  /** At least 1. Left out: a quarter of the prompt's UTF-8 bytes, rounded up. */
  readonly promptTokens?: number | undefined
  /** Most tokens to produce, at least 1. */
  readonly maxTokens: number
  /** Priority class, 0 … 255, 0 is the most urgent and the default. */
  readonly class?: number | undefined
  /** Requests of one session share growing context and like to meet on one worker. */
  readonly session?: string | undefined
  /** Counted from the call on. Left out: the balancer's own limit. */
  readonly timeoutMs?: number | undefined
  /** Prefix block hashes, eight bytes each, which must stay as they are until the request ends. Left out: computed from the prompt. */
  readonly chain?: Uint8Array | undefined
  /** How long the answer is, for a simulated engine; others ignore it. */
  readonly outputTokens?: number | undefined
  /**
   * `beforeFirstToken` (the default): a worker or a connection lost before the first token costs another attempt. `none`: the request is
   * sent to one worker at most, once.
   */
  readonly retry?: "none" | "beforeFirstToken" | undefined
  /** How many times a retryable rejection by the balancer is tried again, after the time it asks for; 0 is the default. */
  readonly retryRejected?: number | undefined
  /** Left out: the client's tenant. */
  readonly tenant?: string | undefined
  /** Cancels the request when it aborts. */
  readonly signal?: AbortSignal | undefined
}

/** A checked request with its defaults filled in. */
export interface RequestFacts {
  readonly model: string | undefined
  readonly tenant: string | undefined
  readonly prompt: string | null
  readonly promptTokens: number
  readonly maxTokens: number
  readonly class: number
  readonly sessionHigh: number
  readonly sessionLow: number
  readonly timeoutMs: number | undefined
  readonly chain: Uint8Array
  readonly outputTokens: number | undefined
  readonly retry: "none" | "beforeFirstToken"
  readonly retryRejected: number
}

const U32_MAX = 0xffff_ffff

/**
 * Checks a request and fills in its defaults. Throws a `RangeError` that names the field and its rule: such a call is a mistake in the
 * program, which may be one without types.
 */
export const factsOf = (request: GenerateRequest, tenant: string | undefined): RequestFacts => {
  const prompt = text("prompt", request.prompt ?? undefined) ?? null
  if (prompt === "")
    throw new RangeError("prompt must not be empty: leave it out where only its length counts")
  const promptTokens =
    request.promptTokens ?? (prompt === null ? undefined : Math.ceil(Buffer.byteLength(prompt) / 4))
  if (promptTokens === undefined) throw new RangeError("promptTokens is needed when there is no prompt")
  const chain = request.chain ?? (prompt === null ? noChain : promptChain(prompt))
  if (!(chain instanceof Uint8Array) || chain.length % 8 !== 0)
    throw new RangeError("chain must be a Uint8Array of eight bytes for each block")
  const session = text("session", request.session)
  const { high, low } = session === undefined ? noSession : hash64(session)
  const { signal } = request
  const retry = request.retry ?? "beforeFirstToken"
  if (retry !== "none" && retry !== "beforeFirstToken")
    throw new RangeError('retry must be "none" or "beforeFirstToken"')
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new RangeError("signal must be an AbortSignal")
  return {
    model: label("model", request.model ?? undefined),
    tenant: label("tenant", request.tenant ?? tenant),
    prompt,
    promptTokens: integer("promptTokens", promptTokens, 1, U32_MAX),
    maxTokens: integer("maxTokens", request.maxTokens, 1, U32_MAX),
    class: integer("class", request.class ?? 0, 0, 255),
    sessionHigh: high,
    sessionLow: low,
    timeoutMs:
      request.timeoutMs === undefined ? undefined : integer("timeoutMs", request.timeoutMs, 1, U32_MAX),
    chain,
    outputTokens:
      request.outputTokens === undefined
        ? undefined
        : integer("outputTokens", request.outputTokens, 0, U32_MAX),
    retry,
    retryRejected: integer("retryRejected", request.retryRejected ?? 0, 0, 100)
  }
}

const noChain = new Uint8Array(0)
const noSession = { high: 0, low: 0 }

const integer = (field: string, value: number, min: number, max: number): number => {
  if (Number.isInteger(value) && value >= min && value <= max) return value
  throw new RangeError(`${field} must be an integer from ${min} to ${max}`)
}

/** The name of a model or a tenant, if one is given. Throws a `RangeError` for what is none. */
export const label = (field: string, value: string | undefined): string | undefined => {
  if (value === undefined || (typeof value === "string" && labelPattern.test(value))) return value
  throw new RangeError(`${field} must be ${LABEL_RULE}`)
}

const text = (field: string, value: string | undefined): string | undefined => {
  if (value === undefined || typeof value === "string") return value
  throw new RangeError(`${field} must be text`)
}
