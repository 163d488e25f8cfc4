import {
  emptyList,
  type Fields,
  type Leaf,
  type List,
  type Node,
  type Output,
  type Section,
  type Variant
} from "./Option.ts"
import { isRecord } from "../../structures/record.ts"
import { suggest } from "./suggest.ts"

/** Values from one place. Layers are given lowest precedence first. */
export interface Layer {
  readonly values: unknown
  /** What a reader would look for: a file name, an environment variable, a flag. */
  readonly origin: (path: string) => string
}

/** One option after all layers are laid over each other: its value as a file would hold it, and who said so. */
export interface Entry {
  readonly path: string
  readonly leaf: Leaf<unknown, unknown, string>
  readonly value: unknown
  readonly origin: string
}

/** `message` begins with the path, ends with what to do, has at most 300 characters and holds no text from a value. */
export interface Problem {
  readonly path: string
  readonly message: string
}

export interface Resolution<N extends Node> {
  /** Only meaningful without problems. */
  readonly value: Output<N>
  readonly entries: ReadonlyArray<Entry>
  readonly problems: ReadonlyArray<Problem>
}

const MESSAGE_LENGTH_MAX = 300
/** A key nobody knows is shown, but a long one not in full. */
const KEY_LENGTH_MAX = 60

/** A problem with its message cut to length. */
export const problem = (path: string, rule: string, origin: string, fix: string): Problem => {
  const message = `${path} ${rule} (${origin}). ${fix}`
  return {
    path,
    message: message.length > MESSAGE_LENGTH_MAX ? `${message.slice(0, MESSAGE_LENGTH_MAX - 1)}…` : message
  }
}

/** The kind of a value, and the value itself only where it cannot be a secret. */
const describe = (value: unknown): string => {
  if (value === null || typeof value === "boolean") return String(value)
  if (typeof value === "number") return `the number ${value}`
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list"
  if (value === "") return "an empty text"
  if (isRecord(value)) return "a group of options"
  return typeof value === "string" ? "a text" : `a value of type ${typeof value}`
}

type Values = Readonly<Record<string, unknown>>
/** What changes single entries of a list that a layer below has given: `{ "0": … }`. */
const isPatch = (value: unknown): value is Values =>
  isRecord(value) && Object.keys(value).every((key) => /^(0|[1-9]\d{0,8})$/.test(key))
