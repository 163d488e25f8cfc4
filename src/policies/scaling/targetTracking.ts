import { defineScaling, type ScalingView } from "../Scaling.ts"
import { placesOf, presentOf, stabilised, stabilisedOptions, stabilisedRule } from "./stabilised.ts"

/** Sees one figure, and needs no model of what is behind it: the choice where that figure says what hurts. */
export const targetTracking = defineScaling(
  {
    name: "target-tracking",
    summary: "Keeps one figure near a target: the KV cache in use, the places taken, or the backlog.",
    definition:
      "Workers that take work × figure / target, unless that is within `tolerance` of the number there is, those on their way included. The " +
      "figure is, per worker, for `kv-use` the share of the KV cache in use, for `in-flight` the share of its places that requests in " +
      "flight or queued would fill, each against `share`; for `backlog` the time to compute the prompts that are pending, against " +
      `\`backlog\`. ${stabilisedRule}.`,
    cost: "O(1)",
    source:
      "Kubernetes, horizontal pod autoscaler: ceil(current × metric / target), tolerance 0.1, down-scale stabilisation 300 s",
    stability: "stable",
    signals: ["kvUse", "inFlight", "queued", "backlogMs"]
  },
  {
    metric: {
      kind: "choice",
      default: "in-flight",
      choices: ["in-flight", "kv-use", "backlog"],
      summary:
        "The figure that is kept near its target. `kv-use` follows long contexts, `in-flight` many requests, `backlog` prompts that wait."
    },
    share: {
      kind: "number",
      default: 0.7,
      minimum: 0.01,
      maximum: 1,
      unit: "share",
      summary:
        "Target of `kv-use` and `in-flight`. Larger makes do with fewer workers, and leaves less for bursts."
    },
    backlog: {
      kind: "duration",
      default: 1_000,
      minimum: 1,
      maximum: 3_600_000,
      unit: "ms",
      summary: "Target of `backlog`. Longer makes do with fewer workers, and requests wait longer."
    },
    tolerance: {
      kind: "number",
      default: 0.1,
      minimum: 0,
      maximum: 1,
      summary: "Share by which the figure may miss its target. Larger starts and stops fewer workers."
    },
    ...stabilisedOptions
  },
  ({ metric, share, backlog, tolerance, window, concurrency }) => {
    /** Summed over the workers: how many would be needed if each could be used up. */
    const usedUp = (view: ScalingView): number => {
      switch (metric) {
        case "kv-use":
          return (view.ready * view.kvUse) / share
        case "in-flight":
          return presentOf(view) / (placesOf(view, concurrency) * share)
        case "backlog":
          return (view.ready * view.backlogMs) / backlog
      }
    }
    return stabilised(window, (view, current) => {
      const needed = usedUp(view)
      return Math.abs(needed / current - 1) <= tolerance ? current : needed
    })
  }
)
