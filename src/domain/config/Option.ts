import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { formatDuration, parseDuration } from "./duration.ts"
import { suggest } from "./suggest.ts"

/** What a reader must know before changing an option. Stated here once: messages, `config print` and docs/configuration.md use it. */
export interface Doc {
  readonly summary: string
  /** What gets better or worse when the value changes. */
  readonly consequence: string
  readonly unit?: string | undefined
}

export type Kind = "integer" | "number" | "boolean" | "text" | "choice" | "duration" | "secrets"

/**
 * One option. `In` is what the file holds, `Out` what the code gets, under the option's name followed by `Suffix`
 * (a duration `heartbeat: "250 millis"` becomes `heartbeatMs: 250`).
 */
export interface Leaf<out In, out Out, out Suffix extends string = ""> extends Doc {
  readonly node: "leaf"
  readonly kind: Kind
  readonly suffix: Suffix
  /** What is accepted, to be read after "must be". */
  readonly rule: string
  /** As it stands in the file; `undefined` leaves the option out. */
  readonly fallback: In
  /** How the reference words the default, where the value does not say it. */
  readonly fallbackText?: string
  /** `undefined` when the value breaks the rule. */
  readonly decode: (value: unknown) => Out | undefined
  /** What to do about a value that breaks the rule. */
  readonly fix: (value: unknown) => string
}

export interface Fields {
  readonly [key: string]: Node
}
export interface Section<out F extends Fields> {
  readonly node: "section"
  readonly summary: string
  readonly fields: F
}
/** An ordered list of equal nodes. A layer that gives an array replaces the list; one that gives `{ "0": … }` changes single entries. */
export interface List<out N extends Node> {
  readonly node: "list"
  readonly summary: string
  readonly item: N
  /** 1 where nothing is said. */
  readonly countMin?: number
  readonly countMax: number
}
/** What stands for a list without entries where options are printed. */
export const emptyList: Leaf<unknown, unknown> = {
  node: "leaf",
  kind: "text",
  suffix: "",
  summary: "",
  consequence: "",
  rule: "a list",
  fallback: [],
  decode: (value) => value,
  fix: () => ""
}
/** One of several sections, chosen by the word under `tag`. */
export interface Variant<
  out Tag extends string,
  out Cases extends Readonly<Record<string, Section<Fields>>>
> {
  readonly node: "variant"
  readonly tag: Tag
  /** The option that holds the word. */
  readonly name: Leaf<unknown, unknown, string>
  readonly cases: Cases
}
export type Node =
  | Leaf<unknown, unknown, string>
  | Section<Fields>
  | List<Node>
  | Variant<string, Readonly<Record<string, Section<Fields>>>>

/** What the file may hold for a node: every option may be left out. */
export type Input<N> =
  N extends Leaf<infer In, unknown, string>
    ? In
    : N extends Section<infer F>
      ? { readonly [K in keyof F]?: Input<F[K]> | undefined }
      : N extends List<infer I>
        ? ReadonlyArray<Input<I>>
        : N extends Variant<infer Tag, infer Cases>
          ? { [C in keyof Cases]: { readonly [T in Tag]?: C } & Input<Cases[C]> }[keyof Cases]
          : never

/** What the code gets for a node: every option decided. */
export type Output<N> =
  N extends Leaf<unknown, infer Out, string>
    ? Out
    : N extends Section<infer F>
      ? {
          readonly [
            K in keyof F as F[K] extends Leaf<unknown, unknown, infer S> ? `${K & string}${S}` : K
          ]: Output<F[K]>
        }
      : N extends List<infer I>
        ? ReadonlyArray<Output<I>>
        : N extends Variant<infer Tag, infer Cases>
          ? { [C in keyof Cases]: { readonly [T in Tag]: C } & Output<Cases[C]> }[keyof Cases]
          : never

const decodeWith =
  <A>(schema: Schema.Codec<A, unknown>) =>
  (value: unknown): A | undefined => {
    const result = Schema.decodeUnknownResult(schema)(value)
    return Result.isSuccess(result) ? result.success : undefined
  }

export const section = <const F extends Fields>(summary: string, fields: F): Section<F> => ({
  node: "section",
  summary,
  fields
})

interface Bounds {
  /** Both included; a bound that is left out does not exist. */
  readonly minimum?: number | undefined
  readonly maximum?: number | undefined
}
const within = ({ minimum = -Infinity, maximum = Infinity }: Bounds, value: number): boolean =>
  value >= minimum && value <= maximum
