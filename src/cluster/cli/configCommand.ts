import * as Effect from "effect/Effect"
import { Command } from "effect/cli"
import { printConfig, printOrigins } from "../../domain/config/print.ts"
import { configurationReference } from "../../domain/config/reference.ts"
import { makeSchema } from "../../domain/config/schema.ts"
import { catalogue } from "../catalogue.ts"
import { loadConfig } from "../loadConfig.ts"
import { configFlag, insecureFlag, switchFlag } from "./flags.ts"
import { Shell } from "./Shell.ts"

const write = (text: string) => Shell.use(({ out }) => Effect.promise(() => out(text)))

const print = Command.make(
  "print",
  {
    config: configFlag,
    insecure: insecureFlag,
    origin: switchFlag("origin", "One line per option, with where its value comes from.")
  },
  Effect.fnUntraced(function* ({ config: file, insecure, origin }) {
    const { entries } = yield* loadConfig({ file, insecure })
    yield* write(`${origin ? printOrigins(entries) : printConfig(entries)}\n`)
  })
).pipe(
  Command.withDescription(
    "Show the configuration in force, without credentials: JSON that a configuration file may hold."
  )
)

const check = Command.make(
  "check",
  { config: configFlag, insecure: insecureFlag },
  Effect.fnUntraced(function* ({ config: file, insecure }) {
    yield* loadConfig({ file, insecure })
    yield* write("The configuration is valid.\n")
  })
).pipe(
  Command.withDescription(
    "Say everything that is wrong with the configuration; exits with 2 if something is."
  )
)

const docs = Command.make("docs", {}, () => write(configurationReference(makeSchema(catalogue)))).pipe(
  Command.withDescription("Write the reference of all options as Markdown.")
)

/** `parallax config`: which configuration is in force, and what there is to configure. */
export const configCommand = Command.make("config").pipe(
  Command.withDescription("Show, check and explain the configuration."),
  Command.withSubcommands([print, check, docs])
)
