import { keysOf, setAt } from "./assign.ts"
import type { Entry } from "./resolve.ts"

/** An entry's value with every credential replaced. */
const shown = ({ leaf, value }: Entry): unknown =>
  leaf.kind === "secrets" && Array.isArray(value) ? value.map(() => "<redacted>") : value

/** The configuration in force as JSON that a config file may hold, credentials aside. */
export const printConfig = (entries: ReadonlyArray<Entry>): string => {
  const root = {}
  for (const entry of entries) setAt(root, keysOf(entry.path), shown(entry), true)
  return JSON.stringify(root, undefined, 2)
}

/** One line per option: path, value, and where the value comes from. */
export const printOrigins = (entries: ReadonlyArray<Entry>): string => {
  const rows = entries.map((entry) => [
    `${entry.path} = ${JSON.stringify(shown(entry)) ?? `(${entry.leaf.fallbackText})`}`,
    entry.origin
  ])
  const width = Math.max(...rows.map(([left]) => left!.length))
  return rows.map(([left, origin]) => `${left!.padEnd(width)}  # ${origin}`).join("\n")
}
