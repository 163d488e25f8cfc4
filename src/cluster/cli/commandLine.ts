import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import { CliConfig, CliError, CliOutput, Command, GlobalFlag } from "effect/cli"
import { ChildProcessSpawner } from "effect/process"
import { logging } from "../../observability/Logging.ts"
import manifest from "../../../package.json" with { type: "json" }
import { CliFailure } from "./CliFailure.ts"
import { clientCommand } from "./clientCommand.ts"
import { balancerCommand, clusterCommand } from "./clusterCommand.ts"
import { configCommand } from "./configCommand.ts"
import { drainCommand } from "./drainCommand.ts"
import { explainCommand } from "./explainCommand.ts"
import { policiesCommand } from "./policiesCommand.ts"
import { replayCommand } from "./replayCommand.ts"
import { processShell, Shell, type Surroundings, write } from "./Shell.ts"
import { simulateCommand } from "./simulateCommand.ts"
import { statusCommand } from "./statusCommand.ts"
import { traceCommand } from "./traceCommand.ts"
import { workerCommand } from "./workerCommand.ts"

const commands = [
  clusterCommand,
  balancerCommand,
  workerCommand,
  clientCommand,
  statusCommand,
  drainCommand,
  explainCommand,
  replayCommand,
  simulateCommand,
  traceCommand,
  policiesCommand,
  configCommand
] as const

const parallax = Command.make("parallax").pipe(
  Command.withDescription(
    "Places LLM inference requests on workers, and shows why each one went where it went."
  ),
  Command.withSubcommands(commands)
)

/** Help that was asked for is data; what was typed wrong gets one line each on standard error, and where to read more. */
const presenter: CliOutput.Presenter = {
  present: Effect.fnUntraced(function* (event) {
    const formatter = yield* CliOutput.Formatter
    switch (event._tag) {
      case "Help":
        return yield* (event.reason === "Requested" ? Console.log : Console.error)(
          formatter.formatHelpDoc(event.helpDoc)
        )
      case "Version":
        return yield* Console.log(`${event.name} ${event.version}`)
      case "InvalidInvocation": {
        for (const { message } of withoutEchoes(event.errors))
          yield* Console.error(message.replaceAll(/\s*\n\s*/g, " "))
        const command = event.commandPath.slice(1).join(" ")
        const names = commands.map(({ name }) => name).join(", ")
        return yield* Console.error(command === "" ? `Commands: ${names}` : `Try: bun run ${command} --help`)
      }
    }
  })
}

/** What stands behind a flag that nobody knows may be its value: it is no subcommand before the flag is right. */
const withoutEchoes = (errors: ReadonlyArray<CliError.CliError>): ReadonlyArray<CliError.CliError> =>
  errors.filter(
    ({ _tag }, index) => _tag !== "UnknownSubcommand" || errors[index - 1]?._tag !== "UnrecognizedOption"
  )

/** The parts of a platform that the command line asks for and does not use: it reads no file, prompts nobody and starts no process. */
const unused = Effect.die("the command line does not use this")
const platform = Layer.mergeAll(
  FileSystem.layerNoop({}),
  Path.layer,
  Stdio.layerTest({}),
  Layer.succeed(
    Terminal.Terminal,
    Terminal.make({
      columns: Effect.succeed(80),
      rows: Effect.succeed(24),
      size: unused,
      readInput: unused,
      readLine: unused,
      display: () => Effect.void
    })
  ),
  Layer.succeed(
    ChildProcessSpawner.ChildProcessSpawner,
    ChildProcessSpawner.make(() => unused)
  ),
  // Standard output is for data, whatever a command has to say beside it.
  logging({ level: "warn", format: "text" }),
  CliOutput.layerPresenter(presenter),
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
)

/** Runs one command. Whatever was wrong with the command line itself has been said when this fails with an empty message. */
export const commandLine = (
  args: ReadonlyArray<string>,
  shell: Surroundings = processShell()
): Effect.Effect<void, CliFailure> =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const console = collecting(yield* Console.Console, lines)
    yield* Command.runWith(parallax, { version: manifest.version })(args).pipe(
      Effect.mapError((error) =>
        CliError.isCliError(error) ? new CliFailure({ message: "", exitCode: 2 }) : error
      ),
      Effect.provideService(Console.Console, console)
    )
    if (lines.length > 0) yield* write(`${lines.join("\n")}\n`)
  }).pipe(Effect.provide(platform), Effect.provideService(Shell, shell))

/** Help, the version and completions are logged where no failure is heard of: they are kept here, to be written as any data is. */
const collecting = (console: Console.Console, lines: Array<string>): Console.Console => {
  const log = (line: string): void => void lines.push(line)
  return Object.assign(Object.create(console), { log })
}
