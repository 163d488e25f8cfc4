import { defineAdmission } from "../Admission.ts"
import { GradientLimit } from "../estimators/ConcurrencyLimit.ts"
import { limitInFlight, limitOptions, limitRange, limitRule } from "../limitInFlight.ts"
import { retryAfterRule } from "../retryAfter.ts"

/** Needs to know nothing of the engines, and no target: it finds the load at which requests begin to wait for each other. */
export const gradientLimit = defineAdmission(
  {
    name: "gradient-limit",
    summary:
      "A limit on requests in the pool that follows the time per token: for engines of which nothing else is known.",
    definition:
      `${limitRule}, ${retryAfterRule}. After each window of ten or more requests: g = tolerance × long / short, held between 0.5 and 1, ` +
      "where short is the window's time per output token from arrival to end, and long its mean over 600 windows, which learns at an " +
      "eighth of its rate while the limit binds and shrinks by a twentieth while it is over 2 × short; then " +
      "limit = (1 − smoothing) × limit + smoothing × (limit × g + queue), unless less than half of it was used. A window in which a " +
      "request ran into its deadline, or was refused by its worker, takes off a tenth instead.",
    cost: "O(1)",
    source: "Netflix/concurrency-limits, Gradient2Limit.java",
    stability: "experimental"
  },
  {
    ...limitOptions,
    tolerance: {
      kind: "number",
      default: 1.5,
      minimum: 1,
      maximum: 10,
      summary:
        "Times the long-term time per token that is accepted. Larger admits more, at more time per token."
    },
    smoothing: {
      kind: "number",
      default: 0.2,
      minimum: 0.01,
      maximum: 1,
      summary: "Weight of the last window. Larger follows faster and swings more."
    },
    queue: {
      kind: "number",
      default: 4,
      minimum: 1,
      maximum: 1000,
      unit: "requests",
      summary:
        "By how much the limit of a worker tends to grow while nothing queues. Larger finds a higher limit sooner, and overshoots more."
    }
  },
  ({ window, tolerance, smoothing, queue, ...range }, rng) =>
    limitInFlight(
      {
        limit: new GradientLimit({ ...limitRange(range), tolerance, smoothing, queue }),
        windowMs: window,
        timeoutMs: Number.POSITIVE_INFINITY
      },
      rng
    )
)
