import { Reason } from "../../domain/Outcome.ts"
import { defineAdmission } from "../Admission.ts"
import { classCeiling, ceilingRule } from "../ceilings.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/**
 * A queue that empties again takes up bursts; one that stands only makes everyone late by the same time. So a queue may grow long for a
 * short while alone.
 */
export const boundedWait = defineAdmission(
  {
    name: "bounded-wait",
    summary:
      "Lets a burst wait for a short time and nothing wait for long: a queue that does not empty is cut to a small wait.",
    definition:
      "Rejects with wait_too_long when the expected wait is above the allowed one: interval, or target once the queue has not been empty " +
      "at any arrival for an interval. Drops with shed what has waited longer than that when its turn comes, unless it was placed before. " +
      `${ceilingRule} While nothing ends the wait is unknown, and all are let in. Retry-after is the expected ` +
      `wait, ${retryAfterRule}.`,
    cost: "O(1)",
    source: "Maurer, Fail at Scale, ACM Queue 13(8), 2015, after CoDel, RFC 8289",
    stability: "stable"
  },
  {
    interval: {
      kind: "duration",
      default: 1_000,
      minimum: 1,
      unit: "ms",
      summary:
        "Wait allowed to a burst, and how long one may last: a fifth of the time to first token that callers accept. Larger queues more."
    },
    target: {
      kind: "duration",
      default: 250,
      minimum: 1,
      unit: "ms",
      summary:
        "Wait allowed in a queue that stands, where that is less. Larger keeps workers busier, and everyone waiting longer."
    }
  },
  ({ interval, target }, rng) => {
    /** When the queue was last seen empty, or first seen. */
    let emptyMs = Number.NaN
    const allowedMs = (nowMs: number): number => {
      const stands = nowMs - emptyMs > interval
      return stands ? Math.min(target, interval) : interval
    }
    return {
      decide: (request, _pool, queue, nowMs) => {
        const { queuedCount, expectedWaitMs } = queue
        if (queuedCount === 0 || Number.isNaN(emptyMs)) emptyMs = nowMs
        if (expectedWaitMs <= allowedMs(nowMs) * queue.ceiling(request) || !Number.isFinite(expectedWaitMs))
          return null
        return { reason: Reason.waitTooLong, retryAfterMs: retryAfterMs(expectedWaitMs, rng) }
      },
      isOverdue: ({ arrivedMs, attempt, class: requestClass }, nowMs) =>
        attempt === 1 && nowMs - arrivedMs > allowedMs(nowMs) * classCeiling(requestClass)
    }
  }
)
