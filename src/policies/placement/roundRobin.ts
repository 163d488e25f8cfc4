import { firstAbove } from "../eligibility.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Takes turns by key rather than by position: the next worker is the one whose key follows the key picked last. So a worker that
 * comes, goes or is full for a while costs no other worker a turn: between two picks of one worker, every other worker that was
 * eligible throughout is picked exactly once.
 */
export const roundRobin = definePlacement(
  {
    name: "round-robin",
    summary: "Each worker in turn, whatever its load; the baseline to compare with.",
    definition:
      "The eligible worker whose 64-bit key is the next above the key picked last, the smallest key after the largest. " +
      "It starts at a random key, so that balancers that start together do not march in step.",
    cost: "O(log N)",
    source: "Nagle, RFC 970 (1985), service in turn",
    stability: "stable",
    family: "rotating"
  },
  {},
  (_, rng) => {
    let lastHigh = rng.int(2 ** 32)
    let lastLow = 0
    return {
      pick: (_request, pool) => {
        const { workers, eligible, eligibleCount } = pool
        if (eligibleCount === 0) return -1
        const next = firstAbove(pool, lastHigh, lastLow)
        const picked = eligible[next < eligibleCount ? next : 0]!
        lastHigh = workers.keyHigh[picked]!
        lastLow = workers.keyLow[picked]!
        return picked
      }
    }
  }
)
