import * as Effect from "effect/Effect"
import { constants } from "node:fs"
import { access, stat } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import { type CliFailure, misused } from "./cli/CliFailure.ts"
import { messageOf } from "../structures/messageOf.ts"
import { Shell } from "./cli/Shell.ts"

/**
 * Finds out whether a file can be written, before there is something to write. `name` is relative to `directory`; `said` is what messages
 * call it. Nothing is written yet.
 */
export const checkWritable = Effect.fnUntraced(function* (
  name: string,
  said: string = name
): Effect.fn.Return<void, CliFailure, Shell> {
  const { directory } = yield* Shell
  const path = resolve(directory, name)
  yield* Effect.tryPromise({
    try: async () => {
      if (name === "") throw new Error("its name is empty")
      if (name === "-")
        throw new Error("name /dev/stdout for standard output, or ./- for a file of this name")
      const there = await stat(path).catch(() => undefined)
      if (there?.isDirectory() === true) throw new Error("it is a directory")
      // What is not there yet must have a place: a directory, even when its name ends in a slash.
      await access(there === undefined ? `${dirname(path)}/` : path, constants.W_OK)
    },
    catch: (cause) => misused(`${said} cannot be written: ${messageOf(cause)}`)
  })
})
