/** Smaller numbers are what sums of floating point leave over. */
const LEAST = 1e-9

/**
 * For `JSON.stringify`: numbers rounded to four decimals, and those below 1 to four significant digits, because more would be noise. Rates
 * of a trace that is a year long are far below a ten-thousandth.
 */
export const rounding = (_: string, part: unknown): unknown => {
  if (typeof part !== "number") return part
  const size = Math.abs(part)
  if (size < LEAST) return 0
  return size < 1 ? Number(part.toPrecision(4)) : Math.round(part * 1e4) / 1e4
}
