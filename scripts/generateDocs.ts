import { join } from "node:path"
import { catalogue } from "../src/cluster/catalogue.ts"
import { formatDuration } from "../src/domain/config/duration.ts"
import { configurationReference } from "../src/domain/config/reference.ts"
import { makeSchema } from "../src/domain/config/schema.ts"
import { pipelines } from "../src/policies/pipelines.ts"
import type { PlacementFacts } from "../src/policies/Placement.ts"
import type { OptionSpec, PolicyEntry } from "../src/policies/Policy.ts"
import { admissions, orderings, placements } from "../src/policies/registry.ts"

/** A page whose text follows from the code. `bun scripts/generateDocs.ts` writes them; a test fails while one is stale. */
export interface GeneratedPage {
  /** From the root of the repository. */
  readonly path: string
  readonly render: () => string
}

const points: ReadonlyArray<readonly [heading: string, question: string, entries: ReadonlyArray<Entry>]> = [
  ["Admission", "Is a request let in?", admissions],
  ["Ordering", "Which queued request is next?", orderings],
  ["Placement", "Which worker serves it?", placements]
]

type Entry = PolicyEntry<unknown> & Partial<Pick<PlacementFacts, "family">>

const policies = (): string =>
  [
    "# Policies",
    "Generated from `src/policies/registry.ts` by `bun scripts/generateDocs.ts`. Each name can be written in `cluster.config.ts`; " +
      "[Adding a policy](adding-a-policy.md) says how to write one, and [Invariants](invariants.md) lists the laws they all keep.",
    "## Pipelines",
    "A pipeline names one policy for each decision.",
    Object.entries(pipelines)
      .map(
        ([name, { admission, ordering, placement }]) =>
          `- \`${name}\`: admission \`${admission}\`, ordering \`${ordering}\`, placement \`${placement}\``
      )
      .join("\n"),
    ...points.flatMap(([heading, question, entries]) => [
      `## ${heading}`,
      question,
      ...entries.flatMap(policy)
    ])
  ].join("\n\n") + "\n"

const policy = ({
  name,
  summary,
  definition,
  cost,
  family,
  stability,
  source,
  options
}: Entry): ReadonlyArray<string> => [
  `### \`${name}\``,
  summary,
  definition,
  [
    `- Cost of a decision: ${cost}`,
    ...(family === undefined ? [] : [`- Family: ${family}`]),
    ...(stability === "stable" ? [] : [`- Stability: ${stability}`]),
    `- Source: ${source}`,
    ...Object.entries(options).map(
      ([option, spec]) => `- Option \`${option}\`, ${range(spec)}: ${spec.summary}`
    )
  ].join("\n")
]

const range = (spec: OptionSpec): string => {
  switch (spec.kind) {
    case "boolean":
      return `true or false, by default ${spec.default}`
    case "choice":
      return `one of ${spec.choices.join(", ")}, by default ${spec.default}`
    default: {
      const show = (value: number): string =>
        spec.kind === "duration"
          ? formatDuration(value)
          : `${value}${spec.unit === undefined ? "" : ` ${spec.unit}`}`
      const bounds = [
        ...(spec.minimum === undefined ? [] : [`from ${spec.minimum}`]),
        ...(spec.maximum === undefined ? [] : [`to ${spec.maximum}`])
      ]
      const kind = { duration: "a time", integer: "a whole number", number: "a number" }[spec.kind]
      return `${[kind, ...bounds].join(" ")}, by default ${show(spec.default)}`
    }
  }
}

export const pages: ReadonlyArray<GeneratedPage> = [
  { path: "docs/configuration.md", render: () => configurationReference(makeSchema(catalogue)) },
  { path: "docs/policies.md", render: policies }
]

if (import.meta.main)
  for (const { path, render } of pages) await Bun.write(join(import.meta.dir, "..", path), render())