const range = ({ minimum, maximum }: Bounds, show: (bound: number) => string): string => {
  if (minimum !== undefined && maximum !== undefined) return ` from ${show(minimum)} to ${show(maximum)}`
  if (minimum !== undefined) return ` of at least ${show(minimum)}`
  return maximum === undefined ? "" : ` of at most ${show(maximum)}`
}

const numeric =
  (kind: "integer" | "number", name: string, schema: Schema.Codec<number>) =>
  (options: { readonly fallback: number } & Bounds & Doc): Leaf<number, number> => ({
    ...options,
    node: "leaf",
    kind,
    suffix: "",
    rule: name + range(options, String),
    decode: decodeWith(schema.check(Schema.makeFilter((value: number) => within(options, value)))),
    fix: () => `Use for example ${options.fallback}.`
  })

/** A whole number within bounds. */
export const integer = numeric("integer", "a whole number", Schema.Int)
/** A number within bounds. */
export const number = numeric("number", "a number", Schema.Finite)

export const boolean = (options: { readonly fallback: boolean } & Doc): Leaf<boolean, boolean> => ({
  ...options,
  node: "leaf",
  kind: "boolean",
  suffix: "",
  rule: "true or false",
  decode: decodeWith(Schema.Boolean),
  fix: (value) => (value === "true" || value === "false" ? "Write it without quotes." : "Use true or false.")
})

/** Text that matches a pattern; `rule` says which in words. */
export const text = (
  options: { readonly fallback: string; readonly pattern: RegExp; readonly rule: string } & Doc
): Leaf<string, string> => ({
  ...options,
  node: "leaf",
  kind: "text",
  suffix: "",
  decode: decodeWith(Schema.String.check(Schema.isPattern(options.pattern))),
  fix: () => `Use for example ${JSON.stringify(options.fallback)}.`
})

/** One of a few words. */
export const choice = <const Word extends string>(
  options: { readonly fallback: Word; readonly words: ReadonlyArray<Word> } & Doc
): Leaf<Word, Word> => ({
  ...options,
  node: "leaf",
  kind: "choice",
  suffix: "",
  rule: `one of ${options.words.join(", ")}`,
  decode: decodeWith(Schema.Literals(options.words)),
  fix: (value) => didYouMean(value, options.words) ?? `Use for example ${JSON.stringify(options.fallback)}.`
})

/** "Did you mean …?", or nothing when no known word is near. */
export const didYouMean = (value: unknown, words: Iterable<string>): string | undefined => {
  const word = typeof value === "string" ? suggest(value, words) : undefined
  return word === undefined ? undefined : `Did you mean ${JSON.stringify(word)}?`
}

/**
 * A length of time with its unit; the bounds are in ms.
 * `suffix` is "Ms" for options that code reads by name; policies read theirs under the plain name.
 */
export const duration = <Suffix extends "" | "Ms">(
  options: { readonly fallback: string } & Bounds & Doc,
  suffix: Suffix
): Leaf<string, number, Suffix> => ({
  ...options,
  node: "leaf",
  kind: "duration",
  suffix,
  rule: `a time with its unit${range(options, (ms) => `"${formatDuration(ms)}"`)}`,
  decode: (value) => {
    const ms = typeof value === "string" ? parseDuration(value) : undefined
    return ms !== undefined && within(options, ms) ? ms : undefined
  },
  fix: (value) => {
    const count = typeof value === "string" && value.trim() !== "" ? Number(value) : value
    return typeof count === "number" && count >= 0 && count < Number.MAX_SAFE_INTEGER
      ? `Say which unit: "${count} millis" or "${count} seconds".`
      : `Use for example "${options.fallback}".`
  }
})

/** Credentials: at least 16 visible characters each. Their text appears in no message, print or log. */
export const secrets = (options: Doc): Leaf<ReadonlyArray<string>, ReadonlyArray<Redacted.Redacted>> => ({
  ...options,
  node: "leaf",
  kind: "secrets",
  suffix: "",
  rule: "a list of different texts of 16 to 512 visible ASCII characters without commas",
  fallback: [],
  decode: (value) => readSecrets(value)?.map((secret) => Redacted.make(secret)),
  fix: () => "Make one with: openssl rand -hex 24"
})
const readSecrets = decodeWith(
  Schema.Array(Schema.String.check(Schema.isPattern(/^[\x21-\x2b\x2d-\x7e]{16,512}$/))).check(
    Schema.isUnique()
  )
)

/** An option that may be absent; `fallbackText` says what holds then. */
export const optional = <In, Out, Suffix extends string>(
  leaf: Leaf<In, Out, Suffix>,
  fallbackText: string
): Leaf<In | undefined, Out | undefined, Suffix> => ({ ...leaf, fallback: undefined, fallbackText })
