import type { Timers } from "../../protocol/Timers.ts"

/** Requests sent before the sockets get a turn again, when many are due. */
const BURST_MAX = 256

/**
 * Calls `send(index, dueMs)` for each due time when it comes, whatever became of the calls before: an open loop. `offsetsMs` count from
 * now and never decrease; `dueMs` is on the clock of `timers`. Several that are due together are sent together, and none is skipped when
 * the process was busy. Returns how to stop; `send` itself must not.
 */
export const openLoop = (
  timers: Timers,
  offsetsMs: ReadonlyArray<number>,
  send: (index: number, dueMs: number) => void
): (() => void) => {
  const startMs = timers.nowMs()
  let next = 0
  let cancel = (): void => undefined
  const pump = (): void => {
    for (let burst = 0; burst < BURST_MAX && next < offsetsMs.length; burst++) {
      const dueMs = startMs + offsetsMs[next]!
      if (dueMs > timers.nowMs()) break
      send(next++, dueMs)
    }
    if (next < offsetsMs.length)
      cancel = timers.after(Math.max(0, startMs + offsetsMs[next]! - timers.nowMs()), pump)
  }
  cancel = timers.after(0, pump)
  return () => cancel()
}
