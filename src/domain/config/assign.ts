import type { Layer } from "./resolve.ts"

/** One option set from outside the file. `keys` lead to it; a list is entered by a number. */
export interface Assignment {
  readonly keys: ReadonlyArray<string>
  readonly value: unknown
  readonly origin: string
}

/** The path as messages show it: `models[0].engine.preset`. */
export const pathOf = (keys: ReadonlyArray<string>): string =>
  keys.reduce(
    (path, key) => (/^\d+$/.test(key) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`),
    ""
  )

/** Back from a path to the keys. */
export const keysOf = (path: string): ReadonlyArray<string> =>
  path.split(/[.[\]]+/).filter((key) => key !== "")

/** Sets a value deep inside `root`, making what is missing on the way: groups, or lists where `lists` is true and a number follows. */
export const setAt = (
  root: Record<string, unknown>,
  keys: ReadonlyArray<string>,
  value: unknown,
  lists: boolean
): void => {
  let at = root
  for (const [depth, key] of keys.slice(0, -1).entries()) {
    const made = lists && /^\d+$/.test(keys[depth + 1]!) ? [] : {}
    // What stands here was made by this function: a path is a group for every option below it.
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion
    at = (at[key] ??= made) as Record<string, unknown>
  }
  at[keys.at(-1)!] = value
}

/** A layer that sets just these options. Of two assignments to one option the later one counts. */
export const assign = (assignments: ReadonlyArray<Assignment>): Layer => {
  const values = {}
  const origins = new Map<string, string>()
  for (const { keys, value, origin } of assignments) {
    setAt(values, keys, value, false)
    for (const depth of keys.keys()) origins.set(pathOf(keys.slice(0, depth + 1)), origin)
  }
  return { values, origin: (path) => origins.get(path) ?? "" }
}
