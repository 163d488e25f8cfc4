import { mean, sum } from "./mean.ts"

export type Verdict = "even" | "uneven" | "lopsided"

/** How evenly work was spread over workers. */
export interface Imbalance {
  /** Standard deviation over mean. */
  readonly cv: number
  readonly maxOverMean: number
  readonly verdict: Verdict
}

/** The busiest worker has at most this many times the mean: the run takes that much longer than it would with even work. */
const EVEN_MAX = 1.1
const UNEVEN_MAX = 1.5

/** Of one or more amounts, none negative. Where nobody did anything, nobody did more than another: even. Cost O(n). */
export const imbalance = (amounts: ReadonlyArray<number>): Imbalance => {
  const middle = mean(amounts)
  if (!(middle > 0)) return { cv: 0, maxOverMean: 1, verdict: "even" }
  const variance = mean(amounts.map((amount) => (amount - middle) ** 2))
  const maxOverMean = Math.max(...amounts) / middle
  return { cv: Math.sqrt(variance) / middle, maxOverMean, verdict: verdictOf(maxOverMean) }
}

/**
 * Jain's index of one or more amounts, none negative: 1 when all are equal, also when all are 0; 1 / n when one of n has everything. O(n).
 *
 * Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
 */
export const jain = (amounts: ReadonlyArray<number>): number => {
  const squares = sum(amounts.map((amount) => amount * amount))
  return squares === 0 ? 1 : sum(amounts) ** 2 / (amounts.length * squares)
}

/** What the busiest one having so many times the mean amounts to. */
export const verdictOf = (maxOverMean: number): Verdict =>
  maxOverMean <= EVEN_MAX ? "even" : maxOverMean <= UNEVEN_MAX ? "uneven" : "lopsided"
