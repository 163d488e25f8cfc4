import { counted } from "../../structures/counted.ts"

const unitMs: Readonly<Record<string, number>> = {
  milli: 1,
  second: 1000,
  minute: 60_000,
  hour: 3_600_000
}
const shortUnits: Readonly<Record<string, string>> = { ms: "milli", s: "second", m: "minute", h: "hour" }
const form = /^(\d+(?:\.\d+)?)(?: (milli|second|minute|hour)s?|(ms|s|m|h))$/

/** What a text must be, on the command line. */
export const DURATION_RULE = "must be a length of time, as in 30s, 500ms or 2m"

/** Milliseconds of `"250 millis"` or `"250ms"`, `"1.5 seconds"`, `"10 minutes"`, `"1h"`; `undefined` for anything else. */
export const parseDuration = (text: string): number | undefined => {
  const [, count, long, short] = form.exec(text) ?? []
  const unit = long ?? shortUnits[short!]
  return unit === undefined ? undefined : Number(count) * unitMs[unit]!
}

/** The shortest text that `parseDuration` reads back as `ms`. */
export const formatDuration = (ms: number): string => {
  const whole = Object.entries(unitMs).findLast(([, size]) => ms >= size && ms % size === 0)
  const [unit, size] = whole ?? ["milli", 1]
  return counted(ms / size, unit)
}
