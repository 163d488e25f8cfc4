import { mean } from "../../structures/mean.ts"
import { quantile } from "../../structures/nearestRank.ts"
import type { Trace } from "../Trace.ts"
import { summarize } from "../Traffic.ts"

/** How long prompts or answers are, in tokens: each quantile is one of them. */
export interface Lengths {
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly max: number
}

/** What is to be known of a trace before it is used. What cannot be told from it is null. */
export interface TraceOutline {
  readonly trace: string
  readonly kind: string
  readonly requests: number
  /** From the first arrival to the last. */
  readonly spanMs: number
  readonly requestsPerSecond: number | null
  /** Standard deviation over mean of the times between arrivals; 1 for a Poisson process. */
  readonly gapVariation: number | null
  /** Variance over mean of the counts of whole minutes; 1 for a Poisson process. */
  readonly dispersion: number | null
  readonly promptTokens: Lengths | null
  readonly outputTokens: Lengths | null
  readonly blockSize: number | null
  /** Of the prompt tokens, as `TrafficSummary` has it. */
  readonly repeatedShare: number
  readonly sessions: number
  /** Requests of a session. */
  readonly turnsMean: number | null
  readonly tenants: number
  readonly largestTenantShare: number
  readonly models: number
}

/** Sums a trace up for people. O(blocks). */
export const outlineOf = (trace: Trace): TraceOutline => {
  const { header, requests } = trace
  const traffic = summarize(trace)
  const arrivals = requests.map(({ arrivalMs }) => arrivalMs)
  const startMs = arrivals[0] ?? 0
  const spanMs = (arrivals.at(-1) ?? 0) - startMs
  const gaps = spread(arrivals.slice(1).map((arrivalMs, i) => arrivalMs - arrivals[i]!))
  const sessions = requests.flatMap(({ session }) => session ?? [])
  const count = new Set(sessions).size
  return {
    trace: header.name,
    kind: header.kind,
    requests: requests.length,
    spanMs,
    requestsPerSecond: traffic.requestsPerSecond,
    gapVariation: gaps && Math.sqrt(gaps.variance) / gaps.mean,
    dispersion: dispersionOf(arrivals),
    promptTokens: lengths(requests.map(({ promptTokens }) => promptTokens)),
    outputTokens: lengths(requests.map(({ outputTokens }) => outputTokens)),
    blockSize: header.blockSize,
    repeatedShare: traffic.repeatedShare,
    sessions: count,
    turnsMean: count === 0 ? null : sessions.length / count,
    tenants: traffic.tenants,
    largestTenantShare: traffic.largestTenantShare,
    models: traffic.models
  }
}

const MINUTE_MS = 60_000

/** Of times in order, in whole minutes from the first one. Minutes without any are not kept: a trace may span any number of them. */
const dispersionOf = (arrivals: ReadonlyArray<number>): number | null => {
  const startMs = arrivals[0] ?? 0
  const minutes = Math.floor(((arrivals.at(-1) ?? 0) - startMs) / MINUTE_MS)
  const counts = new Map<number, number>()
  for (const arrivalMs of arrivals) {
    const minute = Math.floor((arrivalMs - startMs) / MINUTE_MS)
    if (minute < minutes) counts.set(minute, (counts.get(minute) ?? 0) + 1)
  }
  if (minutes < 2) return null
  let sum = 0
  let squares = 0
  for (const count of counts.values()) {
    sum += count
    squares += count * count
  }
  return squares / sum - sum / minutes
}

/** Null where there is no mean to speak of. */
const spread = (
  values: ReadonlyArray<number>
): { readonly mean: number; readonly variance: number } | null => {
  const middle = mean(values)
  if (!(middle > 0)) return null
  return { mean: middle, variance: mean(values.map((value) => (value - middle) ** 2)) }
}

const lengths = (values: ReadonlyArray<number>): Lengths | null => {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  return {
    mean: mean(values),
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p99: quantile(sorted, 0.99),
    max: quantile(sorted, 1)
  }
}
