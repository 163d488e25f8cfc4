import { leastGroups } from "../../structures/ErlangC.ts"
import type { OptionSpecs, OptionValues } from "../Policy.ts"
import type { ScalingView } from "../Scaling.ts"
import { offeredOf, placesOf, presentOf } from "./stabilised.ts"

/** What waiting is allowed. */
export const staffingOptions = {
  wait: {
    kind: "duration",
    default: 500,
    minimum: 0,
    maximum: 3_600_000,
    unit: "ms",
    summary: "Time that requests may wait for a place. Longer makes do with fewer workers."
  },
  late: {
    kind: "number",
    default: 0.05,
    minimum: 0.0001,
    maximum: 0.5,
    unit: "share of requests",
    summary: "Share of the requests that may wait longer. Larger makes do with fewer workers."
  }
} as const satisfies OptionSpecs

export const staffingRule =
  "The least number of workers with which at most a share `late` of requests that arrive at random wait longer than `wait` for one of " +
  "`concurrency` places at each worker (Erlang C for arrivals × service time; a worker's capacity stands for `concurrency` if it is less)"

export const littleRule =
  "by Little's law the mean number in flight is arrivals × service time, so there are never fewer places than that mean, which counts " +
  "what has not ended yet; while nothing that arrived has ended, requests in flight and queued are the load"

/** Workers needed for so many arrivals with the service time of `view`; NaN where that cannot be told. */
export const staffed = (
  view: ScalingView,
  arrivalsPerSecond: number,
  { wait, late, concurrency }: OptionValues<typeof staffingOptions> & { readonly concurrency: number }
): number => {
  const places = placesOf(view, concurrency)
  const offered = offeredOf(arrivalsPerSecond, view.serviceMs)
  const known = !Number.isNaN(offered)
  const load = known ? offered : presentOf(view)
  if (Number.isNaN(load) || Number.isNaN(places)) return Number.NaN
  // Where nothing has ended nobody's wait can be told: it counts that somebody waits.
  const time = known && load > 0 ? wait / view.serviceMs : 0
  const needed = leastGroups(load, { size: places, time, share: late }, view.max)
  return Number.isNaN(view.inFlight) ? needed : Math.max(needed, view.inFlight / places)
}
