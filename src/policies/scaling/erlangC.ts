import { defineScaling } from "../Scaling.ts"
import { stabilised, stabilisedOptions, stabilisedRule } from "./stabilised.ts"
import { littleRule, staffed, staffingOptions, staffingRule } from "./staffing.ts"

/** Sizes a pool from what arrives and how long it takes, as call centres do: it needs no trial and error. */
export const erlangC = defineScaling(
  {
    name: "erlang-c",
    summary: "The fewest workers with which waits stay short, from arrivals and service times.",
    definition: `${staffingRule}; ${littleRule}. ${stabilisedRule}.`,
    cost: "O(N)",
    source:
      "A. K. Erlang (1917); Halfin and Whitt, Operations Research 1981, for the square root of the load it leaves spare",
    stability: "stable",
    signals: ["arrivalsPerSecond", "serviceMs", "inFlight", "queued"]
  },
  { ...staffingOptions, ...stabilisedOptions },
  (options) => stabilised(options.window, (view) => staffed(view, view.arrivalsPerSecond, options))
)
