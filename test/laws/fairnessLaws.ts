import { expect } from "bun:test"
import * as fc from "fast-check"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { shared } from "../support/arbitraries.ts"
import { endsMs, type Arrival, runWorker, type Workload } from "../support/TokenWorker.ts"
import {
  atOnce,
  backlog,
  contended,
  modestBeside,
  overTime,
  type TimedWorkload,
  uneven
} from "../support/workloads.ts"

/** What tokens cost in a run, and what a turn or round is worth. */
export interface Tariff {
  readonly inputPrice: number
  readonly outputPrice: number
  readonly quantum: number
}

/** When each request has ended at the latest, on a worker that works on one at a time. */
type Latest = (workload: TimedWorkload) => ReadonlyArray<number>

/** An ordering that shares between tenants, and what it promises about it. */
export interface FairSubject {
  readonly make: (tariff: Tariff) => Ordering
  /** The same by its definition, however slow. */
  readonly plain?: (tariff: Tariff) => Ordering
  /** What a request counts as service when it is placed, and for each token it is given. */
  readonly placed: (arrival: Arrival, tariff: Tariff) => number
  readonly token: (tariff: Tariff) => number
  /** Most that the services, per weight, of two tenants that wait all the while may differ by. */
  readonly bound: (workload: Workload, tariff: Tariff, f: number, g: number) => number
  /** Another way of a policy: its bound is another, and the rest is seen in the first. */
  readonly variant?: true
  /** For requests that all come at once. Left out where nothing is promised. */
  readonly latestAtOnce?: Latest
  /** For requests that come at any time. */
  readonly latestOverTime?: Latest
}

/** A statement about ordering policies that share. */
export interface FairnessLaw {
  readonly id: string
  readonly statement: string
  /** Which subjects it is about; all when left out. */
  readonly applies?: (subject: FairSubject) => boolean
  /** Throws where it does not hold. Returns the largest share of the bound that was used, where it is about one. */
  readonly check: (subject: FairSubject) => number | void
}

const tariffs: fc.Arbitrary<Tariff> = fc.record({
  inputPrice: fc.integer({ min: 0, max: 4 }),
  outputPrice: fc.integer({ min: 1, max: 4 }),
  quantum: fc.integer({ min: 8, max: 40 })
})

const usual: Tariff = { inputPrice: 1, outputPrice: 2, quantum: 40 }

/**
 * Runs a workload and returns the largest difference of services, per weight, of two tenants over any time in which both wait, as a share
 * of its bound.
 */
const worstShare = (subject: FairSubject, workload: Workload, tariff: Tariff): number => {
  const { weights } = workload
  const service = weights.map(() => 0)
  const pairs = weights.flatMap((_, g) =>
    weights.slice(0, g).map((__, f) => ({
      f,
      g,
      bound: subject.bound(workload, tariff, f, g),
      /** Of the differences since both wait; NaN while one does not. */
      least: Number.NaN,
      most: Number.NaN
    }))
  )
  const pairsOf = weights.map((_, tenant) => pairs.filter(({ f, g }) => f === tenant || g === tenant))
  let worst = 0
  const sample = (tenant: number, waiting: Int32Array): void => {
    for (const pair of pairsOf[tenant]!) {
      const { bound, f, g } = pair
      if (waiting[f] === 0 || waiting[g] === 0) continue
      const difference = service[f]! / weights[f]! - service[g]! / weights[g]!
      if (!(pair.least <= difference)) pair.least = difference
      if (!(pair.most >= difference)) pair.most = difference
      worst = Math.max(worst, (pair.most - pair.least) / bound)
    }
  }
  const serve = (tenant: number, amount: number, waiting: Int32Array): void => {
    sample(tenant, waiting)
    service[tenant]! += amount
    sample(tenant, waiting)
  }
  runWorker(subject.make(tariff), workload, {
    placed: (arrival, _step, waiting) => serve(arrival.tenant, subject.placed(arrival, tariff), waiting),
    produced: ({ tenant }, waiting) => serve(tenant, subject.token(tariff), waiting),
    idle: (tenant) => {
      for (const pair of pairsOf[tenant]!) pair.least = pair.most = Number.NaN
    }
  })
  return worst
}

/** Workloads of about a hundred requests, drawn once: that is most of what they cost. */
const priced = (workloads: fc.Arbitrary<Workload>, numRuns: number) =>
  shared(fc.record({ workload: workloads, tariff: tariffs }), numRuns)

const contendedOnes = priced(contended, 600)
const unevenOnes = priced(uneven, 800)

const withinBound =
  (workloads: typeof contendedOnes) =>
  (subject: FairSubject): number => {
    let worst = 0
    workloads(({ workload, tariff }) => {
      const share = worstShare(subject, workload, tariff)
      worst = Math.max(worst, share)
      // A counter is a sum of quotients, so it is exact to some 10⁻¹⁵ of itself.
      expect(share).toBeLessThanOrEqual(1 + 1e-9)
    })
    return worst
  }

/** Prices at which a counter is far from where it began after some requests. */
const FAR = 2 ** 12

/** Workloads with weights of which every quotient is exact, so that the order of additions changes nothing. */
const exactOnes = priced(
  fc.oneof(contended, uneven).map((workload): Workload => ({
    ...workload,
    weights: workload.weights.map((weight) => (weight === 3 ? 4 : weight))
  })),
  100
)

