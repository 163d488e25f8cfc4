import { defineBatching } from "../Batching.ts"

/** Of a new measurement in the moving average of times to first token. */
const NEWEST_WEIGHT = 0.1
const DECREASE = 0.9

/**
 * Additive increase while batches fill and requests are in time, multiplicative decrease otherwise: under high load the batches become as
 * large as the target allows, under low load there are none.
 */
export const adaptive = defineBatching(
  {
    name: "adaptive",
    summary:
      "A window whose size follows the load: larger while requests are in time, smaller when they are not or few come.",
    definition:
      "A batch closes when it has n requests, when its first one has waited for `delay`, or when a worker has nothing to do. n begins at 1. " +
      "After a batch that was full, n grows by 1 while the moving average (weight 0.1) of time to first token is within `target`; after any " +
      "other batch, or beyond the target, n becomes 0.9 n. n stays between 1 and `size`, and is rounded down where it is used.",
    cost: "O(1)",
    source: "Crankshaw et al., Clipper, NSDI 2017 (AIMD on batch size)",
    stability: "stable",
    joint: true
  },
  {
    size: {
      kind: "integer",
      default: 64,
      minimum: 1,
      maximum: 65_536,
      unit: "requests",
      summary: "Largest batch. More lets a high load be placed in larger batches."
    },
    delay: {
      kind: "duration",
      default: 25,
      minimum: 0,
      maximum: 10_000,
      unit: "ms",
      summary:
        "Longest time that the first request of a batch waits for others; a twentieth of the target is usual."
    },
    target: {
      kind: "duration",
      default: 500,
      minimum: 1,
      unit: "ms",
      summary: "Mean time to first token beyond which batches shrink. Lower keeps batches small."
    }
  },
  ({ size, delay, target }) => {
    let limit = 1
    let full = false
    let ttftMs = 0
    return {
      closesAtMs: (waiting, nowMs) => {
        full = waiting.count >= Math.floor(limit)
        return full || waiting.idle ? nowMs : waiting.sinceMs + delay
      },
      sizeMax: () => {
        const closing = Math.floor(limit)
        limit = full && ttftMs <= target ? Math.min(size, limit + 1) : Math.max(1, limit * DECREASE)
        return closing
      },
      timed: ({ arrivedMs }, _worker, _pool, nowMs) => {
        ttftMs += NEWEST_WEIGHT * (nowMs - arrivedMs - ttftMs)
      }
    }
  }
)
