import { parseDuration } from "../../domain/config/duration.ts"

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 }

/** What a text must be. */
export const LENGTH_RULE = "must be a length of time, as in 30s, 500ms or 2m"

/** Milliseconds of `30s`, or of a duration as configurations have it; `undefined` for anything else. */
export const lengthOf = (text: string): number | undefined => {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? []
  return unit === undefined ? parseDuration(text) : Number(count) * unitMs[unit]!
}
