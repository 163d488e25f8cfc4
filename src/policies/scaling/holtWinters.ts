import { HoltWinters, SEASON_STEPS_MAX } from "../../structures/HoltWinters.ts"
import { defineScaling, type ScalingView } from "../Scaling.ts"
import { stabilised, stabilisedOptions, stabilisedRule } from "./stabilised.ts"
import { littleRule, staffed, staffingOptions, staffingRule } from "./staffing.ts"

/** Periods that are looked ahead at most: a trend does not hold for ever. */
const STEPS_MAX = 240

const weight = (initial: number, of: string) => ({
  kind: "number" as const,
  default: initial,
  minimum: 0,
  maximum: 1,
  summary: `How much of each period is taken over into ${of}. Larger follows changes sooner, and noise too.`
})

/** A worker that is needed when it is ready has to be ordered before: this one looks ahead as far as workers take to start. */
export const holtWinters = defineScaling(
  {
    name: "holt-winters",
    summary:
      "Sizes the pool for the arrivals expected once workers ordered at this moment are ready, and for those of this moment.",
    definition:
      `The larger of two: what the period's arrivals need, and what the arrivals need that are forecast for the period after the time a ` +
      "worker takes to start (at most 240 periods ahead). The forecast is exponential smoothing of arrivals with a trend and, where " +
      "`season` spans 2 to 32,768 periods, a seasonal part that is added. " +
      `${staffingRule}; ${littleRule}. ${stabilisedRule}.`,
    cost: "O(N)",
    source: "Holt (1957) and Winters (1960), additive; sizing as in erlang-c",
    stability: "experimental",
    signals: ["arrivalsPerSecond", "serviceMs", "inFlight", "queued"]
  },
  {
    level: weight(0.5, "the level"),
    trend: weight(0.1, "the trend"),
    seasonal: weight(0.3, "the season"),
    season: {
      kind: "duration",
      default: 0,
      minimum: 0,
      maximum: 604_800_000,
      unit: "ms",
      summary:
        "Time after which arrivals repeat, such as 24 hours; 0 for none. It is known after two of them."
    },
    ...staffingOptions,
    ...stabilisedOptions
  },
  (options) => {
    const { level, trend, seasonal, season } = options
    let arrivals: HoltWinters | undefined
    const forecastBy = ({ arrivalsPerSecond, coldStartMs, periodMs }: ScalingView): number => {
      arrivals ??= new HoltWinters({ level, trend, season: seasonal }, stepsOf(season, periodMs))
      arrivals.observe(arrivalsPerSecond)
      const starting = Number.isNaN(coldStartMs) ? 0 : Math.ceil(coldStartMs / periodMs)
      return arrivals.forecast(Math.min(1 + starting, STEPS_MAX))
    }
    return stabilised(options.window, (view) => {
      const expected = staffed(view, forecastBy(view), options)
      const needed = staffed(view, view.arrivalsPerSecond, options)
      return Number.isNaN(expected) ? needed : Math.max(expected, needed)
    })
  }
)

/** The season in periods; 0 where it is too short, or too long to be remembered. */
const stepsOf = (seasonMs: number, periodMs: number): number => {
  const steps = Math.round(seasonMs / periodMs)
  return steps <= SEASON_STEPS_MAX ? steps : 0
}
