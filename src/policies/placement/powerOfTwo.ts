import { drawDistinct } from "../drawDistinct.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Two random choices get most of the benefit of looking at every worker, at a constant price, and stay safe when the figures are
 * old: a herd needs everyone to look at the same worker.
 */
export const powerOfTwo = definePlacement(
  {
    name: "power-of-two",
    summary: "The less loaded of two random workers: nearly as even as looking at all, at a constant cost.",
    definition:
      "Least inFlight / speed over d distinct workers, drawn uniformly without replacement. Ties go to the one drawn first, " +
      "so they are uniform. With d or fewer eligible workers it looks at all of them.",
    cost: "O(1)",
    source:
      "Azar, Broder, Karlin, Upfal, Balanced Allocations, SIAM J. Comput. 29(1), 1999; " +
      "Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 12(10), 2001",
    stability: "stable",
    family: "sampling",
    unit: "requests"
  },
  {
    d: {
      kind: "integer",
      default: 2,
      minimum: 1,
      maximum: 16,
      unit: "workers",
      summary:
        "Workers looked at for each request. More of them spread load more evenly and herd more when figures are old; 1 is random."
    }
  },
  ({ d }, rng) => {
    /** Positions drawn so far for this request, ascending. */
    const drawn = new Int32Array(d)
    let draws = 0
    return {
      pick: (_request, { workers: { inFlight, speed }, eligible, eligibleCount }) => {
        draws = Math.min(d, eligibleCount)
        let best = -1
        let bestLoad = Number.POSITIVE_INFINITY
        for (let count = 0; count < draws; count++) {
          const slot = eligible[drawDistinct(drawn, count, eligibleCount, rng)]!
          const load = inFlight[slot]! / speed[slot]!
          if (best < 0 || load < bestLoad) {
            best = slot
            bestLoad = load
          }
        }
        return best
      },
      compared: (worker, { eligible }) => {
        for (let i = 0; i < draws; i++) if (eligible[drawn[i]!] === worker) return true
        return false
      }
    }
  }
)
