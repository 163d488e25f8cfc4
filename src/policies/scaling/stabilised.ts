import { RecentMaximum } from "../../structures/RecentMaximum.ts"
import type { OptionSpecs } from "../Policy.ts"
import type { Scaling, ScalingView } from "../Scaling.ts"

export const stabilisedOptions = {
  window: {
    kind: "duration",
    default: 300_000,
    minimum: 0,
    maximum: 86_400_000,
    unit: "ms",
    summary:
      "How long fewer workers must have been enough before there are fewer. Longer keeps workers through a lull and starts fewer anew."
  },
  concurrency: {
    kind: "integer",
    default: 64,
    minimum: 1,
    maximum: 65_536,
    unit: "requests",
    summary:
      "Requests that a worker serves at once at a good pace, at most as many as it takes. More makes do with fewer workers."
  }
} as const satisfies OptionSpecs

/** What every policy that follows the load does with its own rule, as part of its definition. */
export const stabilisedRule =
  "The result is rounded up and held between `workers` and `workersMax`. More workers are wanted at once; fewer only when no period within " +
  "`window` wanted more, and never fewer than the requests in flight fill by their capacity. Without the figures it needs it wants as " +
  "many as there are"

/**
 * A policy that follows `rule`: the number of workers that the load of a period needs, not rounded, or NaN where that cannot be told.
 * `current` is the number there is.
 *
 * Source: Kubernetes, horizontal pod autoscaler, down-scale stabilisation.
 */
export const stabilised = (
  windowMs: number,
  rule: (view: ScalingView, current: number) => number
): Scaling => {
  const recent = new RecentMaximum(windowMs)
  let began = false
  return {
    desired: (view, nowMs) => {
      const current = within(view, view.ready + view.starting)
      // Before it has seen a window, those there are may be needed.
      if (!began) recent.put(current, nowMs)
      began = true
      const needed = roundUp(rule(view, current))
      const filled = roundUp(view.inFlight / view.capacity)
      const wanted = Number.isNaN(needed) ? current : needed
      const kept = Number.isNaN(filled) ? current : Math.min(current, filled)
      // Remembered as it is: the bounds move with workers that were started elsewhere, and who only filled a bound was not needed.
      return within(view, recent.put(Math.max(wanted, kept), nowMs))
    }
  }
}

/** Requests a worker is to serve at once; NaN where what it takes is not known. */
export const placesOf = ({ capacity }: ScalingView, concurrency: number): number =>
  Math.min(capacity, concurrency)

/** Requests that are here, placed or not. */
export const presentOf = ({ inFlight, queued }: ScalingView): number => inFlight + queued

/**
 * Requests at workers at once on average if all that arrive are served: arrivals × service time, by Little's law. NaN while nothing has
 * ended of what arrived.
 */
export const offeredOf = (arrivalsPerSecond: number, serviceMs: number): number =>
  arrivalsPerSecond === 0 ? 0 : (arrivalsPerSecond * serviceMs) / 1000

/** Share of a number that may be a rounding error. */
const ROUNDING = 1e-9

const roundUp = (count: number): number => Math.ceil(count * (1 - ROUNDING))

const within = ({ min, max }: ScalingView, count: number): number => Math.min(Math.max(count, min), max)
