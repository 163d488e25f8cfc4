import type { NamedPipeline, NamedPolicy, PolicyChoice } from "../domain/config/pipeline.ts"
import type { Rng } from "../structures/Rng.ts"
import type { Admission } from "./Admission.ts"
import type { Batching } from "./Batching.ts"
import type { Ordering } from "./Ordering.ts"
import type { Placement } from "./Placement.ts"
import type { PolicyEntry, PolicyFacts } from "./Policy.ts"
import { findAdmission, findBatching, findOrdering, findPlacement, findRescue } from "./registry.ts"
import type { Rescue } from "./Rescue.ts"

/** The policies of one pool, by name. A request must pass every admission; every rescue acts. */
export interface PipelineChoice {
  readonly admission: ReadonlyArray<PolicyChoice>
  readonly ordering: PolicyChoice
  readonly batching: PolicyChoice
  readonly placement: PolicyChoice
  readonly rescue: ReadonlyArray<PolicyChoice>
  /** Uncached prompt tokens pending at a worker from which it gets no more; without a limit when left out. */
  readonly pendingTokensMax?: number | undefined
}

/** The policies of one pool, with memories of their own. */
export interface Pipeline {
  readonly admissions: ReadonlyArray<Admission>
  readonly ordering: Ordering
  readonly batching: Batching
  readonly placement: Placement
  readonly rescues: ReadonlyArray<Rescue>
  /** Their names, in the same order. */
  readonly rescueNames: ReadonlyArray<string>
  readonly pendingTokensMax: number
  /** The times that admission holds requests to; without end where no policy has such targets. */
  readonly targets: Targets
  /** Whether each request is placed as it arrives, or what arrives in one turn is placed together. */
  readonly joint: boolean
  readonly usesPrefixes: boolean
  readonly usesForecast: boolean
}

/** A request is in time whose first token, and whose further ones on average, come within these times; `Infinity` where there is none. */
export interface Targets {
  readonly ttftMs: number
  readonly tpotMs: number
}

/** The tightest `ttft` and `itl` of the admission policies that have them. */
export const targetsOf = (admission: PipelineChoice["admission"]): Targets => {
  const least = (option: string): number =>
    Math.min(
      ...admission.map(({ options, policy }) =>
        Number(options[option] ?? findAdmission(policy).options[option]?.default ?? Number.POSITIVE_INFINITY)
      )
    )
  return { ttftMs: least("ttft"), tpotMs: least("itl") }
}

/** Makes the policies of a choice. A name that is not in the registry is a broken assertion. */
export const makePipeline = (choice: PipelineChoice, rng: Rng): Pipeline => {
  const used: Array<PolicyFacts> = []
  let purpose = 0
  const make = <Decision>(
    find: (name: string) => PolicyEntry<Decision>,
    { policy, options }: PolicyChoice
  ): Decision => {
    const entry = find(policy)
    used.push(entry)
    return entry.make(options, rng.split(purpose++))
  }
  const policies = {
    admissions: choice.admission.map((each) => make(findAdmission, each)),
    ordering: make(findOrdering, choice.ordering),
    batching: make(findBatching, choice.batching),
    placement: make(findPlacement, choice.placement),
    rescues: choice.rescue.map((each) => make(findRescue, each))
  }
  const uses = (what: "prefixes" | "forecast"): boolean =>
    used.some((facts) => facts.uses?.includes(what) ?? false)
  return {
    ...policies,
    rescueNames: choice.rescue.map(({ policy }) => policy),
    pendingTokensMax: choice.pendingTokensMax ?? Number.POSITIVE_INFINITY,
    targets: targetsOf(choice.admission),
    joint: findBatching(choice.batching.policy).joint,
    usesPrefixes: uses("prefixes"),
    usesForecast: uses("forecast")
  }
}

/** The policies of a named pipeline. */
export interface Preset extends NamedPipeline {
  readonly summary: string
}

/** The named pipelines that a config can start from; it starts from the first where it says nothing. */
export const pipelines = {
  default: {
    summary:
      "For most traffic: work is predicted in seconds, shared prefixes are found again, tenants share fairly, and what cannot be served in time is refused at once.",
    admission: ["queue-bounds", "slo-feasible", "prefill-budget"],
    ordering: "virtual-token-counter",
    batching: "none",
    placement: "predicted-completion",
    rescue: ["requeue-stragglers"],
    scaling: "fixed"
  },
  simple: {
    summary: "For a few equal workers and requests of similar length: nothing to tune.",
    admission: ["queue-bounds"],
    ordering: "arrival",
    batching: "none",
    placement: "power-of-two",
    rescue: [],
    scaling: "fixed"
  },
  fair: {
    summary:
      "For tenants who must not feel each other: the queue stays with the balancer, where it can be shared by weight, at some cost in throughput.",
    // Behind the wait comes the prompt itself: together they are in time for a first token within 5 s.
    admission: [{ policy: "queue-bounds", options: { maxWait: 4000 } }, "kv-headroom"],
    ordering: "virtual-token-counter",
    batching: "none",
    placement: "predicted-completion",
    rescue: ["requeue-stragglers"],
    scaling: "fixed",
    pendingTokensMax: 8192
  },
  slo: {
    summary: "For latency targets: short work first, late work copied or moved, infeasible work refused.",
    admission: ["slo-feasible", "prefill-budget", "kv-headroom"],
    ordering: "shortest-job",
    batching: "same-turn",
    placement: "predicted-completion",
    rescue: ["requeue-stragglers", "steal", "hedge"],
    scaling: "fixed",
    pendingTokensMax: 32_768
  }
} satisfies Record<string, Preset>

export const chosen = (named: NamedPolicy): PolicyChoice =>
  typeof named === "string" ? { policy: named, options: {} } : named

/** The policies a preset names. */
export const choiceOf = (preset: Preset): PipelineChoice => ({
  admission: preset.admission.map(chosen),
  ordering: chosen(preset.ordering),
  batching: chosen(preset.batching),
  placement: chosen(preset.placement),
  rescue: preset.rescue.map(chosen),
  pendingTokensMax: preset.pendingTokensMax
})
