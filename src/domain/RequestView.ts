import type { PrefixChain } from "../structures/PrefixChain.ts"

/** Tenants that are told apart: their indexes are below it. Later ones count as the first. */
export const TENANTS_MAX = 16_384

/**
 * What a policy may know of one request. After its end a later request gets the same object, so a policy keeps no reference beyond it.
 *
 * The length of the answer is at most `maxTokens`; its real value is unknown until the end.
 */
export interface RequestView {
  /** Slot of the request in the balancer's table; unique among live requests. */
  readonly slot: number
  /** Index of the model in the balancer's list of models. */
  readonly model: number
  /** Index of the tenant in the balancer's list of tenants. */
  readonly tenant: number
  /** Share of the tenant relative to others, > 0; 1 unless configured. */
  readonly weight: number
  /** Priority class, 0 is the most urgent. */
  readonly class: number
  /** Prompt length, in tokens. */
  readonly promptTokens: number
  /** Hashes of the prompt's prefix blocks, mixed with the tenant's salt. Empty when unknown; may be so when the pipeline keeps no prefix index. */
  readonly chain: PrefixChain
  /** Prompt tokens that were expected not to be cached at the worker it was placed on; `promptTokens` before that. */
  readonly uncachedTokens: number
  /** Upper limit of the output, in tokens. */
  readonly maxTokens: number
  /** 64-bit session hash as two u32; both 0 when the request belongs to no session. */
  readonly sessionHigh: number
  readonly sessionLow: number
  /** 64-bit request id as two u32. */
  readonly idHigh: number
  readonly idLow: number
  /** When the balancer received it. */
  readonly arrivedMs: number
  /** Absolute, always finite. */
  readonly deadlineMs: number
  /** 1 for the first placement, 2 for the first retry. */
  readonly attempt: number
  /** Output tokens delivered so far. */
  readonly outputTokens: number
}
