import { Reason } from "../../domain/Outcome.ts"
import { defineAdmission, type Rejection } from "../Admission.ts"
import { ceilingRule } from "../ceilings.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

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
      "Rejects with queue_full when queued requests have reached maxQueued, unless none is queued and a worker has room, then with " +
      `wait_too_long when the expected wait is above maxWait. ${ceilingRule} While nothing ends the wait is unknown and only maxQueued holds. Retry-after is the expected wait ` +
      `(maxWait when unknown), ${retryAfterRule}.`,
    cost: "O(1)",
    source:
      "Little's law for the wait; class ceilings as in llm-d's flow control; full jitter from Brooker, Exponential Backoff And Jitter, " +
      "AWS, 2015",
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
    const reject = (reason: Rejection["reason"], expectedWaitMs: number): Rejection => ({
      reason,
      retryAfterMs: retryAfterMs(Number.isFinite(expectedWaitMs) ? expectedWaitMs : maxWait, rng)
    })
    return {
      decide: (request, { eligibleCount }, queue) => {
        const { queuedCount, expectedWaitMs } = queue
        const ceiling = queue.ceiling(request)
        const queues = queuedCount > 0 || eligibleCount === 0
        if (queues && queuedCount >= maxQueued * ceiling) return reject(Reason.queueFull, expectedWaitMs)
        if (expectedWaitMs > maxWait * ceiling && Number.isFinite(expectedWaitMs))
          return reject(Reason.waitTooLong, expectedWaitMs)
        return null
      }
    }
  }
)
