import { expect } from "bun:test"
import { makeRng } from "../../src/structures/Rng.ts"
import { chiSquareRatio } from "../support/chiSquare.ts"
import type { PlacementLaw } from "./placementLaws.ts"
import { equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k)

/**
 * The least of `d` workers drawn without replacement: of N different loads the i-th smallest is picked with probability
 * C(N−1−i, d−1) / C(N, d), so the d−1 most loaded workers never are.
 */
export const sampleLaw = (d: number): PlacementLaw => ({
  id: "placement-sample",
  statement:
    "picks the i-th least loaded of N workers as the least of d distinct samples does (χ² at 10⁻⁶, seeds fixed)",
  check: ({ make }) => {
    for (const count of [d, d + 1, d + 6]) {
      // Loads descend as slots ascend, so that a pick's rank is count − 1 − slot.
      const pool = poolOf(equalWorkers(count).map((worker, i) => ({ ...worker, inFlight: count - i })))
      const placement = make({}, makeRng(11))
      const picks = 10_000
      const counts = Array.from({ length: count }, () => 0)
      for (let i = 0; i < picks; i++) counts[count - 1 - placement.pick(oneRequest, pool, 0)]!++
      const expected = counts.map((_, rank) =>
        rank > count - d ? 0 : (picks * choose(count - 1 - rank, d - 1)) / choose(count, d)
      )
      expect(chiSquareRatio(counts, expected)).toBeLessThan(1)
    }
  }
})
