import { Flag } from "effect/cli"
import { type Assignment, keysOf } from "../../domain/config/assign.ts"
import { valueOf } from "../../domain/config/environment.ts"
import { everyOption } from "../../domain/config/everyOption.ts"
import { makeSchema } from "../../domain/config/schema.ts"
import { catalogue } from "../catalogue.ts"
import { switchFlag } from "./flags.ts"

const leaves = new Map(
  [...everyOption(makeSchema(catalogue))].map(({ path, leaf }) => [path.replaceAll("[]", "[0]"), leaf])
)

/**
 * A flag that sets an option of the configuration. Its help is that of the option, and its value is checked with all others when the
 * configuration is loaded. Parses to the assignments it stands for: one, or none when it was not given.
 */
export const optionFlag = (name: string, path: string): Flag.Flag<ReadonlyArray<Assignment>> => {
  const leaf = leaves.get(path)!
  const origin = `--${name}`
  const fallback = leaf.fallbackText ?? JSON.stringify(leaf.fallback)
  const words = leaf.kind === "choice" ? ` Must be ${leaf.rule}.` : ""
  const help = `${leaf.summary}${words} Default: ${fallback}.`
  const set = (value: unknown): ReadonlyArray<Assignment> => [{ keys: keysOf(path), value, origin }]
  if (leaf.kind === "boolean")
    return switchFlag(name, help).pipe(Flag.map((given) => (given ? set(true) : [])))
  return Flag.String(name).pipe(
    Flag.withDescription(help),
    Flag.withMetavar(leaf.kind),
    Flag.map((text) => set(valueOf(leaf.kind, text))),
    Flag.withDefault<ReadonlyArray<Assignment>>([])
  )
}

/** Flags for every option of a model's engine: `engine.timeScale` is `--time-scale`, `engine.faults.slowFactor` is `--fault-slow-factor`. */
export const engineFlags = (): Record<string, Flag.Flag<ReadonlyArray<Assignment>>> => {
  const prefix = "models[0].engine."
  const paths = [...leaves.keys()].filter((path) => path.startsWith(prefix) && path !== `${prefix}kind`)
  return Object.fromEntries(
    paths.map((path) => [path, optionFlag(flagName(path.slice(prefix.length)), path)])
  )
}

const flagName = (path: string): string =>
  path
    .replace(/^faults\./, "fault-")
    .replaceAll(".", "-")
    .replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
