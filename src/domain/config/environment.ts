import { assign, keysOf, type Assignment } from "./assign.ts"
import { didYouMean, type Kind, type Node } from "./Option.ts"
import { everyOption } from "./everyOption.ts"
import { problem, type Layer, type Problem } from "./resolve.ts"

const PREFIX = "PARALLAX_"
/** Names the file to read; no option of it. */
export const FILE_VARIABLE = `${PREFIX}CONFIG`
/** What Kubernetes adds for a service that is called parallax or parallax-…: none of ours. */
const isServiceLink = (name: string, text: string): boolean =>
  /_SERVICE_(HOST|PORT(_.+)?)$|_PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?$/.test(name) ||
  (name.endsWith("_PORT") && /^(tcp|udp):\/\//.test(text))

const upper = (key: string): string =>
  key
    .replaceAll(/[A-Z]/g, (letter) => `_${letter}`)
    .replaceAll("-", "_")
    .toUpperCase()

/** The environment variable of an option: `models[0].engine.timeScale` is `PARALLAX_MODELS_0_ENGINE_TIME_SCALE`. */
export const variableOf = (path: string): string => PREFIX + keysOf(path).map(upper).join("_")

/** Reads every `PARALLAX_` variable. One that belongs to no option is a problem, so that a slip cannot pass unseen. */
export const readEnvironment = (
  schema: Node,
  variables: Readonly<Record<string, string | undefined>>
): { readonly layer: Layer; readonly problems: ReadonlyArray<Problem> } => {
  const assignments: Array<Assignment> = []
  const problems: Array<Problem> = []
  for (const [name, text] of Object.entries(variables)) {
    if (!name.startsWith(PREFIX) || text === undefined || name === FILE_VARIABLE) continue
    const found = find(schema, name.slice(PREFIX.length))
    if (found !== undefined)
      assignments.push({ keys: found.keys, value: valueOfAny(found.kinds, text), origin: name })
    else if (!isServiceLink(name, text)) problems.push(unknownVariable(schema, name))
  }
  return { layer: assign(assignments), problems }
}

const unknownVariable = (schema: Node, name: string): Problem => {
  const known = [...everyOption(schema)].map(({ path }) => variableOf(path.replaceAll("[]", "[0]")))
  const shown = name.slice(0, 80)
  return problem(
    shown,
    "is not an option",
    "environment",
    didYouMean(known.find((each) => each.startsWith(`${name}_`)) ?? name, known) ??
      "Unset it; `config docs` lists those there are."
  )
}

interface Found {
  readonly keys: ReadonlyArray<string>
  /** Options of one name may differ in kind from one policy to the next. */
  readonly kinds: ReadonlyArray<Kind>
}

/** Takes names off the front of `rest` while they lead on in the schema. */
const find = (node: Node, rest: string): Found | undefined => {
  switch (node.node) {
    case "leaf":
      return rest === "" ? { keys: [], kinds: [node.kind] } : undefined
    case "section":
      return first(Object.entries(node.fields), rest)
    case "variant":
      return rest === upper(node.tag)
        ? { keys: [node.tag], kinds: [node.name.kind] }
        : first(
            Object.values(node.cases).flatMap(({ fields }) => Object.entries(fields)),
            rest
          )
    case "list": {
      const index = /^(0|[1-9]\d*)(?=_|$)/.exec(rest)?.[0]
      return index === undefined ? undefined : under(index, find(node.item, rest.slice(index.length + 1)))
    }
  }
}

const first = (fields: ReadonlyArray<readonly [string, Node]>, rest: string): Found | undefined => {
  let all: Found | undefined
  for (const [key, field] of fields) {
    const name = upper(key)
    if (rest !== name && !rest.startsWith(`${name}_`)) continue
    const found = under(key, find(field, rest.slice(name.length + 1)))
    if (found === undefined) continue
    if (all === undefined) all = found
    else if (all.keys.join(".") === found.keys.join("."))
      all = { keys: all.keys, kinds: [...all.kinds, ...found.kinds] }
  }
  return all
}

const under = (key: string, found: Found | undefined): Found | undefined =>
  found === undefined ? undefined : { keys: [key, ...found.keys], kinds: found.kinds }

/** By the first kind that takes the text for more than a text. */
const valueOfAny = (kinds: ReadonlyArray<Kind>, text: string): unknown =>
  kinds.map((kind) => valueOf(kind, text)).find((value) => typeof value !== "string") ?? text

/** The value a text from outside the file stands for; one that stands for none is kept, so that the option's own rule refuses it. */
export const valueOf = (kind: Kind, text: string): unknown => {
  switch (kind) {
    case "integer":
    case "number":
      return text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text)
    case "boolean":
      return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text
    case "secrets":
      return text === "" ? [] : text.split(",")
    default:
      return text
  }
}
