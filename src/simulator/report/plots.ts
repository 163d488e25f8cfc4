import { Reason } from "../../domain/Outcome.ts"
import { mean, sum } from "../../structures/mean.ts"
import { quantile } from "../../structures/nearestRank.ts"
import { fairShares, type TenantDemand } from "./fairness.ts"
import { demandsOf, isUp, type Played, tpotMsOf, ttftMsOf, type Yardstick } from "./figuresOf.ts"

/** What a report draws of a replay: so many values, whatever the traffic. */
export interface Plots {
  /** Ascending: value i is the quantile i / `QUANTILES` of what the figures count. Empty where nothing was done. */
  readonly ttftMs: ReadonlyArray<number>
  readonly tpotMs: ReadonlyArray<number>
  readonly timeline: Timeline
  /** Those that asked for most, then all others as one. */
  readonly tenants: ReadonlyArray<TenantTokens>
}

/** From the first arrival to the last end, the warm-up too, in `BINS` equal parts. */
export interface Timeline {
  readonly binMs: number
  /** When the first request came that counts, from the first that came at all. */
  readonly countedMs: number
  /** Requests in the balancer's queue, as a mean over the part; one that was placed again counts up to its last placement. */
  readonly queued: ReadonlyArray<number>
  /**
   * Of the workers that were up in the part: requests at the one that had fewest, at one on average, and at the one that had most. A split
   * one is at who answers it and, until its first token, at who reads it.
   */
  readonly inFlightLeast: ReadonlyArray<number>
  readonly inFlightMean: ReadonlyArray<number>
  readonly inFlightMost: ReadonlyArray<number>
  /** Prompt tokens of the requests that came in the part and were done, and how many of them were in a prefix cache. */
  readonly promptTokens: ReadonlyArray<number>
  readonly hitTokens: ReadonlyArray<number>
}

/** Tokens of a tenant's requests that count, and of those that met the targets. */
export interface TenantTokens extends TenantDemand {
  readonly tenant: string
  /** What of all tokens that met the targets would be the tenant's if they were shared fairly. */
  readonly fair: number
}

/** 1/2, 95 % and 99 % are among them. */
export const QUANTILES = 400
export const BINS = 240
export const TENANTS_MAX = 12

/** What to draw of one replay. O(requests · log requests + bins · (requests + workers)). */
export const plotsOf = (result: Played, yardstick: Yardstick): Plots => ({
  ...quantilesOf(result, yardstick),
  timeline: timelineOf(result, yardstick),
  tenants: tenantsOf(result, yardstick)
})

/** Of several seeds: means of quantiles, so that they agree with the means of the figures; the rest is of the first seed. */
export const meanPlots = (plots: ReadonlyArray<Plots>): Plots => {
  const meanOf = (name: "ttftMs" | "tpotMs"): ReadonlyArray<number> => {
    const known = plots.map((each) => each[name]).filter(({ length }) => length > 0)
    return known[0]?.map((_, i) => mean(known.map((values) => values[i]!))) ?? []
  }
  return { ...plots[0]!, ttftMs: meanOf("ttftMs"), tpotMs: meanOf("tpotMs") }
}

const quantilesOf = (result: Played, { from }: Yardstick): Pick<Plots, "ttftMs" | "tpotMs"> => {
  const { options, outcomes } = result
  const done = Array.from(outcomes.reasons.keys().drop(from)).filter(
    (number) => outcomes.reasons[number] === Reason.none
  )
  const quantiles = (of: (number: number) => number): ReadonlyArray<number> => {
    const values = Float64Array.from(done, of)
      .filter((value) => !Number.isNaN(value))
      .toSorted()
    return values.length === 0
      ? []
      : Array.from({ length: QUANTILES + 1 }, (_, i) => quantile(values, i / QUANTILES))
  }
  return {
    ttftMs: quantiles((number) => ttftMsOf(outcomes, number)),
    tpotMs: quantiles((number) => tpotMsOf(outcomes, number, options.workload.requests[number]!))
  }
}

