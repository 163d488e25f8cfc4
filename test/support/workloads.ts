import * as fc from "fast-check"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import type { TimedArrival } from "./fluidShares.ts"
import type { Arrival, Workload } from "./TokenWorker.ts"

const TENANTS = 4

interface ArrivalRanges {
  readonly tenant?: fc.Arbitrary<number>
  readonly at: fc.Arbitrary<number>
  readonly promptMax?: number
  readonly outputMax?: number
}

/** Both ends of a range are likely: that is where bounds are met. */
const upTo = (max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.integer({ min: 1, max }), fc.constantFrom(1, max))

const arrival = ({
  at,
  outputMax = 12,
  promptMax = 10,
  tenant = fc.nat(TENANTS - 1)
}: ArrivalRanges): fc.Arbitrary<Arrival> =>
  fc
    .record(
      {
        tenant,
        at,
        promptTokens: upTo(promptMax),
        cached: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
        outputTokens: upTo(outputMax),
        spare: fc.constantFrom(0, 0, 3),
        patience: fc.nat(30)
      },
      { requiredKeys: ["tenant", "at", "promptTokens", "cached", "outputTokens", "spare"] }
    )
    .map(({ cached, spare, ...rest }) => ({
      ...rest,
      uncachedTokens: rest.promptTokens - Math.floor(rest.promptTokens * cached),
      maxTokens: rest.outputTokens + spare
    }))

/** Weights fall from the first tenant on, who comes first, so that the largest weight is known from the start. */
const workload = (
  capacityMax: number,
  ...parts: ReadonlyArray<fc.Arbitrary<ReadonlyArray<Arrival>>>
): fc.Arbitrary<Workload> =>
  fc
    .record({
      weights: fc.array(fc.constantFrom(0.5, 1, 1, 2, 3), { minLength: TENANTS, maxLength: TENANTS }),
      capacityTokens: fc.integer({ min: 25, max: capacityMax }),
      first: arrival({ tenant: fc.constant(0), at: fc.constant(0) }),
      arrivals: fc.tuple(...parts)
    })
    .map(({ capacityTokens, first, arrivals, weights }) => ({
      capacityTokens,
      weights: weights.toSorted((a, b) => b - a),
      arrivals: [first, ...arrivals.flat()].toSorted((a, b) => a.at - b.at)
    }))

/** Everybody has a lot to do from the start, or comes and goes. */
export const contended: fc.Arbitrary<Workload> = workload(
  80,
  fc.array(arrival({ at: fc.oneof(fc.constant(0), fc.constant(0), fc.nat(60)) }), {
    minLength: 40,
    maxLength: 100
  })
)

/** All come at once, with a lot. */
const crowd = (at: number): fc.Arbitrary<ReadonlyArray<Arrival>> =>
  fc.array(arrival({ tenant: fc.constantFrom(0, 1, 1, 2, 2, 3), at: fc.constant(at) }), {
    minLength: 40,
    maxLength: 80
  })

/** For a while one tenant has most of the work, and others come with a little now and then; then all come with a lot. */
const crowdAfterSome: fc.Arbitrary<Workload> = workload(
  40,
  fc.array(arrival({ tenant: fc.constant(1), at: fc.nat(60) }), { minLength: 20, maxLength: 80 }),
  fc.array(arrival({ tenant: fc.constantFrom(2, 2, 3), at: fc.nat(100), promptMax: 1, outputMax: 1 }), {
    maxLength: 40
  }),
  crowd(100)
)

/** For a while one tenant is alone, and never has to wait; then all come with a lot. */
const crowdAfterOne: fc.Arbitrary<Workload> = workload(
  40,
  fc.tuple(
    ...Array.from({ length: 24 }, (_, i) => arrival({ tenant: fc.constant(1), at: fc.constant(16 * i) }))
  ),
  crowd(400)
)

/** Tenants let others work alone before they come. */
export const uneven: fc.Arbitrary<Workload> = fc.oneof(crowdAfterSome, crowdAfterOne)

/**
 * Four equal tenants with more to do than `cost` each, in prices of 1 and 2. The requests of the last are longest, and all come at once.
 */
