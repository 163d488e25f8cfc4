import * as Effect from "effect/Effect"
import { existsSync, readFileSync, statSync } from "node:fs"
import { extname, resolve as absolute } from "node:path"
import type { Config } from "../domain/Config.ts"
import { assign, type Assignment } from "../domain/config/assign.ts"
import { FILE_VARIABLE, readEnvironment } from "../domain/config/environment.ts"
import { everyOption } from "../domain/config/everyOption.ts"
import { resolveConfig } from "../domain/config/resolveConfig.ts"
import type { Entry, Layer } from "../domain/config/resolve.ts"
import { makeSchema } from "../domain/config/schema.ts"
import { catalogue } from "./catalogue.ts"
import { type CliFailure, misused } from "./cli/CliFailure.ts"
import { messageOf } from "../structures/messageOf.ts"
import { isRecord } from "../structures/record.ts"
import { Shell } from "./cli/Shell.ts"

const FILE_DEFAULT = "cluster.config.ts"
/** How long a file may take to load. */
const LOAD_MS = 10_000
/** Longest file: many times what all options can hold. */
const FILE_MIB_MAX = 16

export interface ConfigSources {
  /** As the `--config` flag names it. */
  readonly file?: string | undefined
  readonly flags?: ReadonlyArray<Assignment>
  /** Whether `--insecure` was typed. */
  readonly insecure?: boolean
}

export interface LoadedConfig {
  readonly config: Config
  readonly entries: ReadonlyArray<Entry>
  /** The file that was read, as it was named. */
  readonly file: string | undefined
}

/**
 * The configuration in force: defaults, file, environment, flags. A file that is named must exist; `cluster.config.ts` need not.
 * Fails with everything that is wrong, one message a line.
 */
export const loadConfig = Effect.fnUntraced(function* (
  sources: ConfigSources
): Effect.fn.Return<LoadedConfig, CliFailure, Shell> {
  const { environment } = yield* Shell
  const file = yield* readFile(
    sources.file ?? environment[FILE_VARIABLE],
    sources.file === undefined && environment[FILE_VARIABLE] !== undefined ? FILE_VARIABLE : "--config"
  )
  const variables = readEnvironment(makeSchema(catalogue), environment)
  const layers = [...(file === undefined ? [] : [file]), variables.layer, assign(sources.flags ?? [])]
  const resolved = resolveConfig(catalogue, layers, sources.insecure === true)
  const problems = [...variables.problems, ...(resolved._tag === "Invalid" ? resolved.problems : [])]
  if (resolved._tag === "Valid" && problems.length === 0) return { ...resolved, file: file?.name }
  return yield* misused(problems.map(({ message }) => message).join("\n"))
})

/** The layer of a file, which `source` names; none when no file was asked for and there is none. */
const readFile = Effect.fnUntraced(function* (
  asked: string | undefined,
  source: string
): Effect.fn.Return<(Layer & { readonly name: string }) | undefined, CliFailure, Shell> {
  const { directory, err } = yield* Shell
  if (asked === "") return yield* misused(`${source} is empty. Give it the path of a file, or leave it out.`)
  const name = asked ?? FILE_DEFAULT
  const path = absolute(directory, name)
  if (!existsSync(path)) {
    if (asked === undefined) return undefined
    return yield* misused(`${name} does not exist. Give ${source} the path of a file that does.`)
  }
  const stats = statSync(path)
  if (!stats.isFile()) {
    const what = stats.isDirectory() ? "a directory" : "a pipe or a device"
    return yield* misused(`${name} is ${what}. Give ${source} the path of a file.`)
  }
  if (stats.size > FILE_MIB_MAX * 2 ** 20)
    return yield* misused(
      `${name} is longer than ${FILE_MIB_MAX} MiB. Give ${source} the path of a configuration.`
    )
  const values = yield* Effect.tryPromise({
    try: async () => plain(await parse(path)),
    catch: (cause) => misused(`${name}${placeOf(cause)} cannot be read: ${messageOf(cause)}`)
  }).pipe(
    Effect.timeoutOrElse({
      duration: LOAD_MS,
      orElse: () =>
        misused(
          `${name} did not finish loading within ${LOAD_MS / 1000} seconds. It awaits something that does not come.`
        )
    }),
    toldIfItExits(name, err)
  )
  if (values === undefined)
    return yield* misused(`${name} exports no configuration. Write: export default defineConfig({ … })`)
  if (holdsSecretForOthers(path, values))
    return yield* misused(
      `${name} holds a secret and others may read it. Run chmod 600 ${name}, or set the variable of the option in its place, as PARALLAX_AUTH_CLIENTS.`
    )
  return { name, values, origin: () => name }
})

/** A file that ends the process while it is loaded must not pass for a command that has done its work. */
const toldIfItExits = (name: string, err: (text: string) => void) => {
  const told = (): void => {
    err(`${name} ended the process while it was loaded. Leave out what calls process.exit.\n`)
    // As of all that is wrong with a configuration.
    process.exitCode = 2
  }
  return <A, E>(loading: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.acquireUseRelease(
      Effect.sync(() => process.once("exit", told)),
      () => loading,
      () => Effect.sync(() => process.off("exit", told))
    )
}

const parse = async (path: string): Promise<unknown> => {
  switch (extname(path)) {
    case ".json":
      return JSON.parse(textOf(path))
    case ".yaml":
    case ".yml":
      return Bun.YAML.parse(textOf(path))
    default: {
      const module: unknown = await import(path)
      return isRecord(module) ? module["default"] : undefined
    }
  }
}

/** Without the mark that some editors write at the start of UTF-8. */
const textOf = (path: string): string => new TextDecoder().decode(readFileSync(path))

/** Where the syntax of the file is broken, as far as Bun says: line and column, to be read behind a name. */
const placeOf = (cause: unknown): string =>
  cause instanceof BuildMessage && cause.position !== null
    ? `:${cause.position.line}:${cause.position.column}`
    : ""

/** A copy, made once: a getter of the file that throws does so here. */
const plain = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(plain)
  if (!isRecord(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
}

/** Whether a secret stands in the file itself, and the file's mode lets others read it. */
const holdsSecretForOthers = (path: string, values: unknown): boolean => {
  if ((statSync(path).mode & 0o077) === 0) return false
  const text = readFileSync(path, "utf8")
  return [...everyOption(makeSchema(catalogue))]
    .filter(({ leaf }) => leaf.kind === "secrets")
    .flatMap((option) => valueAt(values, option.path.split(".")))
    .some((secret) => typeof secret === "string" && secret !== "" && isWritten(secret, text))
}

const valueAt = (values: unknown, path: ReadonlyArray<string>): unknown =>
  path.reduce((value, key) => (isRecord(value) ? value[key] : undefined), values)

/** Whether `text` holds a secret, as it is or as a quoted text spells it. */
const isWritten = (secret: string, text: string): boolean =>
  text.includes(secret) || text.includes(JSON.stringify(secret).slice(1, -1))
