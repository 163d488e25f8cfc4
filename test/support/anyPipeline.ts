import * as fc from "fast-check"
import type { OptionSpec, OptionValue, PolicyChoice } from "../../src/domain/config/pipeline.ts"
import type { Pipeline, PipelineChoice } from "../../src/policies/pipelines.ts"
import type { PolicyEntry } from "../../src/policies/Policy.ts"
import { admissions, batchings, orderings, placements, rescues, rivals } from "../../src/policies/registry.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import type { ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { troubles } from "./troubles.ts"

/** Of an option that has no largest value. */
const LARGEST = 1e9

/** At its ends, where it is by default, or anywhere between, small values as often as large ones. */
const valueOf = (spec: OptionSpec): fc.Arbitrary<OptionValue> => {
  if (spec.kind === "boolean") return fc.boolean()
  if (spec.kind === "choice") return fc.constantFrom(...spec.choices)
  const { default: usual, kind, maximum = LARGEST, minimum = 0 } = spec
  const least = Math.max(minimum, 1e-3)
  const between = fc.double({ min: 0, max: 1, noNaN: true }).map((share) => {
    const value = least * (maximum / least) ** share
    return Math.min(maximum, Math.max(minimum, kind === "integer" ? Math.round(value) : value))
  })
  return fc.oneof(fc.constantFrom(usual, minimum, maximum), between)
}

const chosenFrom = (entries: ReadonlyArray<PolicyEntry<unknown>>): fc.Arbitrary<PolicyChoice> =>
  fc.constantFrom(...entries).chain(({ name, options }) =>
    fc
      .subarray(Object.entries(options))
      .chain((some) => fc.record(Object.fromEntries(some.map(([option, spec]) => [option, valueOf(spec)]))))
      .map((given) => ({ policy: name, options: { ...given } }))
  )

/** Policies of every kind with any options they may have, and with whatever others. */
const anyPipeline: fc.Arbitrary<PipelineChoice> = fc.record({
  admission: fc.oneof(fc.constant([]), fc.array(chosenFrom(admissions), { maxLength: 3 })),
  ordering: chosenFrom(orderings),
  batching: chosenFrom(batchings),
  placement: chosenFrom([...placements, ...rivals]),
  rescue: fc.array(chosenFrom(rescues), { maxLength: 2 }),
  pendingTokensMax: fc.constantFrom(undefined, undefined, 1, 2048)
})

const ACTS_MAX = 200

/** Copies, moves and takes back whatever it may, to wherever: rescues of sense wait for a hundred requests before they act. */
const actingAtRandom = (seed: number, share: number): Rescue => {
  const rng = makeRng(seed)
  let left = ACTS_MAX
  return {
    review: (pool, placed, actions) =>
      placed.unstarted(({ slot }) => {
        if (left === 0 || rng.next() > share) return
        left--
        const worker = rng.int(pool.workers.inFlight.length)
        const act = rng.int(3)
        if (act === 0) actions.hedge(slot, worker)
        else if (act === 1) actions.move(slot, worker)
        else actions.requeue(slot)
      })
  }
}

/** Troubled workers under any pipeline, with rescues that act at random in most. */
export const anyReplays: fc.Arbitrary<ReplayOptions> = fc
  .record({
    options: troubles,
    pipeline: anyPipeline,
    share: fc.constantFrom(0, 0.05, 0.3, 1),
    prefixBytesMax: fc.constantFrom(2 ** 30, 100_000),
    attemptsMax: fc.constantFrom(1, 3)
  })
  .map(({ options, pipeline, share, ...rest }) => ({
    ...options,
    ...rest,
    pipeline,
    adapted: (made: Pipeline) => ({
      ...made,
      rescues: [...made.rescues, actingAtRandom(options.seed, share)],
      rescueNames: [...made.rescueNames, "at random"]
    })
  }))
