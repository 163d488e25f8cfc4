import * as Effect from "effect/Effect"
import { basename, resolve } from "node:path"
import type { Trace } from "../domain/Trace.ts"
import { parseTrace } from "../domain/traces/parseTrace.ts"
import { type CliFailure, failed, misused } from "./cli/CliFailure.ts"
import { Shell } from "./cli/Shell.ts"

/**
 * Reads a trace, at most its first `limit` requests. `name` is relative to `directory`, and ends in `.gz` when the file is compressed. A file
 * that breaks its format is a failure that names line and field, unless such lines are to be skipped: then it is said how many they were.
 */
export const readTrace = Effect.fnUntraced(function* (
  name: string,
  { limit, skipBad = false }: { readonly limit: number; readonly skipBad?: boolean }
): Effect.fn.Return<Trace, CliFailure, Shell> {
  const { directory, err } = yield* Shell
  const text = yield* Effect.tryPromise({
    try: async () => {
      const bytes = await Bun.file(resolve(directory, name)).bytes()
      return new TextDecoder().decode(name.endsWith(".gz") ? Bun.gunzipSync(bytes) : bytes)
    },
    catch: (cause) =>
      misused(`${name} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
  })
  const parsed = parseTrace(text, { limit, name: basename(name).split(".")[0]!, skipBad })
  if (!("trace" in parsed)) return yield* failed(parsed.map((problem) => `${name}:${problem}`).join("\n"))
  if (parsed.skipped > 0) err(`${name}: ${parsed.skipped} lines break the format and were skipped.\n`)
  return parsed.trace
})
