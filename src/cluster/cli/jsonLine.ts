/** A value as one line of JSON, its numbers rounded to four decimals: more would be noise. */
export const jsonLine = (value: unknown): string =>
  `${JSON.stringify(value, (_, part: unknown) => (typeof part === "number" ? Math.round(part * 1e4) / 1e4 : part))}\n`
