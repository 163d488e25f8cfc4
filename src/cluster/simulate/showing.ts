import * as Effect from "effect/Effect"
import { systemTimers } from "../../protocol/Timers.ts"
import type { Surroundings } from "../cli/Shell.ts"

/** Between two lines of progress where nobody watches a terminal. */
const LINE_MS = 5_000

/** Runs something that tells how far it is, and shows that: on a terminal in one line, else now and then. Interruptible between its steps. */
export const showing = Effect.fnUntraced(function* <Step, Found>(
  { err, errColumns }: Surroundings,
  running: Generator<Step, Found>,
  lineOf: (step: Step) => string
): Effect.fn.Return<Found> {
  let saidMs = systemTimers.nowMs()
  while (true) {
    const { done, value } = running.next()
    if (done === true) {
      if (errColumns !== undefined) err(`\r${" ".repeat(errColumns - 1)}\r`)
      return value
    }
    if (errColumns !== undefined)
      err(
        `\r${lineOf(value)
          .slice(0, errColumns - 1)
          .padEnd(errColumns - 1)}`
      )
    else if (systemTimers.nowMs() - saidMs >= LINE_MS) {
      saidMs = systemTimers.nowMs()
      err(`${lineOf(value)}\n`)
    }
    yield* Effect.yieldNow
  }
})
