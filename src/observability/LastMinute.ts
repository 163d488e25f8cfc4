const MINUTE_MS = 60_000
/** Readings closer to each other are not kept: a minute has so few of them. */
const STEP_MS = 1_000

interface Reading {
  readonly atMs: number
  readonly counts: ReadonlyArray<number>
}

/**
 * What counters gained in the last minute, or since they were read last where that is longer ago. So it is the same whoever else reads
 * them, and how often. Counters start at 0 with the process, and more may be added to the end. Memory: 61 readings.
 */
export class LastMinute {
  /** The first is the last one that is a minute old, or the start of the process. */
  private readonly readings: Array<Reading> = [{ atMs: 0, counts: [] }]

  /** `uptimeMs` is that of the process, and never less than before. */
  gained(counts: ReadonlyArray<number>, uptimeMs: number): ReadonlyArray<number> {
    const { readings } = this
    while (readings.length > 1 && readings[1]!.atMs <= uptimeMs - MINUTE_MS) readings.shift()
    const before = readings[0]!.counts
    if (uptimeMs >= readings.at(-1)!.atMs + STEP_MS) readings.push({ atMs: uptimeMs, counts })
    return counts.map((count, i) => count - (before[i] ?? 0))
  }
}
