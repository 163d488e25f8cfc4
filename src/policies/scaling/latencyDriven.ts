import { defineScaling } from "../Scaling.ts"
import { placesOf, presentOf, stabilised, stabilisedOptions, stabilisedRule } from "./stabilised.ts"

/** Most that one period of late requests multiplies the workers by: times under overload say little about how much is missing. */
const GROWTH_MAX = 2
/** A queue that is gone after so many more periods needs no more workers. */
const DRAIN_PERIODS = 2

/** Follows what users feel. Once fewer workers were too few it does not guess again, so that it does not go up and down for ever. */
export const latencyDriven = defineScaling(
  {
    name: "latency-driven",
    summary:
      "More workers while requests wait too long for their first token, fewer while they are served well in time.",
    definition:
      "With p95 of the period's times to first token above `ttft`: workers that take work × p95 / ttft, at most 2 ×, unless those who were late " +
      "may be of the time before: while the queue shrinks so that two more periods end it, and without a queue in the period in which " +
      "there came to be more of them. Below `release` × ttft: as many as fill at most `share` of their places, at most those there are; " +
      "but once there have been too few, never with more arrivals per worker than have been served in time since. In between, as many as " +
      `there are. None where no request is here and none had a token. ${stabilisedRule}.`,
    cost: "O(1)",
    source: "a step controller with a dead band",
    stability: "stable",
    signals: ["ttftMsP95", "arrivalsPerSecond", "inFlight", "queued"]
  },
  {
    ttft: {
      kind: "duration",
      default: 2_000,
      minimum: 1,
      maximum: 3_600_000,
      unit: "ms",
      summary: "Time to first token that 95 of 100 requests are to have. Longer makes do with fewer workers."
    },
    release: {
      kind: "number",
      default: 0.5,
      minimum: 0,
      maximum: 1,
      unit: "share of ttft",
      summary:
        "Where fewer workers are thought of. Smaller keeps more workers, and changes their number less often."
    },
    share: {
      kind: "number",
      default: 0.7,
      minimum: 0.01,
      maximum: 1,
      unit: "share",
      summary:
        "Share of the places that may be filled once there are fewer workers. Larger lets more of them go."
    },
    ...stabilisedOptions
  },
  ({ ttft, release, share, window, concurrency }) => {
    /** Most arrivals per second and worker that were served in time since requests were late; endless while they never were. */
    let proven = Number.POSITIVE_INFINITY
    let readyBefore = Number.POSITIVE_INFINITY
    let queuedBefore = 0
    return stabilised(window, (view, current) => {
      const { arrivalsPerSecond, queued, ready, ttftMsP95 } = view
      const present = presentOf(view)
      const worked = queuedBefore - queued
      const settles = worked > 0 ? queued <= DRAIN_PERIODS * worked : ready > readyBefore && !(queued > 0)
      readyBefore = ready
      queuedBefore = queued
      if (Number.isNaN(ttftMsP95)) return present === 0 ? 0 : Number.NaN
      if (ready === 0) return Number.NaN
      if (ttftMsP95 > ttft) {
        proven = 0
        if (settles) return current
        return Math.max(current, ready * Math.min(GROWTH_MAX, ttftMsP95 / ttft))
      }
      proven = Math.max(proven, arrivalsPerSecond / ready)
      if (ttftMsP95 > release * ttft) return current
      const placed = present / (placesOf(view, concurrency) * share)
      const arriving = arrivalsPerSecond === 0 ? 0 : arrivalsPerSecond / proven
      return Math.min(current, Math.max(placed, arriving))
    })
  }
)
