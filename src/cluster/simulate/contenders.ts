import { didYouMean } from "../../domain/config/Option.ts"
import type { OptionSpec, OptionValue, PolicyChoice } from "../../domain/config/pipeline.ts"
import { DURATION_RULE, parseDuration } from "../../domain/config/duration.ts"
import type { PlacementEntry } from "../../policies/Placement.ts"
import { choiceOf, type PipelineChoice, pipelines, type Targets } from "../../policies/pipelines.ts"
import { optionProblem, type PolicyEntry } from "../../policies/Policy.ts"
import {
  admissions,
  batchings,
  findAdmission,
  orderings,
  placements,
  rescues,
  rivals,
  scalings
} from "../../policies/registry.ts"
import type { Contender } from "../../simulator/report/ground.ts"
import type { LoadedConfig } from "../loadConfig.ts"

export type PresetName = keyof typeof pipelines

export const presetNames = Object.keys(pipelines) as ReadonlyArray<PresetName>

/** The name of the pipeline that a configuration file has. */
const CONFIG = "config"

/** Pipelines that one list may stand for: groups of policies multiply. */
const CONTENDERS_MAX = 1000

/** What joins the policies of a pipeline. Before a digit it belongs to a number, as in `1e+3`: no name begins with one. */
const JOINT = /\+(?!\d)/

/** What a pipeline is made of. */
const kinds = {
  admission: admissions,
  ordering: orderings,
  batching: batchings,
  placement: [...placements, ...rivals],
  rescue: rescues
} satisfies { readonly [Kind in keyof PipelineChoice]?: ReadonlyArray<PolicyEntry<unknown>> }

type Kind = keyof typeof kinds

const namesOf = (entries: ReadonlyArray<PolicyEntry<unknown>>): ReadonlyArray<string> =>
  entries.map(({ name }) => name)

/** Each stands for all of its members, one by one. */
const groups: ReadonlyMap<string, () => ReadonlyArray<string>> = new Map([
  ["presets", () => presetNames],
  ["admissions", () => namesOf(admissions)],
  ["orderings", () => namesOf(orderings)],
  ["batchings", () => namesOf(batchings)],
  ["placements", () => namesOf(placements)],
  ["rivals", () => rivals.flatMap(parameterSets)],
  ["rescues", () => namesOf(rescues)],
  ["all", () => ["presets", "placements", "rivals"].flatMap(membersOf)]
])

/** What a name stands for: itself, unless it is a group's. */
const membersOf = (name: string): ReadonlyArray<string> => groups.get(name)?.() ?? [name]

/** Whole pipelines by name. */
type Bases = ReadonlyMap<string, PipelineChoice>

/**
 * The pipelines that a list of names stands for, separated by commas. One is made of parts with `+` between: first a preset, or `config` for
 * the pipeline `config`, else it is that of `preset`; then policies, which replace what that has of their kind. An option of a policy
 * follows its name: `power-of-two:d=3`. A group stands for each of its members. Or what is wrong with the list.
 */
export const contendersOf = (
  list: string,
  preset: PresetName,
  targets: Targets,
  config?: PipelineChoice
): ReadonlyArray<Contender> | string => {
  const bases: Bases = new Map([
    ...presetNames.map((name) => [name, choiceOf(pipelines[name])] as const),
    ...(config === undefined ? [] : [[CONFIG, config] as const])
  ])
  const contenders = new Map<string, PipelineChoice>()
  for (const item of list.split(",")) {
    const parts = item.split(JOINT).map((part) => membersOf(part.trim()))
    if (contenders.size + parts.reduce((count, { length }) => count * length, 1) > CONTENDERS_MAX)
      return `More than ${CONTENDERS_MAX} pipelines are named: leave out a group.`
    for (const names of combinationsOf(parts)) {
      const pipeline = pipelineOf(names, bases, preset)
      if (typeof pipeline === "string") return pipeline
      contenders.set(names.join("+"), toldTargets(pipeline, targets))
    }
  }
  return [...contenders].map(([name, pipeline]) => ({ name, pipeline }))
}

