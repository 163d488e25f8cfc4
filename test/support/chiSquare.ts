/** Standard normal quantile of 1 − 10⁻⁶: a law tested with a fixed seed that fails at this level is broken, not unlucky. */
const Z = 4.753424308822899

/**
 * Whether counts agree with expected counts, by Pearson's χ² test at α = 10⁻⁶. Returns χ² over its critical value: above 1 is a
 * rejection. A count where none is expected is infinite. Expected counts should be 5 or more.
 * The critical value is Wilson and Hilferty's approximation, 1 % off at most from three cells on.
 */
export const chiSquareRatio = (observed: ReadonlyArray<number>, expected: ReadonlyArray<number>): number => {
  let statistic = 0
  let cells = 0
  for (const [i, count] of observed.entries()) {
    const mean = expected[i]!
    if (mean === 0 && count === 0) continue
    statistic += (count - mean) ** 2 / mean
    cells++
  }
  const freedom = Math.max(1, cells - 1)
  const spread = 2 / (9 * freedom)
  return statistic / (freedom * (1 - spread + Z * Math.sqrt(spread)) ** 3)
}

/** `chiSquareRatio` against equal shares. */
export const evennessRatio = (observed: ReadonlyArray<number>): number => {
  const mean = observed.reduce((sum, count) => sum + count, 0) / observed.length
  return chiSquareRatio(
    observed,
    observed.map(() => mean)
  )
}