const below = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`)

interface Given {
  readonly value: unknown
  readonly layer: Layer
}
interface GivenRecord extends Given {
  readonly value: Values
}

class Resolver {
  readonly entries: Array<Entry> = []
  readonly problems: Array<Problem> = []

  node(node: Node, path: string, given: ReadonlyArray<Given>): unknown {
    switch (node.node) {
      case "leaf":
        return this.leaf(node, path, given)
      case "section":
        return this.section(node, path, this.records(path, given, "{ … }"), undefined)
      case "list":
        return this.list(node, path, given)
      case "variant":
        return this.variant(node, path, given)
    }
  }

  private leaf(leaf: Leaf<unknown, unknown, string>, path: string, given: ReadonlyArray<Given>): unknown {
    const last = given.at(-1)
    const value = last === undefined ? leaf.fallback : last.value
    const origin = last === undefined ? "default" : last.layer.origin(path)
    this.entries.push({ path, leaf, value, origin })
    if (value === undefined) return undefined
    const decoded = leaf.decode(value)
    if (decoded === undefined)
      this.report(path, `must be ${leaf.rule}, got ${describe(value)}`, origin, leaf.fix(value))
    return decoded
  }

  private section(
    section: Section<Fields>,
    path: string,
    given: ReadonlyArray<GivenRecord>,
    tag: string | undefined
  ): Values {
    const known = tag === undefined ? Object.keys(section.fields) : [tag, ...Object.keys(section.fields)]
    for (const { value, layer } of given)
      for (const key of Object.keys(value))
        if (!known.includes(key)) this.unknownKey(below(path, key), key, known, layer)
    const result: Record<string, unknown> = {}
    for (const [key, field] of Object.entries(section.fields)) {
      const value = this.node(field, below(path, key), inside(given, key))
      result[field.node === "leaf" ? key + field.suffix : key] = value
    }
    return result
  }

  private list(list: List<Node>, path: string, given: ReadonlyArray<Given>): unknown {
    const from = given.findLastIndex(({ value }) => Array.isArray(value))
    const base = given[from]
    const { countMin = 1, countMax } = list
    const items: ReadonlyArray<unknown> = Array.isArray(base?.value)
      ? base.value
      : Array.from({ length: countMin }, () => ({}))
    if (base !== undefined && (items.length < countMin || items.length > countMax))
      this.report(
        path,
        `must have ${countMin} to ${countMax} entries, got ${items.length}`,
        base.layer.origin(path),
        "Change the list."
      )
    if (items.length === 0)
      this.entries.push({ path, leaf: emptyList, value: [], origin: base?.layer.origin(path) ?? "default" })
    const patches = given.slice(from + 1).filter((one): one is GivenRecord => {
      if (isPatch(one.value)) return true
      this.report(
        path,
        `must be a list, got ${describe(one.value)}`,
        one.layer.origin(path),
        "Write [ … ], also around a single entry."
      )
      return false
    })
    for (const { value, layer } of patches)
      for (const key of Object.keys(value))
        if (Number(key) >= items.length) this.unknownEntry(`${path}[${key}]`, items.length, layer)
    return items.slice(0, countMax).map((item, index) => {
      const own = base === undefined ? [] : [{ value: item, layer: base.layer }]
      return this.node(list.item, `${path}[${index}]`, [...own, ...inside(patches, String(index))])
    })
  }

  private variant(
    variant: Variant<string, Readonly<Record<string, Section<Fields>>>>,
    path: string,
    given: ReadonlyArray<Given>
  ): unknown {
    const { tag, cases } = variant
    const groups = this.records(path, given, `{ ${tag}: "…" }`)
    // Of what is no group nothing more is said.
    if (groups.length < given.length) return undefined
    const name = this.leaf(variant.name, below(path, tag), inside(groups, tag))
    const chosen = typeof name === "string" ? cases[name] : undefined
    if (chosen === undefined) return undefined
    // A layer's options belong to the case that it names, or else the layers below it.
    let named = variant.name.fallback
    const own = groups.filter(({ value }) => (named = value[tag] ?? named) === name)
    return { [tag]: name, ...this.section(chosen, path, own, tag) }
  }

  private unknownEntry(path: string, count: number, layer: Layer): void {
    this.report(path, `does not exist, the list has ${count}`, layer.origin(path), "Add it in the file.")
  }

  private unknownKey(path: string, key: string, known: ReadonlyArray<string>, layer: Layer): void {
    const group = path.slice(0, path.length - key.length)
    const near = suggest(key, known)
    const fix = near === undefined ? `Known here: ${known.join(", ")}.` : `Did you mean ${group}${near}?`
    this.report(group + key.slice(0, KEY_LENGTH_MAX), "is not an option", layer.origin(path), fix)
  }

  private report(path: string, rule: string, origin: string, fix: string): void {
    this.problems.push(problem(path, rule, origin, fix))
  }

  private records(path: string, given: ReadonlyArray<Given>, shape: string): ReadonlyArray<GivenRecord> {
    return given.filter((one): one is GivenRecord => {
      if (isRecord(one.value)) return true
      const what = path === "" ? "the configuration" : path
      this.report(
        what,
        `must be a group of options, got ${describe(one.value)}`,
        one.layer.origin(path),
        `Write ${shape}.`
      )
      return false
    })
  }
}

const inside = (given: ReadonlyArray<GivenRecord>, key: string): ReadonlyArray<Given> =>
  given.flatMap(({ value, layer }) => (value[key] === undefined ? [] : [{ value: value[key], layer }]))

/**
 * Lays the layers over each other, checks every option and says what it comes to. All problems are reported, not only the first.
 * Unknown keys are found in every layer; of an option given several times only the value that counts is checked.
 */
export const resolve = <N extends Node>(node: N, layers: ReadonlyArray<Layer>): Resolution<N> => {
  const resolver = new Resolver()
  const given = layers.flatMap((layer) =>
    layer.values === undefined ? [] : [{ value: layer.values, layer }]
  )
  const value = resolver.node(node, "", given)
  // The resolver builds exactly the shape that `Output` spells out for the same node.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return { value: value as Output<N>, entries: resolver.entries, problems: resolver.problems }
}
