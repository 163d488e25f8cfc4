import { defineScaling } from "../Scaling.ts"
import {
  offeredOf,
  placesOf,
  presentOf,
  stabilised,
  stabilisedOptions,
  stabilisedRule
} from "./stabilised.ts"

/** Knows what arrives and what waits, so that it orders at once as many workers as a burst takes. */
export const queueDriven = defineScaling(
  {
    name: "queue-driven",
    summary: "Enough workers for what arrives, and for the queue to be gone within a given time.",
    definition:
      "Workers = (arrivals × service time + queued × service time / `drain`) / (`concurrency` × `share`), where a worker's capacity stands for " +
      "`concurrency` if it is less. While nothing that arrived has ended, the requests in flight and queued stand for the upper part. " +
      `${stabilisedRule}.`,
    cost: "O(1)",
    source: "Little's law, for what arrives and for what is to be worked off",
    stability: "stable",
    signals: ["arrivalsPerSecond", "serviceMs", "queued", "inFlight"]
  },
  {
    drain: {
      kind: "duration",
      default: 30_000,
      minimum: 100,
      maximum: 3_600_000,
      unit: "ms",
      summary: "Time in which the queue is to be worked off. Longer starts fewer workers for a burst."
    },
    share: {
      kind: "number",
      default: 0.8,
      minimum: 0.01,
      maximum: 1,
      unit: "share",
      summary:
        "Share of the places that may be filled. Larger makes do with fewer workers, and leaves less for bursts."
    },
    ...stabilisedOptions
  },
  ({ drain, share, window, concurrency }) =>
    stabilised(window, (view) => {
      const { arrivalsPerSecond, queued, serviceMs } = view
      const drained = queued === 0 ? 0 : (queued * serviceMs) / drain
      const busy = offeredOf(arrivalsPerSecond, serviceMs) + drained
      return (Number.isNaN(busy) ? presentOf(view) : busy) / (placesOf(view, concurrency) * share)
    })
)
