import type { PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { decodeStepMs, prefillMs } from "../costs.ts"
import { matchedTokens } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { KeyedQueues } from "../RequestQueues.ts"

/** The two queues: deadlines that can be met as far as is known, and those found to be lost. */
const ON_TIME = 0
const LATE = 1

/** Requests tested at a decision: a burst of late ones takes less than a millisecond of it. */
const TESTED_MAX = 1024

/**
 * Earliest deadline first meets every deadline where any order does, and collapses where none can: it then works on what is just about
 * to fail. So each request is tested when it is its turn, and goes behind those that can still be on time.
 */
export const earliestDeadline = defineOrdering(
  {
    name: "earliest-deadline",
    summary:
      "The request whose deadline is nearest, as long as it can be met; those that are too late go last.",
    definition:
      "Least deadline of those that some eligible worker can finish in time, by its fitted step costs: now + prefill of the prompt tokens " +
      "that no worker holds + a decode step for each further token of the quantile outputQuantile of the tenant's answers ≤ deadline. A " +
      "request that fails the test when it is its turn goes behind all that have not, and is served by deadline when nothing else waits; " +
      `after ${TESTED_MAX} that fail at one decision the next goes untested. ` +
      "A deadline before the arrival counts as the arrival, one later than horizon after it, or no number, as horizon after it. Ties go to " +
      "the more urgent class, then to the one that arrived first; of requests equal in that too, a requeued one goes first, then the one " +
      "enqueued first.",
    cost: "O(N)",
    source:
      "Liu and Layland, Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment, J. ACM 20(1), 1973",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    horizon: {
      kind: "duration",
      default: 3_600_000,
      minimum: 1,
      unit: "ms",
      summary:
        "Furthest deadline after the arrival that counts. It bounds how long those with far deadlines wait behind those with near ones."
    },
    outputQuantile: {
      kind: "number",
      default: 0.5,
      minimum: 0,
      maximum: 1,
      unit: "share of requests",
      summary:
        "The answer is taken to be as long as this share of the tenant's answers stays below. Larger gives more requests up for late."
    }
  },
  ({ horizon, outputQuantile }) => {
    const dueMs = ({ arrivedMs, deadlineMs }: RequestView): number => {
      const aheadMs = deadlineMs - arrivedMs
      return arrivedMs + (aheadMs <= horizon ? Math.max(0, aheadMs) : horizon)
    }
    const queues = new KeyedQueues(2, dueMs, (request) => request.class)
    return {
      enqueue: (request, pool) => queues.add(ON_TIME, request, pool),
      requeue: (request, pool) => queues.putBack(ON_TIME, request, pool),
      next: (pool, nowMs) => {
        let slot = queues.first(ON_TIME)
        for (let tested = 0; slot >= 0 && tested < TESTED_MAX; tested++) {
          const request = queues.at(slot)
          const outputTokens = pool.forecast.outputTokens(request, outputQuantile)
          if (nowMs + leastServiceMs(request, pool, outputTokens) <= dueMs(request)) break
          queues.move(slot, LATE)
          slot = queues.first(ON_TIME)
        }
        if (slot < 0) slot = queues.first(LATE)
        queues.remove(slot)
        return slot
      },
      remove: (slot) => queues.remove(slot),
      size: () => queues.size
    }
  }
)

/** What the request takes on the eligible worker that is fastest for it; 0 when there is none. */
const leastServiceMs = (request: RequestView, pool: PoolView, outputTokens: number): number => {
  const { eligible, eligibleCount, workers } = pool
  const cachedTokens = matchedTokens(request, pool)
  let leastMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < eligibleCount; i++) {
    const worker = eligible[i]!
    const ms =
      prefillMs(workers, worker, request.promptTokens - cachedTokens, cachedTokens) +
      (outputTokens - 1) * decodeStepMs(workers, worker)
    if (ms < leastMs) leastMs = ms
  }
  return eligibleCount === 0 ? 0 : leastMs
}
