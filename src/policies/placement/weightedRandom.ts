import { definePlacement } from "../Placement.ts"

/**
 * Draws a worker and keeps it with chance speed / highest speed, else draws again: exact with no table to rebuild when workers come, go, fill
 * up or change their speed. Only a bound on the speeds is remembered.
 */
export const weightedRandom = definePlacement(
  {
    name: "weighted-random",
    summary:
      "Any worker with a chance in proportion to its speed; the statistical baseline for unequal workers.",
    definition:
      "One draw over the eligible workers, each with probability speed / Σ speed. A speed counts from the heartbeat after it changed. " +
      "It takes as many uniform draws as the highest speed known is above the mean; where 16 do not settle it, it looks at all workers. " +
      "Load is not looked at.",
    cost: "O(1)",
    source: "von Neumann, Various techniques used in connection with random digits, 1951 (rejection)",
    stability: "stable",
    family: "sampling"
  },
  {},
  (_, rng) => {
    /** No worker that was heard of is faster. */
    let speedMax = 0
    const hear = (speed: number): void => {
      if (speed > speedMax) speedMax = speed
    }
    return {
      pick: (_request, { workers: { speed }, eligible, eligibleCount }) => {
        if (eligibleCount === 0) return -1
        for (let draw = 0; draw < DRAWS_MAX; draw++) {
          const worker = eligible[rng.int(eligibleCount)]!
          if (speed[worker]! > speedMax) break
          if (rng.next() * speedMax < speed[worker]!) return worker
        }
        // Whether the draws above end here does not depend on the worker they would have kept, so this one is as good.
        let sum = 0
        for (let i = 0; i < eligibleCount; i++) hear(speed[eligible[i]!]!)
        for (let i = 0; i < eligibleCount; i++) sum += speed[eligible[i]!]! / speedMax
        let left = rng.next() * sum
        let last = 0
        while (last < eligibleCount - 1 && (left -= speed[eligible[last]!]! / speedMax) >= 0) last++
        return eligible[last]!
      },
      changed: (worker, _ready, { workers }) => hear(workers.speed[worker]!),
      observed: (worker, { workers }) => hear(workers.speed[worker]!)
    }
  }
)

/** Where the mean speed is an eighth of the highest, one pick in eight is not settled after that many. */
const DRAWS_MAX = 16
