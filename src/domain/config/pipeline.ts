import { formatDuration } from "./duration.ts"
import {
  boolean,
  choice,
  didYouMean,
  duration,
  integer,
  number,
  optional,
  section,
  type Leaf,
  type List,
  type Section,
  type Variant
} from "./Option.ts"

/**
 * One option of a policy, as plain data: the config decoder, the documentation and the command line all read it. A duration is in ms here
 * and has a unit in the config file. The summary says what it does, and what a larger value leads to; bounds are inclusive.
 */
export type OptionSpec = { readonly summary: string } & (
  | {
      readonly kind: "integer" | "number" | "duration"
      readonly default: number
      readonly minimum?: number
      readonly maximum?: number
      readonly unit?: string
    }
  | { readonly kind: "boolean"; readonly default: boolean }
  | { readonly kind: "choice"; readonly default: string; readonly choices: ReadonlyArray<string> }
)
/** What configuration needs to know of a policy. */
export interface PolicyDescription {
  readonly name: string
  readonly summary: string
  readonly options: Readonly<Record<string, OptionSpec>>
}

export type OptionValue = number | boolean | string
/** A decided policy: its name and every option it has, durations in ms. */
export interface PolicyChoice {
  readonly policy: string
  readonly options: Readonly<Record<string, OptionValue>>
}

/** A policy as a preset names it: at its defaults, or with the options that differ, durations in ms. */
export type NamedPolicy = string | PolicyChoice

/** The policies of a preset. */
export interface NamedPipeline {
  readonly admission: ReadonlyArray<NamedPolicy>
  readonly ordering: NamedPolicy
  readonly batching: NamedPolicy
  readonly placement: NamedPolicy
  readonly rescue: ReadonlyArray<NamedPolicy>
  readonly scaling: NamedPolicy
  readonly pendingTokensMax?: number
}

type PolicySection = Section<Readonly<Record<string, Leaf<OptionValue, OptionValue>>>>
export type PolicyVariant = Variant<"policy", Readonly<Record<string, PolicySection>>>

/** The node of one decision point: a policy by name, and the options of that policy. */
export const policyVariant = (
  question: string,
  policies: ReadonlyArray<PolicyDescription>
): PolicyVariant => ({
  node: "variant",
  tag: "policy",
  name: optional(policyName(question, policies), "that of the preset"),
  cases: Object.fromEntries(policies.map((policy) => [policy.name, policySection(policy)]))
})

/** There are too many names for a message; the reference lists them anyway. */
const policyName = (question: string, policies: ReadonlyArray<PolicyDescription>): Leaf<string, string> => {
  const words = policies.map(({ name }) => name)
  return {
    ...choice({
      fallback: words[0] ?? "",
      words,
      summary: question,
      consequence: "The options of the policy stand beside it."
    }),
    rule: "the name of a policy",
    fix: (value) => didYouMean(value, words) ?? "`bun run policies list` shows them all."
  }
}

const STAGES_MAX = 8

/** The node of a decision point where several policies may act, one after the other. */
export const policyList = (
  question: string,
  policies: ReadonlyArray<PolicyDescription>
): List<PolicyVariant> => ({
  node: "list",
  summary: question,
  // An entry has no preset to take its policy from.
  item: {
    ...policyVariant("", policies),
    name: {
      ...policyName("One of the policies below.", policies),
      fallback: "",
      fallbackText: "nothing, and must be said"
    }
  },
  countMin: 0,
  countMax: STAGES_MAX
})

const policySection = ({ summary, options }: PolicyDescription): PolicySection =>
  section(
    summary,
    Object.fromEntries(Object.entries(options).map(([name, option]) => [name, policyLeaf(option)]))
  )

/** Policies state what an option does and what more of it leads to in one summary. */
const policyLeaf = (option: OptionSpec): Leaf<OptionValue, OptionValue> => {
  const doc = { summary: option.summary, consequence: "" }
  switch (option.kind) {
    case "boolean":
      return boolean({ ...doc, fallback: option.default })
    case "choice":
      return choice({ ...doc, fallback: option.default, words: option.choices })
    default: {
      const { default: fallback, kind, maximum, minimum, unit } = option
      const bounded = { ...doc, minimum, maximum }
      if (kind === "duration") return duration({ ...bounded, fallback: formatDuration(fallback) }, "")
      return (kind === "integer" ? integer : number)({ ...bounded, unit, fallback })
    }
  }
}

/** Takes the name apart from the options, as a policy's factory wants them. */
export const policyChoice = ({
  policy,
  ...options
}: { readonly policy: string } & Readonly<Record<string, OptionValue>>): PolicyChoice => ({
  policy,
  options
})

/** A policy of a preset as a file states it: durations with their units. */
export const stated = (
  named: NamedPolicy,
  policies: ReadonlyArray<PolicyDescription>
): Readonly<Record<string, unknown>> => {
  if (typeof named === "string") return { policy: named }
  const options = policies.find(({ name }) => name === named.policy)?.options ?? {}
  const values = Object.entries(named.options).map(([name, value]) => [
    name,
    options[name]?.kind === "duration" ? formatDuration(value as number) : value
  ])
  return { policy: named.policy, ...Object.fromEntries(values) }
}
