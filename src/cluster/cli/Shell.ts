import * as Context from "effect/Context"

/** What a command sees of the process it runs in: tests bring their own. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Working directory, absolute. */
  readonly directory: string
  /** Data, for other programs and for people. Resolves when it is on its way. */
  readonly out: (text: string) => Promise<void>
  /** Everything else. */
  readonly err: (text: string) => void
  /** Width of the terminal that `err` writes to; undefined when it is none. */
  readonly errColumns: number | undefined
}

export class Shell extends Context.Service<Shell, Surroundings>()("parallax/cluster/cli/Shell") {}

/** The process itself. A reader of our output that went away is nobody's failure. */
export const processShell = (): Surroundings => ({
  environment: process.env,
  directory: process.cwd(),
  out: (text) =>
    Bun.write(Bun.stdout, text).then(
      () => undefined,
      () => undefined
    ),
  err: (text) => void process.stderr.write(text),
  errColumns: process.stderr.isTTY ? process.stderr.columns : undefined
})
