import type { TrafficSummary } from "../domain/Traffic.ts"
import { choiceOf, type PipelineChoice, pipelines } from "./pipelines.ts"

/** Who is to serve the traffic. */
export interface FleetSummary {
  readonly workers: number
  /** Speed of the fastest over that of the slowest; 1 for equal ones. */
  readonly speedRatio: number
  /** Whether requests that come too late are worth nothing. */
  readonly latencyTarget: boolean
}

export interface Recommendation {
  readonly pipeline: PipelineChoice
  /** The preset it started from. */
  readonly preset: keyof typeof pipelines
  /** Why, most important first, each with the figure that decided. */
  readonly reasons: ReadonlyArray<string>
}

/** Share of repeated prompt tokens from which looking for them pays. */
const REPEATED_SHARE_MIN = 0.05
/** Variation of prompt lengths from which requests are no measure of work. */
const VARIATION_MIN = 0.5
const SPEED_RATIO_MIN = 1.2
/** Share of one tenant among several from which the others need protection. */
const TENANT_SHARE_MIN = 0.5
/** Workers from which a decision that looks at all of them costs more than 10 µs. */
const MANY_WORKERS = 700
const LONG_PROMPT = 32_000

/**
 * The policies for some traffic on some workers. Every rule was found in replays, and a test replays it: what is recommended is not
 * behind the alternative that the rule speaks of.
 */
export const recommend = (traffic: TrafficSummary, fleet: FleetSummary): Recommendation => {
  const reasons: Array<string> = []
  const because = (holds: boolean, reason: string): boolean => {
    if (holds) reasons.push(reason)
    return holds
  }
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`
  const repeats = because(
    traffic.repeatedShare >= REPEATED_SHARE_MIN,
    `${percent(traffic.repeatedShare)} of the prompt tokens came before: a placement that knows who holds them saves their prefill.`
  )
  const varies = because(
    traffic.promptVariation >= VARIATION_MIN,
    `Prompt lengths vary (${traffic.promptVariation.toFixed(1)} times their mean): counting requests says little of the work, predicted time does.`
  )
  const unequal = because(
    fleet.speedRatio >= SPEED_RATIO_MIN,
    `The fastest worker is ${fleet.speedRatio.toFixed(1)} times as fast as the slowest: the time a worker takes must enter the choice.`
  )
  const long = because(
    traffic.promptTokensP99 >= LONG_PROMPT,
    `One prompt in a hundred has ${traffic.promptTokensP99} tokens or more: admission must look at the KV cache, and placement at what is pending.`
  )
  const crowded = because(
    traffic.tenants > 1 && traffic.largestTenantShare >= TENANT_SHARE_MIN,
    `One of ${traffic.tenants} tenants has ${percent(traffic.largestTenantShare)} of the tokens: when there is not enough for all, those who got least come first. The preset fair answers the others sooner still, and fewer in time over all.`
  )
  const targeted = because(
    fleet.latencyTarget,
    "Late answers are worth nothing: what cannot be in time is refused at once."
  )
  const simple = !(repeats || varies || unequal || long || crowded || targeted)
  const preset = simple ? "simple" : "default"
  if (simple)
    reasons.push(
      "Requests are alike, nothing repeats, workers are equal: two random choices are as good as anything, and cheapest."
    )
  const many = because(
    fleet.workers >= MANY_WORKERS && !simple,
    `With ${fleet.workers} workers a look at every one costs more than the choice is worth: a sample of sixteen is nearly as good.`
  )
  if (traffic.models > 1)
    reasons.push(
      `Each of the ${traffic.models} models has a pool and a memory of its own; the figures above are over all of them.`
    )
  const pipeline = choiceOf(pipelines[preset])
  return {
    pipeline: many ? { ...pipeline, placement: { policy: "prequal", options: {} } } : pipeline,
    preset,
    reasons
  }
}
