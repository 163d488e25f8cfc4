import { formatDuration } from "../domain/config/duration.ts"
import type { OptionSpec } from "../domain/config/pipeline.ts"
import type { PlacementFacts } from "../policies/Placement.ts"
import type { PolicyEntry } from "../policies/Policy.ts"

/** A policy as it is shown: plain data. */
export interface ShownPolicy {
  readonly point: string
  readonly name: string
  readonly summary: string
  readonly definition: string
  readonly cost: string
  readonly family?: string | undefined
  readonly rival?: string | undefined
  readonly stability: string
  readonly source: string
  readonly uses: ReadonlyArray<string>
  readonly options: ReadonlyArray<{ readonly name: string } & OptionSpec>
}

export const describePolicy = (
  point: string,
  entry: PolicyEntry<unknown> & Partial<Pick<PlacementFacts, "family" | "rival">>
): ShownPolicy => ({
  point,
  name: entry.name,
  summary: entry.summary,
  definition: entry.definition,
  cost: entry.cost,
  family: entry.family,
  rival: entry.rival,
  stability: entry.stability,
  source: entry.source,
  uses: entry.uses ?? [],
  options: Object.entries(entry.options).map(([name, spec]) => ({ ...spec, name }))
})

/** What an option may be, and is by default: `a whole number from 1 to 16, by default 2 workers`. */
export const optionRange = (spec: OptionSpec): string => {
  switch (spec.kind) {
    case "boolean":
      return `true or false, by default ${spec.default}`
    case "choice":
      return `one of ${spec.choices.join(", ")}, by default ${spec.default}`
    default: {
      const unit = spec.unit === undefined ? "" : ` ${spec.unit}`
      const show = (value: number): string => (spec.kind === "duration" ? formatDuration(value) : `${value}`)
      const bounds = [
        ...(spec.minimum === undefined ? [] : [`from ${show(spec.minimum)}`]),
        ...(spec.maximum === undefined ? [] : [`to ${show(spec.maximum)}`])
      ]
      const kind = { duration: "a time", integer: "a whole number", number: "a number" }[spec.kind]
      return `${[kind, ...bounds].join(" ")}, by default ${show(spec.default)}${spec.kind === "duration" ? "" : unit}`
    }
  }
}
