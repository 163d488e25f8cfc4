import { Histogram } from "../structures/Histogram.ts"

/** Counts since the process started. They outlive the core, so that a restart loses none. */
export interface Totals {
  accepted: number
  rejected: number
  done: number
  failed: number
  cancelled: number
  expired: number
  retries: number
  /** Requests that a rescue took from their workers or copied, by the policy that did. */
  readonly rescues: Map<string, number>
  outputTokens: number
  cachedTokens: number
  promptTokens: number
  /** By `Reason`: what was not let in, and what was and did not end well. */
  readonly rejections: Float64Array
  readonly failures: Float64Array
  readonly queueMs: Histogram
  readonly ttftMs: Histogram
  /** Of requests with more than one token. */
  readonly tpotMs: Histogram
  readonly e2eMs: Histogram
}

export const makeTotals = (): Totals => ({
  accepted: 0,
  rejected: 0,
  done: 0,
  failed: 0,
  cancelled: 0,
  expired: 0,
  retries: 0,
  rescues: new Map(),
  outputTokens: 0,
  cachedTokens: 0,
  promptTokens: 0,
  rejections: new Float64Array(256),
  failures: new Float64Array(256),
  queueMs: new Histogram(),
  ttftMs: new Histogram(),
  tpotMs: new Histogram(),
  e2eMs: new Histogram()
})
