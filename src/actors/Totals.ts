import { Reason } from "../domain/Outcome.ts"
import { RequestKinds } from "../observability/RequestKinds.ts"
import { OUTPUT_PRICE } from "../policies/estimators/TenantShares.ts"
import type { Targets } from "../policies/pipelines.ts"
import { Histogram } from "../structures/Histogram.ts"
import type { Request } from "./RequestTable.ts"

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

const noReasons = (): Float64Array => new Float64Array(REASONS)

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

/** The first token has come, if an earlier core was not told of it before: then a moment ago. */
export const countFirst = (totals: Totals, request: Request, nowMs: number): void => {
  if (request.firstMs >= 0) return
  request.firstMs = nowMs
  totals.ttftMs.record(nowMs - request.arrivedMs)
}

/** A request was done, in time or not for these targets. */
export const countDone = (totals: Totals, request: Request, targets: Targets, nowMs: number): void => {
  request.counted = true
  const { arrivedMs, cachedTokens, firstMs, outputTokens, promptTokens, weight } = request
  const ttftMs = (firstMs >= 0 ? firstMs : nowMs) - arrivedMs
  const furtherTokens = outputTokens - 1
  const furtherMs = nowMs - firstMs
  // An answer of one token has none, and but one target to meet.
  const tpotMs = furtherTokens > 0 && furtherMs >= 0 ? furtherMs / furtherTokens : Number.NaN
  const isLate = ttftMs > targets.ttftMs
  const isSlow = tpotMs > targets.tpotMs
  if (isLate) totals.late.ttft++
  if (isSlow) totals.late.tpot++
  if (!isLate && !isSlow) totals.inTime++
  if (tpotMs >= 0) totals.tpotMs.record(tpotMs)
  totals.e2eMs.record(nowMs - arrivedMs)
  totals.done++
  totals.outputTokens += outputTokens
  totals.cachedTokens += cachedTokens
  totals.promptTokens += promptTokens
  const kind = totals.kinds.of(request)
  kind.done++
  kind.served += (Math.max(0, promptTokens - cachedTokens) + OUTPUT_PRICE * outputTokens) / weight
}

/** A request that was let in did not end well. */
export const countFailed = (totals: Totals, request: Request, reason: Reason): void => {
  request.counted = true
  const outcome = reason === Reason.expired ? "expired" : reason === Reason.cancelled ? "cancelled" : "failed"
  totals[outcome]++
  totals.kinds.of(request)[outcome]++
  totals.failures[reason]!++
}

/** A request was not let in: by the admission policy at this place in `refusals`, or by none where that is 0. */
export const countRejected = (totals: Totals, request: Request, reason: Reason, place: number): void => {
  totals.rejected++
  totals.rejections[reason]!++
  totals.kinds.of(request).rejected++
  if (place === 0) return
  const refusals = (totals.refusals[place] ??= noReasons())
  refusals[reason]!++
}
