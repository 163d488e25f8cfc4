import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import { findOrdering } from "../../src/policies/registry.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { fluidEndsMs, reservedStartsMs, type TimedArrival } from "../support/fluidShares.ts"
import type { Arrival, Workload } from "../support/TokenWorker.ts"
import type { TimedWorkload } from "../support/workloads.ts"
import { plainCounters, plainDeficits, plainTags, plainTurns } from "./plainOrderings.ts"
import type { FairSubject, Tariff } from "./fairnessLaws.ts"

const perWeight = ({ weights }: Workload, f: number, g: number): number => 1 / weights[f]! + 1 / weights[g]!

/** Most that one tenant can be charged between two of its turns. */
const lumpOf = ({ capacityTokens, arrivals }: Workload, { inputPrice, outputPrice }: Tariff): number => {
  const longest = Math.max(...arrivals.map((arrival) => arrival.uncachedTokens))
  return Math.max(
    outputPrice * capacityTokens,
    inputPrice * longest + outputPrice * (capacityTokens - longest)
  )
}

const byTokens = {
  placed: (arrival: Arrival, { inputPrice }: Tariff) => inputPrice * arrival.uncachedTokens,
  token: ({ outputPrice }: Tariff) => outputPrice
}

const declaredCost = ({ maxTokens, promptTokens }: Arrival, { inputPrice, outputPrice }: Tariff): number =>
  Math.max(1, inputPrice * promptTokens + outputPrice * Math.ceil(maxTokens / 2))

const byDeclaration = { placed: declaredCost, token: () => 0 }

const dearestOf = (tenant: number, { arrivals, weights }: Workload, tariff: Tariff): number =>
  Math.max(...arrivals.map((arrival) => (arrival.tenant === tenant ? declaredCost(arrival, tariff) : 0))) /
  weights[tenant]!

/** The dearest request of each tenant but `tenant`, together. */
const dearestOfOthers = (arrivals: ReadonlyArray<TimedArrival>, tenant: number): number => {
  const dearest = new Map<number, number>()
  for (const arrival of arrivals)
    dearest.set(arrival.tenant, Math.max(arrival.cost, dearest.get(arrival.tenant) ?? 0))
  dearest.delete(tenant)
  return [...dearest.values()].reduce((sum, cost) => sum + cost, 0)
}

const oneEachLate = ({ arrivals, weights }: TimedWorkload): ReadonlyArray<number> =>
  fluidEndsMs(arrivals, weights).map((endMs, i) => endMs + dearestOfOthers(arrivals, arrivals[i]!.tenant))

/** The request goes in the turn that covers all its tenant asked for until then; nobody has had more turns. */
const byTurns = ({ arrivals, quantum, weights }: TimedWorkload): ReadonlyArray<number> => {
  const weightMax = Math.max(...arrivals.map(({ tenant }) => weights[tenant]!))
  const shares = weights.map((weight) => Math.max(1, (quantum * weight) / weightMax))
  const asked = weights.map(() => 0)
  const total = weights.map((_, tenant) =>
    arrivals.reduce((sum, arrival) => sum + (arrival.tenant === tenant ? arrival.cost : 0), 0)
  )
  return arrivals.map(({ cost, tenant }) => {
    const turns = Math.ceil((asked[tenant]! += cost) / shares[tenant]!)
    return total.reduce((sum, work, other) => sum + Math.min(work, turns * shares[other]!), 0)
  })
}

const made =
  (policy: string, options: (tariff: Tariff) => Readonly<Record<string, OptionValue>>): FairSubject["make"] =>
  (tariff) =>
    findOrdering(policy).make(options(tariff), makeRng(1))

const pricesOf = ({ inputPrice, outputPrice }: Tariff) => ({ inputPrice, outputPrice })

const byCounters: FairSubject = {
  make: made("virtual-token-counter", pricesOf),
  ...byTokens,
  bound: (workload, tariff, f, g) => lumpOf(workload, tariff) * perWeight(workload, f, g)
}

/** Every policy that shares between tenants, in each of its ways. */
export const fairSubjects = {
  "virtual-token-counter": {
    ...byCounters,
    plain: (tariff) => plainCounters(tariff),
    latestAtOnce: oneEachLate
  },
  "virtual-token-counter, shortest first within a tenant": {
    variant: true,
    ...byCounters,
    make: made("virtual-token-counter", (tariff) => ({ ...pricesOf(tariff), within: "shortest" }))
  },
  "virtual-token-counter, output predicted": {
    variant: true,
    ...byCounters,
    make: made("virtual-token-counter", (tariff) => ({ ...pricesOf(tariff), predict: true })),
    bound: (workload, tariff, f, g) =>
      (lumpOf(workload, tariff) + tariff.outputPrice * workload.capacityTokens) * perWeight(workload, f, g)
  },
  "start-time-fair": {
    make: made("start-time-fair", pricesOf),
    plain: (tariff) => plainTags(tariff),
    ...byDeclaration,
    bound: (workload, tariff, f, g) => dearestOf(f, workload, tariff) + dearestOf(g, workload, tariff),
    latestAtOnce: oneEachLate,
    latestOverTime: ({ arrivals, weights }) =>
      reservedStartsMs(arrivals, weights).map(
        (startMs, i) => startMs + dearestOfOthers(arrivals, arrivals[i]!.tenant) + arrivals[i]!.cost
      )
  },
  "deficit-round-robin": {
    make: made("deficit-round-robin", (tariff) => ({ ...tariff })),
    plain: (tariff) => plainTurns(tariff),
    ...byDeclaration,
    bound: (workload, tariff, f, g) =>
      tariff.quantum / workload.weights[0]! + dearestOf(f, workload, tariff) + dearestOf(g, workload, tariff),
    latestAtOnce: byTurns
  },
  "prefix-fair": {
    make: made("prefix-fair", (tariff) => ({ ...tariff })),
    plain: (tariff) => plainDeficits(tariff),
    ...byTokens,
    bound: (workload, tariff, f, g) =>
      (2 * tariff.quantum) / workload.weights[0]! + lumpOf(workload, tariff) * perWeight(workload, f, g)
  },
  "prefix-fair, deficits by worker": {
    variant: true,
    make: made("prefix-fair", (tariff) => ({ ...tariff, workerQuantum: tariff.quantum })),
    ...byTokens,
    bound: (workload, tariff, f, g) =>
      (2 * tariff.quantum) / workload.weights[0]! + lumpOf(workload, tariff) * perWeight(workload, f, g)
  }
} satisfies Record<string, FairSubject>
