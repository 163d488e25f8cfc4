import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { aligned } from "../src/structures/aligned.ts"

/** One flag, and what it stands for where it is left out. */
interface Flag<A> {
  /** What it says, with the unit; empty for what only processes of the bench tell each other. */
  readonly says: string
  /** What its value is called; empty where it takes none. */
  readonly takes: string
  readonly fallback: A
  /** What holds of its value. */
  readonly rule: string
  /** The value, or undefined where the text breaks the rule. */
  readonly read: (text: string | undefined) => A | undefined
}
type Flags = Readonly<Record<string, Flag<unknown>>>
type Values<F extends Flags> = { readonly [Name in keyof F]: F[Name]["fallback"] }

/** Given or not. */
export const onOff = (says: string): Flag<boolean> => ({
  says,
  takes: "",
  fallback: false,
  rule: "takes no value",
  read: (text) => (text === undefined ? true : undefined)
})

/** What many benches can do. */
export const json = onOff("print one document for programs")

/** A number, above 0. */
export const seconds = <D extends number | undefined>(says: string, fallback: D): Flag<number | D> => ({
  says,
  takes: "SECONDS",
  fallback,
  rule: "must be a number above 0",
  read: (text) => (Number(text) > 0 && Number.isFinite(Number(text)) ? Number(text) : undefined)
})

/** A whole number, `least` at least. */
export const whole = <D extends number | undefined>(
  says: string,
  fallback: D,
  least = 1
): Flag<number | D> => ({
  says,
  takes: "N",
  fallback,
  rule: `must be a whole number, at least ${least}`,
  read: (text) => (/^\d+$/.test(text ?? "") && Number(text) >= least ? Number(text) : undefined)
})

/** Any text but none. */
export const text = <D extends string | undefined>(
  says: string,
  takes: string,
  fallback: D
): Flag<string | D> => ({
  says,
  takes,
  fallback,
  rule: "must not be empty",
  read: (text) => text || undefined
})

/** What a process of the bench tells one that it starts. */
export const inner = text("", "TEXT", undefined)

/** One of these names. */
export const oneOf = <N extends string>(says: string, known: ReadonlyArray<N>, fallback: N): Flag<N> => ({
  says,
  takes: "NAME",
  fallback,
  rule: `must be one of ${known.join(", ")}`,
  read: (text) => known.find((name) => name === text)
})

/** Some of these names, by default all. */
export const someOf = <N extends string>(
  says: string,
  known: ReadonlyArray<N>,
  fallback = known
): Flag<ReadonlyArray<N>> => ({
  says,
  takes: "NAME,…",
  fallback,
  rule: `must be some of ${known.join(",")}`,
  read: (text = "") => {
    const names = text.split(",").map((name) => known.find((each) => each === name))
    return names.includes(undefined) ? undefined : (names as ReadonlyArray<N>)
  }
})

/** The value of every flag; or, in a line, what is wrong with the first that is. */
export const parseFlags = <F extends Flags>(flags: F, args: ReadonlyArray<string>): Values<F> | string => {
  const known = new Map(Object.entries(flags))
  const values = new Map([...known].map(([name, { fallback }]) => [name, fallback]))
  const options = [...known].map(([name, { takes }]) => [name, { type: takes === "" ? "boolean" : "string" }])
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(options),
    strict: false,
    tokens: true
  })
  for (const token of tokens) {
    if (token.kind !== "option") return `${args[token.index]} is no flag. See --help.`
    const { name, rawName, value: given } = token
    const flag = known.get(name)
    if (flag === undefined) return `${rawName} is no flag of this program. See --help.`
    const value = flag.read(given)
    if (value === undefined)
      return `${rawName} ${flag.rule}${given === undefined ? "" : `, and not ${JSON.stringify(given)}`}. See --help.`
    values.set(name, value)
  }
  return Object.fromEntries(values) as Values<F>
}

/** What `--help` prints: the comment that the program begins with, and its flags. */
export const usage = (source: string, flags: Flags): string => {
  const about = /^\/\*\n(.*?)\n \*\//s.exec(source)?.[1]?.replaceAll(/^ \* ?/gm, "")
  const rows = Object.entries(flags).flatMap(([name, { fallback, says, takes }]) => {
    const isTold = typeof fallback === "number" || typeof fallback === "string"
    return says === ""
      ? []
      : [[`--${name} ${takes}`.trim(), isTold ? `${says}, by default ${fallback}` : says]]
  })
  return [about, "", ...aligned([...rows, ["--help", "print this"]], "  ", 2), ""].join("\n")
}

/** The values of this program's flags. Ends it after `--help`, and with 2 where one is wrong. */
export const readFlags = <F extends Flags>(flags: F): Values<F> => {
  const args = process.argv.slice(2)
  const values = args.includes("--help") ? undefined : parseFlags(flags, args)
  if (typeof values === "object") return values
  if (values === undefined) process.stdout.write(usage(readFileSync(Bun.main, "utf8"), flags))
  else process.stderr.write(`${values}\n`)
  process.exit(values === undefined ? 0 : 2)
}
