import { variableOf } from "./environment.ts"
import { everyOption, type OptionPlace } from "./everyOption.ts"
import type { List } from "./Option.ts"
import type { PolicyVariant } from "./pipeline.ts"
import type { ConfigSchema } from "./schema.ts"

const code = (text: string): string => `\`${text}\``

const fallback = ({ leaf }: OptionPlace): string => {
  const value = leaf.fallbackText ?? code(JSON.stringify(leaf.fallback))
  if (leaf.unit === undefined) return value
  // A text such as "that of the preset" is no count.
  return /^`?\d/.test(value) ? `${value} ${leaf.unit}` : `${value}, in ${leaf.unit}`
}

const option = (place: OptionPlace): string => {
  const { path, leaf } = place
  const meaning = [leaf.summary, leaf.consequence].filter((part) => part !== "").join(" ")
  const variable = variableOf(path.replaceAll("[]", "[0]"))
  return `- ${code(path)}, by default ${fallback(place)}. ${meaning}\n  Must be ${leaf.rule}. Variable: ${code(variable)}`
}

const options = (places: Iterable<OptionPlace>): ReadonlyArray<string> => {
  const lines = [...places].map(option)
  return lines.length === 0 ? [] : [lines.join("\n")]
}

const decisionPoint = (path: string, node: PolicyVariant | List<PolicyVariant>): ReadonlyArray<string> =>
  node.node === "list"
    ? [`### ${path}`, node.summary, ...policiesOf(`${path}[]`, node.item)]
    : [`### ${path}`, ...policiesOf(path, node)]

const policiesOf = (path: string, node: PolicyVariant): ReadonlyArray<string> => [
  ...options([{ path: `${path}.${node.tag}`, leaf: node.name }]),
  ...Object.entries(node.cases).flatMap(([name, policy]) => [
    `With ${code(`${node.tag}: "${name}"`)}: ${policy.summary}`,
    ...options(everyOption(policy, path))
  ])
]

/** The reference of every option as Markdown: the text of docs/configuration.md. */
export const configurationReference = (schema: ConfigSchema): string => {
  const { pipeline, ...sections } = schema.fields
  const { preset, pendingTokensMax, ...points } = pipeline.fields
  return (
    [
      introduction,
      ...Object.entries(sections).flatMap(([name, node]) => [
        `## ${name}`,
        node.summary,
        ...options(everyOption(node, name))
      ]),
      "## pipeline",
      pipeline.summary,
      ...options([
        ...everyOption(preset, "pipeline.preset"),
        ...everyOption(pendingTokensMax, "pipeline.pendingTokensMax")
      ]),
      ...Object.entries(points).flatMap(([point, node]) => decisionPoint(`pipeline.${point}`, node)),
      ""
    ]
      .join("\n\n")
      .trimEnd() + "\n"
  )
}

const introduction = `# Configuration

Written by \`bun run config docs\` from \`src/domain/config/schema.ts\`: edit that.

A cluster needs no configuration. What you want otherwise stands in \`cluster.config.ts\` in the working directory, or in the file named by
\`--config\` or \`PARALLAX_CONFIG\`:

\`\`\`ts
export default {
  models: [{ name: "llama-8b", workers: 8, engine: { kind: "simulated", preset: "8b-h100" } }],
  tenants: [{ name: "chat", weight: 3 }],
  pipeline: { preset: "fair" }
}
\`\`\`

\`.json\` and \`.yaml\` files that are named so hold the same options. Around the object there may be a call of \`defineConfig\`, from \`parallax/config\`: it
returns what it is given and has the editor check it. A file outside of this repository can import it where [Parallax is installed](client.md). The file
is read when the cluster starts, and not again.

Where an option is stated in several places, the later one of this list counts:

1. the defaults below,
2. the file,
3. environment variables,
4. flags of the command.

\`bun run config print\` shows what is in force, \`bun run config print --origin\` also where each value comes from, and
\`bun run config check\` says all that is wrong and exits with 2. Of a valid one it says which options differ from their defaults and yet
have no effect, because of what others are.

A time is written with its unit: \`"250 millis"\`, \`"5 seconds"\`, \`"10 minutes"\`, \`"1 hour"\`, or shorter: \`"250ms"\`, \`"5s"\`, \`"10m"\`, \`"1h"\`. A variable changes one entry of
a list: \`PARALLAX_MODELS_0_WORKERS\` is that of the first model. Credentials in a variable are separated by commas, and are shown nowhere.
The cluster refuses to listen on an address that other machines can reach while some role needs no credential, unless \`--insecure\` is typed.`
