import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { isatty } from "node:tty"
import { type CliFailure, failed, misused } from "./CliFailure.ts"

/** What a command sees of the process it runs in: tests bring their own. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Working directory, absolute. */
  readonly directory: string
  /** All of standard input: the same bytes each time. Rejects with a `CliFailure` when a person sits there. */
  readonly input: () => Promise<Uint8Array<ArrayBuffer>>
  /**
   * Data, for other programs and for people. Resolves to true when it is on its way, to false when its reader went away; rejects with a
   * `CliFailure` when it cannot be written.
   */
  readonly out: (text: string) => Promise<boolean>
  /** Everything else. */
  readonly err: (text: string) => void
  /** Width of the terminal that `err` writes to; undefined when it is none. */
  readonly errColumns: number | undefined
}

export class Shell extends Context.Service<Shell, Surroundings>()("parallax/cluster/cli/Shell") {}

/** Writes data to standard output. A reader that went away is nobody's failure. */
export const write = (text: string): Effect.Effect<void, CliFailure, Shell> =>
  Shell.use(({ out }) =>
    Effect.asVoid(Effect.tryPromise({ try: () => out(text), catch: (cause) => cause as CliFailure }))
  )

/** Of a terminal that says 0, as one does that nobody has told its size. */
const COLUMNS_DEFAULT = 80

/** Descriptor of standard input. */
const STDIN = 0

/** Whoever gave no input would wait for a program that waits for them. */
const readInput = async (): Promise<Uint8Array<ArrayBuffer>> => {
  if (isatty(STDIN))
    throw misused(
      "Standard input is a terminal. Give the path of a file, or send one: zcat trace.csv.gz | bun run trace summary -"
    )
  return Bun.stdin.bytes()
}

/** The process itself. */
export const processShell = (): Surroundings => {
  let input: Promise<Uint8Array<ArrayBuffer>> | undefined
  return {
    environment: process.env,
    directory: process.cwd(),
    input: () => (input ??= readInput()),
    out: async (text) => {
      try {
        await Bun.write(Bun.stdout, text)
        return true
      } catch (cause) {
        const { code, message } = cause as NodeJS.ErrnoException
        if (code === "EPIPE") return false
        throw failed(`Standard output cannot be written: ${message}`)
      }
    },
    err: (text) => void process.stderr.write(text),
    errColumns: process.stderr.isTTY ? process.stderr.columns || COLUMNS_DEFAULT : undefined
  }
}
