import { isRecord } from "../../structures/record.ts"
import type { Config } from "../Config.ts"
import { policyChoice, stated } from "./pipeline.ts"
import { brokenRelations } from "./relations.ts"
import { problem, resolve, type Entry, type Layer, type Problem } from "./resolve.ts"
import { makeSchema, type Catalogue } from "./schema.ts"

export type ResolvedConfig =
  | { readonly _tag: "Valid"; readonly config: Config; readonly entries: ReadonlyArray<Entry> }
  | { readonly _tag: "Invalid"; readonly problems: ReadonlyArray<Problem> }

/**
 * What all layers come to, lowest precedence first. Everything wrong with single options is reported together; rules between
 * options are checked once each option by itself is right. `insecure` allows an open address without credentials.
 */
export const resolveConfig = (
  catalogue: Catalogue,
  layers: ReadonlyArray<Layer>,
  insecure: boolean
): ResolvedConfig => {
  const { value, entries, problems } = resolve(makeSchema(catalogue), [
    presetLayer(catalogue, layers),
    ...layers
  ])
  if (problems.length > 0) return { _tag: "Invalid", problems }
  const { pipeline } = value
  const config: Config = {
    ...value,
    pipeline: {
      preset: pipeline.preset,
      admission: pipeline.admission.map(policyChoice),
      ordering: policyChoice(pipeline.ordering),
      batching: policyChoice(pipeline.batching),
      placement: policyChoice(pipeline.placement),
      rescue: pipeline.rescue.map(policyChoice),
      scaling: policyChoice(pipeline.scaling),
      pendingTokensMax: pipeline.pendingTokensMax
    }
  }
  const broken = brokenRelations(config, insecure)
  if (broken.length === 0) return { _tag: "Valid", config, entries }
  const originOf = (path: string): string =>
    entries.find((entry) => entry.path.startsWith(path))?.origin ?? "default"
  return {
    _tag: "Invalid",
    problems: broken.map(({ path, rule, fix }) => problem(path, rule, originOf(path), fix))
  }
}

/** What the pipeline preset says, below everything that is said outright. An unknown preset is reported by its own option. */
const presetLayer = ({ pipelines, ...points }: Catalogue, layers: ReadonlyArray<Layer>): Layer => {
  const asked = layers
    .map(({ values }) => at(at(values, "pipeline"), "preset"))
    .findLast((preset) => preset !== undefined)
  const name =
    typeof asked === "string" && Object.hasOwn(pipelines, asked) ? asked : Object.keys(pipelines)[0]!
  const { admission, ordering, batching, placement, rescue, scaling, pendingTokensMax } = pipelines[name]!
  return {
    values: {
      pipeline: {
        admission: admission.map((each) => stated(each, points.admissions)),
        ordering: stated(ordering, points.orderings),
        batching: stated(batching, points.batchings),
        placement: stated(placement, points.placements),
        rescue: rescue.map((each) => stated(each, points.rescues)),
        scaling: stated(scaling, points.scalings),
        pendingTokensMax
      }
    },
    origin: () => `preset "${name}"`
  }
}

const at = (value: unknown, key: string): unknown => (isRecord(value) ? value[key] : undefined)
