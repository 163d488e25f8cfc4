import { RequestKinds } from "../observability/RequestKinds.ts"
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
  /** Copies that are over: they went on alone, the first attempt did, or the request ended before either had a token. */
  readonly hedges: { won: number; lost: number; cancelled: number }
  outputTokens: number
  cachedTokens: number
  promptTokens: number
  /** By `Reason`: what was not let in, and what was and did not end well. */
  readonly rejections: Float64Array
  readonly failures: Float64Array
  /** By the place of the admission policy that refused, counted from the last, which is 1; then by `Reason`. */
  readonly refusals: Array<Float64Array | undefined>
  /** How requests ended, by kind. */
  readonly kinds: RequestKinds
  /** Finished requests that met the targets of admission, and that missed either of them. */
  inTime: number
  readonly late: { ttft: number; tpot: number }
  readonly queueMs: Histogram
  readonly ttftMs: Histogram
  /** Of requests with more than one token. */
  readonly tpotMs: Histogram
  /** Between two frames of tokens of a request, as they are relayed. */
  readonly itlMs: Histogram
  readonly e2eMs: Histogram
  /** From placement to the first token: the time it took, as a multiple of what was predicted. */
  readonly ttftOverPredicted: Histogram
}

/** More than there are reasons. */
const REASONS = 256

export const noReasons = (): Float64Array => new Float64Array(REASONS)

export const makeTotals = (): Totals => ({
  accepted: 0,
  rejected: 0,
  done: 0,
  failed: 0,
  cancelled: 0,
  expired: 0,
  retries: 0,
  rescues: new Map(),
  hedges: { won: 0, lost: 0, cancelled: 0 },
  outputTokens: 0,
  cachedTokens: 0,
  promptTokens: 0,
  rejections: noReasons(),
  failures: noReasons(),
  refusals: [],
  kinds: new RequestKinds(),
  inTime: 0,
  late: { ttft: 0, tpot: 0 },
  queueMs: new Histogram(),
  ttftMs: new Histogram(),
  tpotMs: new Histogram(),
  itlMs: new Histogram(),
  e2eMs: new Histogram(),
  ttftOverPredicted: new Histogram()
})
