import { readFileSync } from "node:fs"
import { join } from "node:path"
import { withCells, withSummary } from "../bench/compare/report.ts"
import { readResults } from "../bench/compare/results.ts"
import { catalogue } from "../src/cluster/catalogue.ts"
import { configurationReference } from "../src/domain/config/reference.ts"
import { makeSchema } from "../src/domain/config/schema.ts"
import { describePolicy, optionRange, type ShownPolicy } from "../src/cluster/describePolicy.ts"
import { type NamedPolicy, stated } from "../src/domain/config/pipeline.ts"
import { pipelines, type Preset } from "../src/policies/pipelines.ts"
import { decisionPoints } from "../src/policies/registry.ts"

/** A page whose text follows from the code. `bun scripts/generateDocs.ts` writes them; a test fails while one is stale. */
export interface GeneratedPage {
  /** From the root of the repository. */
  readonly path: string
  readonly render: () => string
}

const policies = (): string =>
  [
    "# Policies",
    "Generated from `src/policies/registry.ts` by `bun scripts/generateDocs.ts`. Each name can be written in `cluster.config.ts`; " +
      "[Adding a policy](adding-a-policy.md) says how to write one, and [Invariants](invariants.md) lists the laws they all keep. " +
      "`bun run policies list` and `bun run policies show NAME` say the same on the command line.",
    "## Words of the rules",
    words,
    "## Pipelines",
    "A pipeline names the policies of each decision. A configuration starts from one of these, its preset, and replaces what it states. " +
      "`bun run policies recommend --trace FILE` names one for your traffic, and `bun run simulate --trace FILE --policies presets` compares them.",
    ...Object.entries(pipelines).map(pipeline),
    ...decisionPoints.flatMap(({ name, question, entries }) => [
      `## ${name[0]!.toUpperCase()}${name.slice(1)}`,
      question,
      ...entries.flatMap((entry) => policy(describePolicy(name, entry)))
    ])
  ].join("\n\n") + "\n"

const words = [
  "- A worker is **eligible** when it is ready and has room: fewer requests than its capacity, and fewer pending prompt tokens than the pipeline allows.",
  "- **Pending** prompt tokens were sent to a worker and are not computed yet. **Uncached** ones are those that its prefix cache is not known to hold.",
  "- **Step costs** are what the steps of a worker's engine take, fitted to what its heartbeats tell. Times are predicted with them.",
  "- A **rendezvous score** is a hash of a request (or its session) and a worker: ties fall evenly over the workers, and the same way each time.",
  "- A **bound** is what an admission policy allows at most. All but that of `token-bucket` count for all tenants together; [Fairness](fairness.md) says how they share them."
].join("\n")

const pipeline = ([name, { summary, pendingTokensMax, ...points }]: readonly [string, Preset]): string => {
  const named = Object.entries(points).map(([point, policies]) => {
    const names = [policies].flat().map((each) => shown(point, each))
    return `- ${point}: ${names.length === 0 ? "none" : names.join(", then ")}`
  })
  const limit =
    pendingTokensMax === undefined
      ? []
      : [`- at most ${pendingTokensMax} uncached prompt tokens pending at a worker`]
  return `**\`${name}\`** ${summary}\n\n${[...named, ...limit].join("\n")}`
}

const shown = (point: string, named: NamedPolicy): string => {
  const { entries } = decisionPoints.find(({ name }) => name === point)!
  const { policy: name, ...options } = stated(named, entries)
  const said = Object.entries(options).map(([option, value]) => `${option} = ${JSON.stringify(value)}`)
  return `\`${String(name)}\`${said.length === 0 ? "" : ` with ${said.join(", ")}`}`
}

const policy = (described: ShownPolicy): ReadonlyArray<string> => [
  `### \`${described.name}\``,
  described.summary,
  described.definition,
  [
    `- Cost of a decision: ${described.cost}`,
    ...(described.family === undefined ? [] : [`- Family: ${described.family}`]),
    ...(described.rival === undefined
      ? []
      : [`- A re-implementation of ${described.rival}, from its public description`]),
    ...(described.stability === "stable" ? [] : [`- Stability: ${described.stability}`]),
    `- Source: ${described.source}`,
    ...described.options.map(
      (option) => `- Option \`${option.name}\`, ${optionRange(option)}: ${option.summary}`
    )
  ].join("\n")
]

/** A page of which a part follows from the results of `bench/compare.bench.ts`. */
const withResults = (path: string, fill: typeof withSummary): GeneratedPage => ({
  path,
  render: () => fill(readFileSync(join(root, path), "utf8"), readResults())
})

const root = join(import.meta.dir, "..")

export const pages: ReadonlyArray<GeneratedPage> = [
  { path: "docs/configuration.md", render: () => configurationReference(makeSchema(catalogue)) },
  { path: "docs/policies.md", render: policies },
  withResults("README.md", withSummary),
  withResults("docs/comparison.md", withCells)
]

if (import.meta.main) for (const { path, render } of pages) await Bun.write(join(root, path), render())
