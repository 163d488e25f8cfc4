import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import type { Trace } from "../domain/Trace.ts"
import { traceWriters } from "../domain/traces/writeTrace.ts"
import { type CliFailure, failed } from "./cli/CliFailure.ts"
import { counted } from "../structures/counted.ts"
import { messageOf } from "../structures/messageOf.ts"
import { Shell } from "./cli/Shell.ts"

/** A format that traces are written in. */
export type WrittenFormat = keyof typeof traceWriters

/**
 * Writes a trace into a file, and says what the format has no place for. `name` is relative to `directory`; the file is compressed when
 * that ends in `.gz`, and replaces one that is there.
 */
export const writeTrace = Effect.fnUntraced(function* (
  name: string,
  format: WrittenFormat,
  trace: Trace
): Effect.fn.Return<void, CliFailure, Shell> {
  const { directory, err } = yield* Shell
  const { lines, losses } = traceWriters[format]
  const text = `${lines(trace).join("\n")}\n`
  yield* Effect.tryPromise({
    try: () => Bun.write(resolve(directory, name), name.endsWith(".gz") ? Bun.gzipSync(text) : text),
    catch: (cause) => failed(`${name} cannot be written: ${messageOf(cause)}`)
  })
  for (const loss of losses(trace)) err(`${name}: ${loss}.\n`)
  err(`${name}: ${counted(trace.requests.length, "request")} in the format ${format}.\n`)
})
