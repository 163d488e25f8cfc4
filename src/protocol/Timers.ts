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

/* The one place that touches the machine's clock and timers. */
/* oxlint-disable eslint/no-restricted-globals */
/** The machine's monotonic clock. Timers keep the process alive. */
export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after: (delayMs, run) => {
    // @effect-diagnostics-next-line globalTimers:off
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
  every: (periodMs, run) => {
    // @effect-diagnostics-next-line globalTimers:off
    const timer = setInterval(run, periodMs)
    return () => clearInterval(timer)
  }
}
