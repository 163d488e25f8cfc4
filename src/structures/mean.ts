/** What values add up to, added in their order. */
export const sum = (values: Iterable<number>): number => {
  let total = 0
  for (const value of values) total += value
  return total
}

/** NaN of no values. */
export const mean = (values: ReadonlyArray<number> | Float64Array): number => sum(values) / values.length
