import { definePlacement } from "../Placement.ts"

/** Looks at nothing: what any policy that looks at something has to beat. */
export const random = definePlacement(
  {
    name: "random",
    summary: "Any worker with equal chance; the statistical baseline.",
    definition: "One uniform draw over the eligible workers.",
    cost: "O(1)",
    source:
      "the d = 1 case of Azar, Broder, Karlin, Upfal, Balanced Allocations, SIAM J. Comput. 29(1), 1999",
    stability: "stable",
    family: "sampling"
  },
  {},
  (_, rng) => ({
    pick: (_request, { eligible, eligibleCount }) =>
      eligibleCount === 0 ? -1 : eligible[rng.int(eligibleCount)]!
  })
)