/** The requests of a workload, in the order in which they are placed. */
const placedOrder = (ordering: Ordering, workload: Workload): ReadonlyArray<number> => {
  const order: Array<number> = []
  runWorker(ordering, workload, { placed: (arrival) => void order.push(workload.arrivals.indexOf(arrival)) })
  return order
}

/** Whether two orderings place the requests of every workload in one order. */
const sameOrder = (first: FairSubject["make"], second: FairSubject["make"]): void =>
  exactOnes(({ workload, tariff }) =>
    expect(placedOrder(first(tariff), workload)).toEqual(placedOrder(second(tariff), workload))
  )

/** Services of equal tenants when one of them is about to have nothing left to do, or all have more than `enough`. */
const servicesOf = (subject: FairSubject, workload: Workload, enough: number): ReadonlyArray<number> => {
  const service = workload.weights.map(() => 0)
  let reached: ReadonlyArray<number> = service
  runWorker(subject.make(usual), workload, {
    placed: (arrival, _step, waiting) => {
      service[arrival.tenant]! += subject.placed(arrival, usual)
      if (Math.min(...waiting) > 0 && Math.min(...reached) < enough) reached = [...service]
    },
    produced: ({ tenant }) => void (service[tenant]! += subject.token(usual))
  })
  return reached
}

const ISOLATION_SEEDS = 6
const ISOLATION_STEPS = 6_000

/** Steps that 99 % of the requests of a tenant wait at most that has half its share to do, beside others with `factor` times theirs. */
const modestWaitP99 = (subject: FairSubject, factor: number): number => {
  const waits: Array<number> = []
  for (let seed = 1; seed <= ISOLATION_SEEDS; seed++)
    runWorker(
      subject.make(usual),
      modestBeside(factor, seed, ISOLATION_STEPS),
      { placed: ({ at, tenant }, step) => void (tenant === 0 && waits.push(step - at)) },
      ISOLATION_STEPS
    )
  return waits.toSorted((a, b) => a - b)[Math.floor(waits.length * 0.99)]!
}

const atOnceOnes = shared(atOnce)
const overTimeOnes = shared(overTime)

const endsInTime = (
  subject: FairSubject,
  workloads: typeof atOnceOnes,
  joint: boolean,
  latest: Latest
): void =>
  workloads((workload) => {
    const ordering = subject.make({ inputPrice: 1, outputPrice: 0, quantum: workload.quantum })
    const ends = endsMs(ordering, workload, joint)
    for (const [i, latestMs] of latest(workload).entries())
      expect(ends[i]).toBeLessThanOrEqual(latestMs + 1e-6)
  })

export const fairnessLaws: ReadonlyArray<FairnessLaw> = [
  {
    id: "fair-definition",
    statement: "gives requests out in the order of its definition, written down plainly",
    applies: ({ plain }) => plain !== undefined,
    check: (subject) => sameOrder(subject.make, subject.plain!)
  },
  {
    id: "fair-prices",
    statement:
      "prices and quantum times a power of two give the same order: counters stay exact however far they have come",
    applies: ({ variant }) => variant !== true,
    check: ({ make }) =>
      sameOrder(make, ({ inputPrice, outputPrice, quantum }) =>
        make({ inputPrice: inputPrice * FAR, outputPrice: outputPrice * FAR, quantum: quantum * FAR })
      )
  },
  {
    id: "fair-bound",
    statement:
      "over any time in which two tenants wait, their services per weight differ by no more than the policy's bound",
    check: withinBound(contendedOnes)
  },
  {
    id: "fair-no-banking",
    statement:
      "the same holds from when tenants come with a lot that had little to do: idle time earns nothing",
    applies: ({ variant }) => variant !== true,
    check: withinBound(unevenOnes)
  },
  {
    id: "fair-jain",
    statement:
      "equal tenants that wait until each has 100 of the largest lumps of service share equally: Jain's index is at least 0.99",
    applies: ({ variant }) => variant !== true,
    check: (subject) => {
      const workload = backlog(60_000)
      const enough = 50 * subject.bound(workload, usual, 0, 1)
      const services = servicesOf(subject, workload, enough)
      const sum = services.reduce((total, each) => total + each, 0)
      const squares = services.reduce((total, each) => total + each * each, 0)
      expect(sum ** 2 / (services.length * squares)).toBeGreaterThanOrEqual(0.99)
      expect(Math.min(...services)).toBeGreaterThanOrEqual(enough)
    }
  },
  {
    id: "fair-isolation",
    statement:
      "ten times the demand of others changes the p99 wait of a tenant below its share by less than 10 % (seeds fixed)",
    applies: ({ variant }) => variant !== true,
    check: (subject) => {
      const usually = modestWaitP99(subject, 1)
      expect(usually).toBeGreaterThan(0)
      expect(Math.abs(modestWaitP99(subject, 10) / usually - 1)).toBeLessThan(0.1)
    }
  },
  {
    id: "fair-fluid",
    statement:
      "requests that come at once end, one at a time, no later than the policy's bound after they would if all tenants were served at once",
    applies: ({ latestAtOnce }) => latestAtOnce !== undefined,
    check: (subject) => endsInTime(subject, atOnceOnes, true, subject.latestAtOnce!)
  },
  {
    id: "fair-reserved",
    statement:
      "requests end no later than the policy's bound after they would begin if their tenant had its share of the worker to itself",
    applies: ({ latestOverTime }) => latestOverTime !== undefined,
    check: (subject) => endsInTime(subject, overTimeOnes, false, subject.latestOverTime!)
  }
]
