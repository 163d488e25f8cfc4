import { didYouMean } from "../../domain/config/Option.ts"
import type { OptionSpec, OptionValue, PolicyChoice } from "../../domain/config/pipeline.ts"
import { DURATION_RULE, parseDuration } from "../../domain/config/duration.ts"
import type { PlacementEntry } from "../../policies/Placement.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../../policies/pipelines.ts"
import { optionProblem, type PolicyEntry } from "../../policies/Policy.ts"
import { findAdmission, placements, rivals } from "../../policies/registry.ts"
import type { Targets } from "../../simulator/report/bounds.ts"
import type { Contender } from "../../simulator/report/ground.ts"

export type PresetName = keyof typeof pipelines

export const presetNames = Object.keys(pipelines) as ReadonlyArray<PresetName>

const groups: Readonly<Record<string, () => ReadonlyArray<string>>> = {
  presets: () => presetNames,
  placements: () => placements.map(({ name }) => name),
  rivals: () => rivals.flatMap(parameterSets),
  all: () => ["presets", "placements", "rivals"].flatMap((name) => groups[name]!())
}

/**
 * The pipelines that a list of names stands for, separated by commas: presets; placements and rivals, in the pipeline of `preset`, so that
 * placement is compared with placement; and groups of these. An option of a policy follows its name: `power-of-two:d=3`. Or what is wrong
 * with the list.
 */
export const contendersOf = (
  list: string,
  preset: PresetName,
  targets: Targets
): ReadonlyArray<Contender> | string => {
  const contenders = new Map<string, PipelineChoice>()
  const names = list.split(",").map((name) => name.trim())
  for (const name of names.flatMap((name) => groups[name]?.() ?? [name])) {
    const pipeline = pipelineOf(name, preset)
    if (typeof pipeline === "string") return pipeline
    contenders.set(name, toldTargets(pipeline, targets))
  }
  return [...contenders].map(([name, pipeline]) => ({ name, pipeline }))
}

/** A preset with a store of prefix blocks for all. Without rescues: a request that was moved would find its own blocks there. */
export const referenceOf = (preset: PresetName, targets: Targets): Contender => ({
  name: preset,
  pipeline: { ...toldTargets(choiceOf(pipelines[preset]), targets), rescue: [] },
  sharedCache: true
})

const pipelineOf = (text: string, preset: PresetName): PipelineChoice | string => {
  const [name = "", ...settings] = text.split(":")
  const asPreset = presetNames.find((each) => each === name)
  if (asPreset !== undefined)
    return settings.length === 0
      ? choiceOf(pipelines[asPreset])
      : `${name} is a preset, which has no options of its own: name a placement.`
  const entry = [...placements, ...rivals].find((each) => each.name === name)
  if (entry === undefined) {
    const known = [...Object.keys(groups), ...presetNames, ...placements, ...rivals].map((each) =>
      typeof each === "string" ? each : each.name
    )
    const hint = name.includes("=")
      ? "An option follows the name of its policy behind a colon, as in power-of-two:d=3."
      : (didYouMean(name, known) ?? "`bun run policies list` shows them all.")
    return `"${name}" is no placement, rival, preset or group of these. ${hint}`
  }
  const options = optionsOf(entry, settings)
  if (typeof options === "string") return options
  return { ...choiceOf(pipelines[preset]), placement: { policy: name, options } }
}

/** Settings such as `d=3` as the options of a policy. A length of time has a unit, as in `drain=10s`, or is in ms. */
export const optionsOf = (
  { name, options: specs }: PolicyEntry<unknown>,
  settings: ReadonlyArray<string>
): Readonly<Record<string, OptionValue>> | string => {
  const options: Record<string, OptionValue> = {}
  for (const setting of settings) {
    const [option = "", ...rest] = setting.split("=")
    const spec = Object.hasOwn(specs, option) ? specs[option] : undefined
    if (spec === undefined) {
      const known = Object.keys(specs)
      const hint =
        didYouMean(option, known) ?? (known.length > 0 ? `It has ${known.join(", ")}.` : "It has none.")
      return `${name} has no option "${option}". ${hint}`
    }
    const value = valueOf(spec, rest.join("="))
    const problem =
      spec.kind === "duration" && Number.isNaN(value) ? DURATION_RULE : optionProblem(spec, value)
    if (problem !== null) return `Option ${option} of ${name} ${problem}.`
    options[option] = value as OptionValue
  }
  return options
}

const valueOf = (spec: OptionSpec, text: string): unknown => {
  switch (spec.kind) {
    case "choice":
      return text
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text
    case "duration":
      return parseDuration(text) ?? Number(text || Number.NaN)
    default:
      return Number(text || Number.NaN)
  }
}

/** A rival once for each of its published sets of parameters. */
const parameterSets = ({ name, options }: PlacementEntry): ReadonlyArray<string> => {
  const sets = Object.entries(options).flatMap(([option, spec]) =>
    spec.kind === "choice" ? spec.choices.map((choice) => `${name}:${option}=${choice}`) : []
  )
  return sets.length === 0 ? [name] : sets
}

/** Options by which an admission asks what is in time, and the target that says it. */
const asks = { ttft: "ttftMs", itl: "tpotMs" } as const

/** Tells the targets to every admission that has an option for them, as who runs the balancer would. */
const toldTargets = (pipeline: PipelineChoice, targets: Targets): PipelineChoice => {
  const told = ({ policy, options }: PolicyChoice): PolicyChoice => {
    const specs = findAdmission(policy).options
    const asked = Object.entries(asks).filter(([option]) => Object.hasOwn(specs, option))
    return {
      policy,
      options: {
        ...Object.fromEntries(asked.map(([option, target]) => [option, targets[target]])),
        ...options
      }
    }
  }
  return { ...pipeline, admission: pipeline.admission.map(told) }
}
