import { Reason } from "../../domain/Outcome.ts"
import { defineAdmission, type Rejection } from "../Admission.ts"

/** Below this a refused client would be back before anything has changed. */
const RETRY_AFTER_MS_MIN = 100
/** A prediction further away than this is not worth repeating to a client. */
const RETRY_AFTER_MS_MAX = 60_000

/**
 * Refuses at the door what would wait too long, instead of letting it time out in the queue.
 *
 * While nothing ends the wait is unknown (Infinity) and only the count bound holds: requests that meet a pool without a worker, at
 * its start or after a loss, are queued until one comes or their deadlines pass.
 */
export const queueBounds = defineAdmission(
  {
    name: "queue-bounds",
    summary:
      "Rejects when the queue is too long or the expected wait too high; a burst below the bounds is queued.",
    definition:
      "Rejects with queue_full when queued requests have reached maxQueued, then with wait_too_long when the expected wait is above " +
      "maxWait. While nothing ends the wait is unknown and only maxQueued holds. Retry-after is the expected wait (maxWait " +
      "when unknown), held between 100 ms and a minute, plus a uniform random share of the same, so that refused clients do not " +
      "come back together.",
    cost: "O(1)",
    source: "Little's law for the wait; full jitter from Brooker, Exponential Backoff And Jitter, AWS, 2015",
    stability: "stable"
  },
  {
    maxQueued: {
      kind: "integer",
      default: 4096,
      minimum: 0,
      maximum: 65_536,
      unit: "requests",
      summary:
        "Queued requests at which new ones are rejected. The default holds a burst of thousands and a few MB; 0 queues nothing."
    },
    maxWait: {
      kind: "duration",
      default: 30_000,
      minimum: 0,
      unit: "ms",
      summary:
        "Expected wait above which requests are rejected. The default outlasts a burst; set it to the longest wait a caller accepts."
    }
  },
  ({ maxQueued, maxWait }, rng) => {
    const reject = (reason: Rejection["reason"], expectedWaitMs: number): Rejection => {
      const waitMs = Number.isFinite(expectedWaitMs) ? expectedWaitMs : maxWait
      const predictedMs = Math.min(Math.max(waitMs, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX)
      return { reason, retryAfterMs: Math.ceil(predictedMs * (1 + rng.next())) }
    }
    return {
      decide: (_request, _pool, { queuedCount, expectedWaitMs }) => {
        if (queuedCount >= maxQueued) return reject(Reason.queueFull, expectedWaitMs)
        if (expectedWaitMs > maxWait && Number.isFinite(expectedWaitMs))
          return reject(Reason.waitTooLong, expectedWaitMs)
        return null
      }
    }
  }
)