/** Whether it is the pipeline of the configuration file, or begins with it. */
export const isOfConfig = ({ name }: Contender): boolean => name.split(JOINT)[0] === CONFIG

/** The pipeline of a configuration. Options of admissions that nobody gave a value are left out: the targets may say them. */
export const configuredPipeline = ({ config, entries }: LoadedConfig): PipelineChoice => {
  const given = new Set(entries.filter(({ origin }) => origin !== "default").map(({ path }) => path))
  const givenOf = ({ options, policy }: PolicyChoice, at: number): PolicyChoice => ({
    policy,
    options: Object.fromEntries(
      Object.entries(options).filter(([name]) => given.has(`pipeline.admission[${at}].${name}`))
    )
  })
  return { ...config.pipeline, admission: config.pipeline.admission.map(givenOf) }
}

/** A preset with a store of prefix blocks for all. Without rescues: a request that was moved would find its own blocks there. */
export const referenceOf = (preset: PresetName, targets: Targets): Contender => ({
  name: preset,
  pipeline: { ...toldTargets(choiceOf(pipelines[preset]), targets), rescue: [] },
  sharedCache: true
})

/** Every way to take one member of each. */
const combinationsOf = (parts: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<ReadonlyArray<string>> =>
  parts.reduce<ReadonlyArray<ReadonlyArray<string>>>(
    (all, members) => all.flatMap((names) => members.map((member) => [...names, member])),
    [[]]
  )

const pipelineOf = (
  names: ReadonlyArray<string>,
  bases: Bases,
  preset: PresetName
): PipelineChoice | string => {
  const own = bases.get(names[0]!)
  const base = own ?? bases.get(preset)!
  const named: Record<Kind, Array<PolicyChoice>> = {
    admission: [],
    ordering: [],
    batching: [],
    placement: [],
    rescue: []
  }
  for (const name of own === undefined ? names : names.slice(1)) {
    const found = policyOf(name, bases)
    if (typeof found === "string") return found
    const { choice, kind } = found
    const [other] = named[kind]
    if (other !== undefined && !Array.isArray(base[kind]))
      return `${choice.policy} is a second ${kind} beside ${other.policy}, and a pipeline has one: put a comma between what is to be compared.`
    named[kind].push(choice)
  }
  const { admission, batching, ordering, placement, rescue } = named
  return {
    admission: admission.length > 0 ? admission : base.admission,
    ordering: ordering[0] ?? base.ordering,
    batching: batching[0] ?? base.batching,
    placement: placement[0] ?? base.placement,
    rescue: rescue.length > 0 ? rescue : base.rescue,
    pendingTokensMax: base.pendingTokensMax
  }
}

interface Named {
  readonly kind: Kind
  readonly choice: PolicyChoice
}

const policyOf = (text: string, bases: Bases): Named | string => {
  const [name = "", ...settings] = text.split(":")
  for (const kind of Object.keys(kinds) as ReadonlyArray<Kind>) {
    const entry = kinds[kind].find((each) => each.name === name)
    if (entry === undefined) continue
    const options = optionsOf(entry, settings)
    return typeof options === "string" ? options : { kind, choice: { policy: name, options } }
  }
  if (bases.has(name))
    return `${name} is a whole pipeline: it comes first, without options, and policies behind it replace what it has, as in ${name}+power-of-two:d=3.`
  if (name === CONFIG) return "config is the pipeline of a configuration file: name the file with --config."
  if (namesOf(scalings).includes(name)) return `${name} says how many workers there are: give it to --scale.`
  const known = [...groups.keys(), ...bases.keys(), ...Object.values(kinds).flatMap(namesOf)]
  const hint = name.includes("=")
    ? "An option follows the name of its policy behind a colon, as in power-of-two:d=3."
    : (didYouMean(name, known) ?? "`bun run policies list` shows them all.")
  return `"${name}" is no policy, preset or group. ${hint}`
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
