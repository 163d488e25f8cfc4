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
      pick: (_request, { workers: { keyHigh, keyLow }, eligible, eligibleCount }) => {
        if (eligibleCount === 0) return -1
        let from = 0
        let to = eligibleCount
        while (from < to) {
          const middle = (from + to) >>> 1
          const slot = eligible[middle]!
          const high = keyHigh[slot]!
          const above = high > lastHigh || (high === lastHigh && keyLow[slot]! > lastLow)
          if (above) to = middle
          else from = middle + 1
        }
        const picked = eligible[from < eligibleCount ? from : 0]!
        lastHigh = keyHigh[picked]!
        lastLow = keyLow[picked]!
        return picked
      }
    }
  }
)
