/**
 * What a policy may know of one request. A later request gets the same object, so a policy keeps no reference to it.
 *
 * Nothing here is learned from the answer: output length is at most `maxTokens`, its real value is unknown.
 */
export interface RequestView {
  /** Slot of the request in the balancer's table; unique among live requests. */
  readonly slot: number
  /** Index of the model in the balancer's list of models. */
  readonly model: number
  /** Index of the tenant in the balancer's list of tenants. */
  readonly tenant: number
  /** Priority class, 0 is the most urgent. */
  readonly class: number
  /** Prompt length, in tokens. */
  readonly promptTokens: number
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
}
