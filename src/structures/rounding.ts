/** For `JSON.stringify`: numbers rounded to four decimals, because more would be noise. */
export const rounding = (_: string, part: unknown): unknown =>
  typeof part === "number" ? Math.round(part * 1e4) / 1e4 : part
