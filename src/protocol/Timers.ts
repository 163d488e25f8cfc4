/** Stops what it was returned for. May be called any number of times. */
export type Cancel = () => void

/**
 * Time as the protocol and the actors see it. Everything that waits takes one of these, so that the fault simulator can bring its own.
 * Milliseconds; `nowMs` is monotonic and has no meaning across processes.
 */
export interface Timers {
  readonly nowMs: () => number
  readonly after: (delayMs: number, run: () => void) => Cancel
  readonly every: (periodMs: number, run: () => void) => Cancel
}

/** Time that passes `timeScale` times faster. */
export const scaledTimers = (timers: Timers, timeScale: number): Timers => ({
  nowMs: () => timers.nowMs() * timeScale,
  after: (delayMs, run) => timers.after(delayMs / timeScale, run),
  every: (periodMs, run) => timers.every(periodMs / timeScale, run)
})

/** The machine's monotonic clock: the one place that touches it and its timers. Timers keep the process alive. */
export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
  every: (periodMs, run) => {
    const timer = setInterval(run, periodMs)
    return () => clearInterval(timer)
  }
}
