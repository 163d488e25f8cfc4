import type { Rng } from "../structures/Rng.ts"

/**
 * Draws the position of one of `eligibleCount` workers that is not among `drawn[0 .. count)`, each of the others with equal chance, and
 * puts it there; these stay ascending. O(count), allocates nothing.
 */
export const drawDistinct = (drawn: Int32Array, count: number, eligibleCount: number, rng: Rng): number => {
  let position = rng.int(eligibleCount - count)
  let at = 0
  for (; at < count && drawn[at]! <= position; at++) position++
  for (let i = count; i > at; i--) drawn[i] = drawn[i - 1]!
  drawn[at] = position
  return position
}
