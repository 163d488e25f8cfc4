import { systemTimers } from "../../src/protocol/Timers.ts"

/** Resolves after so long. */
export const elapse = (delayMs: number): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>()
  systemTimers.after(delayMs, resolve)
  return promise
}