export const backlog = (cost: number): Workload => ({
  weights: [1, 1, 1, 1],
  capacityTokens: 60,
  arrivals: [0, 1, 2, 3].flatMap((tenant) => {
    const [promptTokens, outputTokens] = [2 + 3 * tenant, 1 + tenant]
    const one = {
      tenant,
      at: 0,
      promptTokens,
      uncachedTokens: promptTokens,
      outputTokens,
      maxTokens: outputTokens
    }
    return Array.from({ length: Math.ceil(cost / (promptTokens + 2 * outputTokens)) }, () => one)
  })
})

/** Requests a step that each of the greedy tenants has: together nearly twice what the worker does besides. */
const GREEDY = 0.16

/** A tenant with half of its share to do, beside three with `factor` times nearly twice theirs. */
export const modestBeside = (factor: number, seed: number, steps: number): Workload => {
  const modest = makeRng(seed)
  const greedy = makeRng(-seed)
  const arrivals: Array<Arrival> = []
  for (let at = 0; at < steps; at++) {
    if (at % 30 === 0) arrivals.push(drawn(modest, 0, at))
    for (const tenant of [1, 2, 3]) {
      for (let demand = greedy.next(); demand < factor * GREEDY; demand++)
        arrivals.push(drawn(greedy, tenant, at))
    }
  }
  return { weights: [1, 1, 1, 1], capacityTokens: 80, arrivals, waitingMax: 2000 }
}

const drawn = (rng: Rng, tenant: number, at: number): Arrival => {
  const promptTokens = 4 + rng.int(16)
  const outputTokens = 4 + rng.int(16)
  return { tenant, at, promptTokens, uncachedTokens: promptTokens, outputTokens, maxTokens: outputTokens }
}

/** What a worker that works on one request at a time has to do. */
export interface TimedWorkload {
  readonly weights: ReadonlyArray<number>
  readonly quantum: number
  readonly arrivals: ReadonlyArray<TimedArrival>
}

const timed = (arrivals: (weights: ReadonlyArray<number>) => fc.Arbitrary<ReadonlyArray<TimedArrival>>) =>
  fc
    .array(fc.constantFrom(1, 1, 2, 4), { minLength: TENANTS, maxLength: TENANTS })
    .chain((weights): fc.Arbitrary<TimedWorkload> =>
      fc.record({
        weights: fc.constant(weights),
        quantum: fc.integer({ min: 4, max: 40 }),
        arrivals: arrivals(weights).map((made) => made.toSorted((a, b) => a.atMs - b.atMs))
      })
    )

const timedArrivals = (atMs: fc.Arbitrary<number>, maxLength: number) =>
  fc.array(fc.record({ tenant: fc.nat(TENANTS - 1), atMs, cost: upTo(20) }), { maxLength })

export const atOnce: fc.Arbitrary<TimedWorkload> = timed(() => timedArrivals(fc.constant(0), 40))

/**
 * One tenant comes as often as its share of the worker allows, or once more after it was long gone; another comes with a lot at once, and
 * others somehow.
 */
export const overTime: fc.Arbitrary<TimedWorkload> = timed((weights) => {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const some = fc.record({ tenant: fc.nat(TENANTS - 1), cost: upTo(20) })
  const burst = fc
    .record({ one: some, atMs: fc.nat(1000), count: fc.nat(40) })
    .map(({ atMs, count, one }) => Array.from({ length: count }, () => ({ ...one, atMs })))
  const paced = fc
    .record({ one: some, count: fc.nat(12), slack: fc.constantFrom(1, 1.5) })
    .map(({ count, one, slack }) =>
      Array.from({ length: count }, (_, i) => ({
        ...one,
        atMs: i * Math.ceil((slack * one.cost * total) / weights[one.tenant]!)
      }))
    )
  const returning = some.map((one) => [{ ...one, atMs: 0 }])
  return fc
    .tuple(burst, fc.oneof(paced, returning), timedArrivals(fc.nat(400), 12), fc.boolean())
    .map(([many, first, others, again]) => {
      const atMs = many[0]?.atMs ?? 0
      const returned = first.slice(0, 1).map((one) => ({ ...one, cost: 1, atMs }))
      return [...many, ...first, ...(again ? returned : others)]
    })
})
