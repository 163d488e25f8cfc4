import * as Effect from "effect/Effect"
import { Argument, Command } from "effect/cli"
import { printConfig, printOrigins } from "../../domain/config/print.ts"
import { configurationReference } from "../../domain/config/reference.ts"
import { makeSchema } from "../../domain/config/schema.ts"
import { IDENTITY_RULE, identityPattern } from "../../domain/identity.ts"
import { catalogue } from "../catalogue.ts"
import { nodeCredential } from "../../protocol/credentials.ts"
import { idleOptions } from "../idleOptions.ts"
import { loadConfig } from "../loadConfig.ts"
import { secretsOf } from "../secretsOf.ts"
import { misused } from "./CliFailure.ts"
import { configFlag, insecureFlag, switchFlag } from "./flags.ts"
import { Shell, write } from "./Shell.ts"

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
    const { config, entries, file: read } = yield* loadConfig({ file, insecure })
    const { err } = yield* Shell
    for (const { message } of idleOptions(config, entries)) err(`${message}\n`)
    yield* write(`The configuration is valid; ${read === undefined ? "no file was" : `${read} was`} read.\n`)
  })
).pipe(
  Command.withDescription(
    "Say everything that is wrong with the configuration, and exit with 2 if something is; and what has no effect in it."
  )
)

const key = Command.make(
  "key",
  {
    config: configFlag,
    role: Argument.Literals("role", ["client", "worker", "admin"]).pipe(
      Argument.withDescription("What it may come in as.")
    ),
    identity: Argument.String("name").pipe(Argument.withDescription("The name it must give."))
  },
  Effect.fnUntraced(function* ({ config: file, identity, role }) {
    if (!identityPattern.test(identity)) return yield* misused(`The name must be ${IDENTITY_RULE}.`)
    const { config } = yield* loadConfig({ file, insecure: true })
    const [secret] = yield* secretsOf(config, role)
    if (secret === undefined)
      return yield* misused(`auth.${role}s is empty: every ${role} is let in without a credential.`)
    yield* write(`${nodeCredential(secret, { role, identity })}\n`)
  })
).pipe(
  Command.withDescription(
    "Write a credential for one peer, made from the first credential of its role: it lets this name in and no other."
  )
)

const docs = Command.make("docs", {}, () => write(configurationReference(makeSchema(catalogue)))).pipe(
  Command.withDescription("Write the reference of all options as Markdown.")
)

/** `parallax config`: which configuration is in force, and what there is to configure. */
export const configCommand = Command.make("config").pipe(
  Command.withDescription("Show, check and explain the configuration."),
  Command.withSubcommands([print, check, key, docs])
)
