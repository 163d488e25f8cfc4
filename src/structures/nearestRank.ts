/** By how much a product may be off that should be a whole number. */
const ROUNDING = 1e-12

/** Which of `count` ordered values, the first being 1, is the least that a share `q` in [0, 1] of them does not exceed. */
export const nearestRank = (q: number, count: number): number =>
  Math.max(1, Math.ceil(q * count * (1 - ROUNDING)))

/** The value of that rank, of ascending ones; NaN of none. */
export const quantile = (ascending: ReadonlyArray<number> | Float64Array, q: number): number =>
  ascending[nearestRank(q, ascending.length) - 1] ?? Number.NaN
