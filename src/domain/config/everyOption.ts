import type { Leaf, Node } from "./Option.ts"

/** An option's place in the schema: `[]` stands for any entry of a list. `only` names the case it belongs to, as `policy "power-of-two"`. */
export interface OptionPlace {
  readonly path: string
  readonly leaf: Leaf<unknown, unknown, string>
  readonly only?: string | undefined
}

/** Every option of a schema, in the order in which it is written there. */
export function* everyOption(node: Node, path = "", only?: string): Generator<OptionPlace> {
  const below = (key: string): string => (path === "" ? key : `${path}.${key}`)
  switch (node.node) {
    case "leaf":
      yield { path, leaf: node, only }
      break
    case "section":
      for (const [key, field] of Object.entries(node.fields)) yield* everyOption(field, below(key), only)
      break
    case "list":
      yield* everyOption(node.item, `${path}[]`, only)
      break
    case "variant":
      yield { path: below(node.tag), leaf: node.name, only }
      for (const [name, section] of Object.entries(node.cases))
        yield* everyOption(section, path, `${node.tag} "${name}"`)
  }
}
