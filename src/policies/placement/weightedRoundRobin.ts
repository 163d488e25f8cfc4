import { assert } from "../../structures/assert.ts"
import { floats, grow } from "../../structures/grow.ts"
import { mix } from "../../structures/hash.ts"
import { SLOTS_MAX } from "../../structures/SlotLists.ts"
import { definePlacement } from "../Placement.ts"

/**
 * The smooth form of nginx: a fast worker's turns are spread over the round, where listing it several times would send bursts. Lag is
 * counted in picks, as shares of the workers that are there, so that two of equal speed alternate whoever else comes and goes.
 */
export const weightedRoundRobin = definePlacement(
  {
    name: "weighted-round-robin",
    summary:
      "Each worker in turn, faster ones more often in proportion to their speed, spread evenly over the round.",
    definition:
      "With every pick each eligible worker falls behind by speed / Σ speed of a pick; the one that lags most is picked, and lags one pick less. " +
      "With the same workers and speeds, after t picks each has had its share of t to within 1 + 1/2 + … + 1/N picks. Lags that " +
      "differ by less than a millionth of a pick are ties; they go to the highest hash of a random number, drawn once, and " +
      "the worker key: always the same order, another one in each balancer. A worker that is not eligible keeps its lag, and starts without one " +
      "when it comes back to the pool. Load is not looked at.",
    cost: "O(N)",
    source: "nginx, ngx_http_upstream_round_robin.c (smooth weighted round robin)",
    stability: "stable",
    family: "rotating"
  },
  {},
  (_, rng) => {
    const order = rng.int(2 ** 32)
    /** By worker slot: the picks it lags behind its share. */
    let lag = new Float64Array(0)
    const growTo = (worker: number): void => {
      assert(worker < SLOTS_MAX, "slots are below 65 536")
      lag = grow(lag, worker, floats)
    }
    return {
      pick: (_request, { workers: { keyHigh, keyLow, speed }, eligible, eligibleCount }) => {
        let speedMax = 0
        for (let i = 0; i < eligibleCount; i++) speedMax = Math.max(speedMax, speed[eligible[i]!]!)
        // Relative to the fastest, so that the sum is finite whatever the unit of speed.
        let speedSum = 0
        for (let i = 0; i < eligibleCount; i++) speedSum += speed[eligible[i]!]! / speedMax

        let best = -1
        let bestLag = Number.NEGATIVE_INFINITY
        let bestScore = -1
        for (let i = 0; i < eligibleCount; i++) {
          const worker = eligible[i]!
          if (worker >= lag.length) growTo(worker)
          const behind = lag[worker]! + speed[worker]! / speedMax / speedSum
          lag[worker] = behind
          if (behind < bestLag - TIE_PICKS) continue
          const score = mix(order, keyHigh[worker]!, keyLow[worker]!)
          if (behind <= bestLag + TIE_PICKS && score <= bestScore) continue
          best = worker
          bestLag = behind
          bestScore = score
        }
        if (best >= 0) lag[best]! -= 1
        return best
      },
      changed: (worker) => {
        if (worker < lag.length) lag[worker] = 0
      }
    }
  }
)

/** Far above the rounding errors of a sum of shares, far below any difference that matters. */
const TIE_PICKS = 1e-6
