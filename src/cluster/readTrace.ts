import * as Effect from "effect/Effect"
import { basename, resolve } from "node:path"
import type { Trace } from "../domain/Trace.ts"
import { parseTrace } from "../domain/traces/parseTrace.ts"
import { PROBLEMS_MAX } from "../domain/traces/TraceLine.ts"
import { type CliFailure, failed, misused } from "./cli/CliFailure.ts"
import { counted } from "../structures/counted.ts"
import { messageOf } from "../structures/messageOf.ts"
import { Shell } from "./cli/Shell.ts"

/**
 * Reads a trace, at most its first `limit` requests. `name` is relative to `directory`; whether the file is compressed it says itself. A file
 * that breaks its format is a failure that names line and field, unless such lines are to be skipped: then it is said how many they were.
 */
export const readTrace = Effect.fnUntraced(function* (
  name: string,
  { limit, skipBad = false }: { readonly limit: number; readonly skipBad?: boolean }
): Effect.fn.Return<Trace, CliFailure, Shell> {
  if (name === "") return yield* misused("The name of a trace is empty. Give the path of a file.")
  const { directory, err } = yield* Shell
  const unreadable = (cause: unknown) => misused(`${name} cannot be read: ${messageOf(cause)}`)
  const bytes = yield* Effect.tryPromise({
    try: () => Bun.file(resolve(directory, name)).bytes(),
    catch: unreadable
  })
  const plain = isGzip(bytes)
    ? yield* Effect.try({
        try: () => Bun.gunzipSync(bytes),
        catch: () => misused(`${name} is compressed, and damaged or cut short. Copy or compress it again.`)
      })
    : bytes
  const text = yield* Effect.try({ try: () => new TextDecoder().decode(plain), catch: unreadable })
  const parsed = parseTrace(text, { limit, name: basename(name).split(".")[0]!, skipBad })
  if (!("trace" in parsed)) {
    const more =
      parsed.length < PROBLEMS_MAX ? [] : [`Problems after the first ${PROBLEMS_MAX} are not shown.`]
    return yield* failed([...parsed.map((problem) => `${name}:${problem}`), ...more].join("\n"))
  }
  if (parsed.skipped > 0)
    err(`${name}: skipped ${counted(parsed.skipped, "line")} that did not keep to the format.\n`)
  return parsed.trace
})

/** Source: RFC 1952, section 2.3.1. */
const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b
