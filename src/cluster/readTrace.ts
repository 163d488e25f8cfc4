import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import { parseTrace, type Trace } from "../domain/Trace.ts"
import { type CliFailure, failed, misused } from "./cli/CliFailure.ts"

/**
 * Reads a trace, at most its first `limit` requests. `name` is relative to `directory`, and ends in `.gz` when the file is compressed. A file
 * that breaks the format is a failure that names line and field.
 */
export const readTrace = Effect.fnUntraced(function* (
  directory: string,
  name: string,
  limit: number
): Effect.fn.Return<Trace, CliFailure> {
  const text = yield* Effect.tryPromise({
    try: async () => {
      const bytes = await Bun.file(resolve(directory, name)).bytes()
      return new TextDecoder().decode(name.endsWith(".gz") ? Bun.gunzipSync(bytes) : bytes)
    },
    catch: (cause) =>
      misused(`${name} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
  })
  const trace = parseTrace(text, limit)
  if ("header" in trace) return trace
  return yield* failed(trace.map((problem) => `${name}:${problem}`).join("\n"))
})