const timelineOf = ({ lives, options, outcomes, workers }: Played, { from }: Yardstick): Timeline => {
  const { requests } = options.workload
  const { arrivedMs, cachedTokens, endedMs, firstMs, placedMs, readers, reasons } = outcomes
  const startMs = arrivedMs[0] ?? 0
  const endMs = endedMs.reduce((latest, ms) => Math.max(latest, ms), startMs)
  const binMs = endMs > startMs ? (endMs - startMs) / BINS : 1
  const binAt = (ms: number): number => Math.min(BINS - 1, Math.floor((ms - startMs) / binMs))
  /** Adds the time from one instant to another, in parts of a bin. */
  const add = (bins: Float64Array, fromMs: number, toMs: number): void => {
    const last = binAt(toMs)
    let atMs = fromMs
    for (let bin = binAt(fromMs); bin <= last; bin++) {
      const untilMs = bin === last ? toMs : startMs + (bin + 1) * binMs
      bins[bin]! += (untilMs - atMs) / binMs
      atMs = untilMs
    }
  }
  const queued = new Float64Array(BINS)
  const inFlight = workers.map(() => new Float64Array(BINS))
  const promptTokens = new Float64Array(BINS)
  const hitTokens = new Float64Array(BINS)
  for (const [number, request] of requests.entries()) {
    const cameMs = arrivedMs[number]!
    const worker = outcomes.workers[number]!
    const leftMs = worker >= 0 ? placedMs[number]! : endedMs[number]!
    add(queued, cameMs, leftMs)
    if (worker >= 0) add(inFlight[worker]!, leftMs, endedMs[number]!)
    if (reasons[number] !== Reason.none) continue
    const reader = readers[number]!
    if (reader !== worker) add(inFlight[reader]!, leftMs, firstMs[number]!)
    promptTokens[binAt(cameMs)]! += request.promptTokens
    hitTokens[binAt(cameMs)]! += cachedTokens[number]!
  }
  const up = workers.map(() => new Uint8Array(BINS))
  for (const { endedMs, upMs, worker } of lives.filter(isUp))
    up[worker]!.fill(1, binAt(Math.max(startMs, upMs)), binAt(Math.max(startMs, endedMs)) + 1)
  const overWorkers = (of: (counts: ReadonlyArray<number>) => number): ReadonlyArray<number> =>
    Array.from(queued, (_, bin) => {
      const counts = inFlight.flatMap((counts, worker) => (up[worker]![bin] === 1 ? counts[bin]! : []))
      return counts.length === 0 ? 0 : of(counts)
    })
  return {
    binMs,
    countedMs: (arrivedMs[from] ?? startMs) - startMs,
    queued: [...queued],
    inFlightLeast: overWorkers((counts) => Math.min(...counts)),
    inFlightMean: overWorkers(mean),
    inFlightMost: overWorkers((counts) => Math.max(...counts)),
    promptTokens: [...promptTokens],
    hitTokens: [...hitTokens]
  }
}

const tenantsOf = (played: Played, yardstick: Yardstick): ReadonlyArray<TenantTokens> => {
  const { tenants } = played.options.workload
  const demands = demandsOf(played, yardstick)
  const shares = fairShares(demands)
  const sorted = demands
    .map((demand, i) => ({ ...demand, tenant: tenants[i]!, fair: shares[i]! }))
    .filter(({ asked }) => asked > 0)
    .toSorted((a, b) => b.asked - a.asked)
  const others = sorted.slice(TENANTS_MAX)
  if (others.length === 0) return sorted
  const all = (name: keyof TenantDemand | "fair"): number => sum(others.map((each) => each[name]))
  return [
    ...sorted.slice(0, TENANTS_MAX),
    {
      tenant: `${others.length} others`,
      asked: all("asked"),
      served: all("served"),
      weight: all("weight"),
      fair: all("fair")
    }
  ]
}
