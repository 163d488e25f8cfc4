import { Reason } from "../../domain/Outcome.ts"
import { imbalance } from "../../structures/imbalance.ts"
import { mean } from "../../structures/mean.ts"
import { quantile } from "../../structures/nearestRank.ts"
import type { Life, Outcomes, ReplayResult } from "../replay/Replay.ts"
import type { PlannedRequest } from "../replay/Workload.ts"
import type { Targets } from "../../policies/pipelines.ts"
import { areMet, type Bounds } from "./bounds.ts"
import { jainIndex, type TenantDemand } from "./fairness.ts"
import type { Figures } from "./measures.ts"

/** What is counted, and against what. */
export interface Yardstick {
  readonly targets: Targets
  /** Requests with a lower number warm the caches up and do not count. */
  readonly from: number
  readonly bounds: Bounds
  /** The goodput that none exceeds. */
  readonly goodputMax: number
}

/** What is looked at of a replay. */
export type Played = Pick<ReplayResult, "lives" | "options" | "outcomes" | "workers">

/** The figures of one replay. O(requests · log requests). */
export const figuresOf = (played: Played, yardstick: Yardstick): Figures => {
  const { lives, options, outcomes, workers } = played
  const { bounds, from, goodputMax, targets } = yardstick
  const { requests } = options.workload
  const { arrivedMs, cachedTokens, endedMs, placedMs, readers, reasons } = outcomes
  const count = requests.length - from
  const ttfts: Array<number> = []
  const tpots: Array<number> = []
  const computed = workers.map(() => 0)
  let [met, refused, leastTtftMs, e2eMs, promptTokens, hitTokens] = [0, 0, 0, 0, 0, 0]
  for (let number = from; number < requests.length; number++) {
    const request = requests[number]!
    if (reasons[number] !== Reason.none) {
      // Whoever was placed was let in, also where the network takes no time.
      if (endedMs[number] === arrivedMs[number] && Number.isNaN(placedMs[number])) refused++
      continue
    }
    ttfts.push(ttftMsOf(outcomes, number))
    if (request.outputTokens > 1) tpots.push(tpotMsOf(outcomes, number, request))
    leastTtftMs += bounds.ttftMs[number]!
    e2eMs += endedMs[number]! - arrivedMs[number]!
    promptTokens += request.promptTokens
    hitTokens += cachedTokens[number]!
    computed[readers[number]!]! += request.promptTokens - cachedTokens[number]!
    computed[outcomes.workers[number]!]! += request.outputTokens
    if (isMet(outcomes, number, request, targets)) met++
  }
  const spanMs = spanOf(arrivedMs.subarray(from))
  const there = new Set(lives.filter(isUp).map(({ worker }) => worker))
  const busy = imbalance(computed.filter((_, worker) => there.has(worker)))
  const ttft = Float64Array.from(ttfts).toSorted()
  const tpot = Float64Array.from(tpots).toSorted()
  const goodput = met / count
  return {
    goodput,
    goodputGap: goodputMax - goodput,
    goodputRps: spanMs > 0 ? (1000 * met) / spanMs : Number.NaN,
    ttftMsMean: mean(ttft),
    ttftMsP50: quantile(ttft, 0.5),
    ttftMsP95: quantile(ttft, 0.95),
    ttftMsP99: quantile(ttft, 0.99),
    ttftOverBound: (mean(ttft) * ttft.length) / leastTtftMs,
    tpotMsMean: mean(tpot),
    tpotMsP99: quantile(tpot, 0.99),
    e2eMsMean: e2eMs / ttft.length,
    prefixHitRate: hitTokens / promptTokens,
    imbalanceCv: busy.cv,
    imbalanceMaxOverMean: busy.maxOverMean,
    tenantJain: jainIndex(demandsOf(played, yardstick)),
    rejectedShare: refused / count,
    failedShare: (count - ttft.length - refused) / count,
    workerHours: options.scaling === undefined ? Number.NaN : workerMsOf(lives) / HOUR_MS
  }
}

const HOUR_MS = 3_600_000

/** Whether it was ever up. */
export const isUp = ({ endedMs, upMs }: Life): boolean => upMs < endedMs

/** How long workers were there for, from the order to start one to its end, over all of them. */
export const workerMsOf = (lives: ReadonlyArray<Life>): number =>
  lives.reduce((total, { endedMs, orderedMs }) => total + endedMs - orderedMs, 0)

/** From arrival to the first token. */
export const ttftMsOf = ({ arrivedMs, firstMs }: Outcomes, number: number): number =>
  firstMs[number]! - arrivedMs[number]!

/** Per further token; NaN for an answer of one. */
export const tpotMsOf = (
  { endedMs, firstMs }: Outcomes,
  number: number,
  { outputTokens }: PlannedRequest
): number => (outputTokens === 1 ? Number.NaN : (endedMs[number]! - firstMs[number]!) / (outputTokens - 1))

/** Whether a request was done, and in time. */
export const isMet = (
  outcomes: Outcomes,
  number: number,
  request: PlannedRequest,
  targets: Targets
): boolean =>
  outcomes.reasons[number] === Reason.none &&
  areMet(targets, ttftMsOf(outcomes, number), tpotMsOf(outcomes, number, request))

/** Of each tenant in order: the tokens of its requests that count, and of those that met the targets. */
export const demandsOf = (
  { options, outcomes }: Played,
  { from, targets }: Yardstick
): ReadonlyArray<TenantDemand> => {
  const { requests, tenants } = options.workload
  const demands = tenants.map((tenant) => ({
    asked: 0,
    served: 0,
    weight: options.weightOf?.(tenant) ?? 1
  }))
  for (let number = from; number < requests.length; number++) {
    const request = requests[number]!
    const demand = demands[request.tenant]!
    const tokens = request.promptTokens + request.outputTokens
    demand.asked += tokens
    if (isMet(outcomes, number, request, targets)) demand.served += tokens
  }
  return demands
}

const spanOf = (timesMs: Float64Array): number => {
  let [first, last] = [Number.POSITIVE_INFINITY, 0]
  for (const ms of timesMs) {
    first = Math.min(first, ms)
    last = Math.max(last, ms)
  }
  return last - first
}
