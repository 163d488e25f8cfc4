import * as Effect from "effect/Effect"
import { basename, resolve } from "node:path"
import type { Trace } from "../domain/Trace.ts"
import { parseTrace } from "../domain/traces/parseTrace.ts"
import { PROBLEMS_MAX } from "../domain/traces/TraceLine.ts"
import { CliFailure, failed, misused } from "./cli/CliFailure.ts"
import { counted } from "../structures/counted.ts"
import { messageOf } from "../structures/messageOf.ts"
import { Shell } from "./cli/Shell.ts"

/** The name of a trace that comes from standard input. */
export const STANDARD_INPUT = "-"

/** What people are told of a trace by. */
export const saidOf = (name: string): string => (name === STANDARD_INPUT ? "standard input" : name)

/** A trace as it came: the bytes of a file, whose name is relative to `directory`, or of standard input. */
export const rawTrace = Effect.fnUntraced(function* (
  name: string
): Effect.fn.Return<Uint8Array<ArrayBuffer>, CliFailure, Shell> {
  if (name === "") return yield* misused("The name of a trace is empty. Give the path of a file.")
  const { directory, input } = yield* Shell
  return yield* Effect.tryPromise({
    try: () => (name === STANDARD_INPUT ? input() : Bun.file(resolve(directory, name)).bytes()),
    catch: (cause) => (cause instanceof CliFailure ? cause : unreadable(name, cause))
  })
})

const unreadable = (name: string, cause: unknown): CliFailure =>
  misused(`${saidOf(name)} cannot be read: ${messageOf(cause)}`)

/**
 * Reads a trace, at most its first `limit` requests. `name` is as `rawTrace` has it; whether the trace is compressed it says itself. One
 * that breaks its format is a failure that names line and field, unless such lines are to be skipped: then it is said how many they were.
 */
export const readTrace = Effect.fnUntraced(function* (
  name: string,
  { limit, skipBad = false }: { readonly limit: number; readonly skipBad?: boolean }
): Effect.fn.Return<Trace, CliFailure, Shell> {
  const { err } = yield* Shell
  const bytes = yield* rawTrace(name)
  const said = saidOf(name)
  const plain = isGzip(bytes)
    ? yield* Effect.try({
        try: () => Bun.gunzipSync(bytes),
        catch: () => misused(`${said} is compressed, and damaged or cut short. Copy or compress it again.`)
      })
    : bytes
  if (plain.length > TEXT_BYTES_MAX)
    return yield* misused(
      `${said} has 2 GiB of text or more, which is too much at once. Give a part of it: head -n 1000000 FILE | … -`
    )
  const text = yield* Effect.try({
    try: () => new TextDecoder().decode(plain),
    catch: (cause) => unreadable(name, cause)
  })
  const parsed = parseTrace(text, { limit, name: nameIn(name), skipBad })
  if (!("trace" in parsed)) {
    const more =
      parsed.length < PROBLEMS_MAX ? [] : [`Problems after the first ${PROBLEMS_MAX} are not shown.`]
    return yield* failed([...parsed.map((problem) => `${said}:${problem}`), ...more].join("\n"))
  }
  if (parsed.skipped > 0)
    err(`${said}: skipped ${counted(parsed.skipped, "line")} that did not keep to the format.\n`)
  return parsed.trace
})

/** The longest that becomes a text. */
const TEXT_BYTES_MAX = 2 ** 31 - 1

/** What a trace is called that does not say. */
const nameIn = (name: string): string =>
  name === STANDARD_INPUT ? "standard-input" : basename(name).split(".")[0]!

/** Source: RFC 1952, section 2.3.1. */
const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b
