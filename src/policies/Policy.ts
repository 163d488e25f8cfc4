import type { OptionSpec, OptionValue } from "../domain/config/pipeline.ts"
import type { Reason } from "../domain/Outcome.ts"
import type { PoolView } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { assert } from "../structures/assert.ts"
import type { Rng } from "../structures/Rng.ts"

/**
 * What a policy hears of its pool, for a memory of its own. All of it is optional, and nobody pays for what no policy asks for.
 *
 * A request is `admitted` once and `ended` once. Each of its attempts is `placed` once, `started` at most once, and `released` once, in
 * this order, and before the next one is `placed`; where it is split, it is `handedOver` at most once, between the first two. What is
 * told has happened: the columns count it already.
 *
 * So a policy may keep one attempt for each request. The copy that a hedge sends is counted in the columns, and not told of until it has
 * outlived the first attempt: then that one is `released`, and the copy `placed`, with the time at which it was sent as `nowMs`.
 */
export interface PolicyEvents {
  readonly admitted?: (request: RequestView, pool: PoolView, nowMs: number) => void
  /** An attempt was charged to a worker; `request.uncachedTokens` is what it is expected to compute there. */
  readonly placed?: (request: RequestView, worker: number, pool: PoolView, nowMs: number) => void
  /** `from` has read the prompt of a split request: the attempt goes on at `worker`, which produces the answer. */
  readonly handedOver?: (
    request: RequestView,
    from: number,
    worker: number,
    pool: PoolView,
    nowMs: number
  ) => void
  /**
   * The first token came, of an attempt that this balancer placed: told before `started`, to those who measure. When a balancer that
   * crashed had placed an attempt, and whether it heard of the first token, is not known.
   */
  readonly timed?: (request: RequestView, worker: number, pool: PoolView, nowMs: number) => void
  /** The first token came. */
  readonly started?: (request: RequestView, worker: number, pool: PoolView, nowMs: number) => void
  /** `tokens` more output tokens were delivered: told ten times a second while a request streams, the rest before `released`. */
  readonly produced?: (request: RequestView, tokens: number, pool: PoolView, nowMs: number) => void
  /** The attempt is over; `reason` is `none` when it was the last and done. */
  readonly released?: (
    request: RequestView,
    worker: number,
    reason: Reason,
    pool: PoolView,
    nowMs: number
  ) => void
  /** The request has its one terminal; `reason` is `none` when it is done. */
  readonly ended?: (request: RequestView, reason: Reason, pool: PoolView, nowMs: number) => void
  /** A heartbeat of `worker` was taken over into the columns. */
  readonly observed?: (worker: number, pool: PoolView, nowMs: number) => void
  /** `worker` may get work from now on, or no longer. */
  readonly changed?: (worker: number, ready: boolean, pool: PoolView, nowMs: number) => void
  /**
   * The speed of `worker` or what is in flight there may have changed, for whatever reason, or whether it is one of `pool.eligible`, which
   * `eligible` says: told before the next decision, so that a policy may keep its workers in an index.
   */
  readonly touched?: (worker: number, eligible: boolean, pool: PoolView) => void
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>

type ValueOf<Spec extends OptionSpec> = Spec extends { readonly choices: ReadonlyArray<infer Choice> }
  ? Choice
  : Spec extends { readonly kind: "boolean" }
    ? boolean
    : number

/** The values a policy's factory receives: every option, of the type its kind says. */
export type OptionValues<Specs extends OptionSpecs> = { readonly [Name in keyof Specs]: ValueOf<Specs[Name]> }

/** What is known about a policy without making it. All texts are shown to users. */
export interface PolicyFacts {
  /** As written in a config: kebab-case, unique among all policies, which `simulate` takes by name alone. */
  readonly name: string
  /** What it is for, in one sentence. */
  readonly summary: string
  /** The exact rule: formula, ties, what happens at the edges. */
  readonly definition: string
  /** Growth of one decision with the number of eligible workers N, or of queued requests. */
  readonly cost: "O(1)" | "O(log N)" | "O(N)" | "O(N log N)"
  /** Paper, RFC or repository file that the rule comes from. */
  readonly source: string
  readonly stability: "stable" | "experimental"
  /** What the pool must keep for it: the prefix index (`match`, `cachedTokens`), the fitted step costs and forecasts. Nothing when left out. */
  readonly uses?: ReadonlyArray<"prefixes" | "forecast">
}

/** A policy that can be made: a line of the registry. `Decision` is the interface of its decision point. */
export interface PolicyEntry<Decision> extends PolicyFacts {
  readonly options: OptionSpecs
  /**
   * Makes a policy with a memory of its own: one per pool. Options that are left out have their defaults; an unknown option or a
   * value outside its range is a broken assertion, because the config decoder has refused it before.
   */
  readonly make: (options: Readonly<Record<string, OptionValue>>, rng: Rng) => Decision
}

/** Why a value does not fit its option, as "must be …", or null when it fits. */
export const optionProblem = (spec: OptionSpec, value: unknown): string | null => {
  switch (spec.kind) {
    case "boolean":
      return typeof value === "boolean" ? null : "must be true or false"
    case "choice":
      return typeof value === "string" && spec.choices.includes(value)
        ? null
        : `must be one of ${spec.choices.join(", ")}`
    default: {
      if (typeof value !== "number" || !Number.isFinite(value)) return "must be a finite number"
      if (spec.kind === "integer" && !Number.isInteger(value)) return "must be a whole number"
      if (spec.minimum !== undefined && value < spec.minimum) return `must be at least ${spec.minimum}`
      if (spec.maximum !== undefined && value > spec.maximum) return `must be at most ${spec.maximum}`
      return null
    }
  }
}

/**
 * The function that defines the policies of one decision point. A policy's `make` receives every option, checked and of the type
 * its spec says. `Facts` may hold more than `PolicyFacts` where laws need to know more.
 */
export const definer =
  <Decision, Facts extends PolicyFacts = PolicyFacts>() =>
  <const Specs extends OptionSpecs>(
    facts: Facts,
    options: Specs,
    make: (options: OptionValues<Specs>, rng: Rng) => Decision
  ): Facts & PolicyEntry<Decision> => ({
    ...facts,
    options,
    make: (given, rng) => make(completed(facts.name, options, given), rng)
  })

const completed = <Specs extends OptionSpecs>(
  policy: string,
  specs: Specs,
  given: Readonly<Record<string, OptionValue>>
): OptionValues<Specs> => {
  for (const name of Object.keys(given)) assert(Object.hasOwn(specs, name), `${policy} has an option ${name}`)
  const values: Record<string, OptionValue> = {}
  for (const [name, spec] of Object.entries(specs)) {
    const value = given[name] ?? spec.default
    const problem = optionProblem(spec, value)
    assert(problem === null, `option ${name} of ${policy} ${problem}`)
    values[name] = value
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every name has a value that fits its spec
  return values as OptionValues<Specs>
}
