import { counted } from "../../structures/counted.ts"

const unitMs: Readonly<Record<string, number>> = {
  milli: 1,
  second: 1000,
  minute: 60_000,
  hour: 3_600_000
}
const form = /^(\d+(?:\.\d+)?) (milli|second|minute|hour)s?$/

/** Milliseconds of `"250 millis"`, `"1.5 seconds"`, `"10 minutes"`, `"1 hour"`; `undefined` for anything else. */
export const parseDuration = (text: string): number | undefined => {
  const parts = form.exec(text)
  return parts === null ? undefined : Number(parts[1]) * unitMs[parts[2]!]!
}

/** The shortest text that `parseDuration` reads back as `ms`. */
export const formatDuration = (ms: number): string => {
  const whole = Object.entries(unitMs).findLast(([, size]) => ms >= size && ms % size === 0)
  const [unit, size] = whole ?? ["milli", 1]
  return counted(ms / size, unit)
}
