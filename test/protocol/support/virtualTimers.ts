import type { Timers } from "../../../src/protocol/Timers.ts"

interface Alarm {
  dueMs: number
  readonly periodMs: number | undefined
  readonly run: () => void
}

/** Time that moves when told to. `advance` fires what is due, in the order of its due time. */
export const virtualTimers = () => {
  const alarms = new Set<Alarm>()
  let nowMs = 1_000_000
  const set = (delayMs: number, periodMs: number | undefined, run: () => void) => {
    const alarm = { dueMs: nowMs + delayMs, periodMs, run }
    alarms.add(alarm)
    return () => void alarms.delete(alarm)
  }
  const timers: Timers = {
    nowMs: () => nowMs,
    after: (delayMs, run) => set(delayMs, undefined, run),
    every: (periodMs, run) => set(periodMs, periodMs, run)
  }
  const advance = (byMs: number): void => {
    const endMs = nowMs + byMs
    while (true) {
      const due = [...alarms].filter((a) => a.dueMs <= endMs).toSorted((a, b) => a.dueMs - b.dueMs)[0]
      if (due === undefined) break
      nowMs = due.dueMs
      if (due.periodMs === undefined) alarms.delete(due)
      else due.dueMs += due.periodMs
      due.run()
    }
    nowMs = endMs
  }
  return { timers, advance, alarmCount: () => alarms.size }
}
