import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { systemTimers } from "../../protocol/Timers.ts"
import { CliFailure } from "./CliFailure.ts"

/** What a shell reports for a program that Ctrl-C cut short. */
const CUT_SHORT = 130
/** Signals so close together are one: `bun run` and `npx` pass on the Ctrl-C that the terminal has sent to us as well. */
const ECHO_MS = 500

/**
 * Runs a command as the life of this process. Messages of failures go to standard error, and the exit code says which kind it was.
 *
 * The first SIGINT, SIGTERM or SIGHUP interrupts an orderly command, which may take its time; a second one ends the process at once. Any
 * other command ends at once, by the signal itself: a handler would not run while it computes.
 */
export const runMain = (
  command: Effect.Effect<void, CliFailure>,
  options: {
    /** Whether the command runs until it is interrupted, so that ending then is what was wanted. */
    readonly endless: boolean
    /** Whether the command has something to end in order. */
    readonly orderly: boolean
    /** Leaves SIGINT and SIGHUP to a parent: a terminal sends them to all its processes, and it is the parent that stops us. */
    readonly owned?: boolean
  }
): void => {
  const fiber = Effect.runFork(command)
  let askedMs: number | undefined
  const stop = (): void => {
    const nowMs = systemTimers.nowMs()
    if (askedMs === undefined) fiber.interruptUnsafe()
    else if (nowMs - askedMs >= ECHO_MS) process.exit(CUT_SHORT)
    askedMs ??= nowMs
  }
  if (options.orderly) {
    for (const signal of ["SIGINT", "SIGHUP"]) process.on(signal, options.owned === true ? () => {} : stop)
    process.on("SIGTERM", stop)
    // Nobody reads the log of a terminal that is closed.
    process.stderr.on("error", () => undefined)
  }
  // The process would end as if all were well.
  process.on("beforeExit", () => {
    process.stderr.write("This is a defect of Parallax, please report it.\nThe command waits for nothing.\n")
    process.exit(1)
  })
  fiber.addObserver((exit) => {
    process.exit(report(exit, options.endless))
  })
}

const report = (exit: Exit.Exit<void, CliFailure>, endless: boolean): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return endless ? 0 : CUT_SHORT
  const error = Cause.squash(exit.cause)
  const expected = error instanceof CliFailure
  const message = expected
    ? error.message
    : `This is a defect of Parallax, please report it.\n${Cause.pretty(exit.cause)}`
  if (message !== "") process.stderr.write(`${message}\n`)
  return expected ? error.exitCode : 1
}
