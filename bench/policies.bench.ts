/*
 * What does one decision of each policy cost, and how does it grow with the number of workers?
 *
 * `bun bench/policies.bench.ts [--json]` · one core, seed 1. Every worker is eligible; each pick is charged and the oldest of 4 N
 * released, so that loads move as they do under traffic; half of the requests belong to a session. The charging is part of the
 * figures: the row «nothing» is its cost alone.
 */
import { execSync } from "node:child_process"
import { cpus } from "node:os"
import { measure } from "mitata"
import type { RequestView } from "../src/domain/RequestView.ts"
import type { Placement } from "../src/policies/Placement.ts"
import { admissions, orderings, placements } from "../src/policies/registry.ts"
import { hash64 } from "../src/structures/hash.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { equalWorkers, oneRequest, poolOf } from "../test/support/pools.ts"

const workerCounts = [4, 64, 1000]
const REQUESTS = 1024

const requests: ReadonlyArray<RequestView> = Array.from({ length: REQUESTS }, (_, slot) => {
  const { high, low } = hash64(`request ${slot}`)
  const session = slot % 2 === 0 ? { sessionHigh: low, sessionLow: high } : {}
  return { ...oneRequest, slot, idHigh: high, idLow: low, arrivedMs: slot, ...session }
})

interface Cost {
  readonly policy: string
  readonly workers: number
  /** Of 1024 decisions in a row, per decision. */
  readonly nsBest: number
  readonly nsP50: number
  readonly nsP99: number
}

const cost = async (policy: string, workers: number, decideAll: () => unknown): Promise<Cost> => {
  const { min, p50, p99 } = await measure(decideAll, { min_cpu_time: 300e6 })
  return { policy, workers, nsBest: min / REQUESTS, nsP50: p50 / REQUESTS, nsP99: p99 / REQUESTS }
}

/** Places all requests once, each charged at once and released when 4 N later ones are placed. */
const placing = (placement: Placement, workers: number): (() => void) => {
  const pool = poolOf(equalWorkers(workers, { inFlight: 0 }))
  const { inFlight } = pool.workers
  const placed = new Int32Array(4 * workers).fill(-1)
  let at = 0
  return () => {
    for (const request of requests) {
      const slot = placement.pick(request, pool, 0)
      const released = placed[at]!
      if (released >= 0) inFlight[released]!--
      inFlight[slot]!++
      placed[at] = slot
      at = at + 1 < placed.length ? at + 1 : 0
    }
  }
}

const results: Array<Cost> = []
for (const workers of workerCounts) {
  results.push(await cost("nothing", workers, placing({ pick: () => 0 }, workers)))
  for (const { name, make } of placements)
    results.push(await cost(name, workers, placing(make({}, makeRng(1)), workers)))
}
for (const { name, make } of admissions) {
  const admission = make({}, makeRng(1))
  const pool = poolOf(equalWorkers(64))
  const queue = { queuedCount: 10, queuedPromptTokens: 1000, expectedWaitMs: 20 }
  let rejected = 0
  results.push(
    await cost(`${name}: decide`, 64, () => {
      for (const request of requests) if (admission.decide(request, pool, queue, 0) !== null) rejected++
      return rejected
    })
  )
}
for (const { name, make } of orderings) {
  const ordering = make({}, makeRng(1))
  const adding = [
    ["enqueue", requests, ordering.enqueue],
    ["requeue, oldest first,", requests, ordering.requeue],
    ["requeue, newest first,", requests.toReversed(), ordering.requeue]
  ] as const
  for (const [how, inOrder, add] of adding)
    results.push(
      await cost(`${name}: ${how} and next`, 0, () => {
        for (const request of inOrder) add(request, 0)
        while (ordering.next(0) >= 0);
      })
    )
}

const machine = {
  cpu: cpus()[0]?.model,
  bun: Bun.version,
  commit: execSync("git rev-parse --short HEAD").toString().trim()
}
if (process.argv.includes("--json")) console.log(JSON.stringify({ ...machine, results }))
else {
  console.log(
    `${machine.cpu} · Bun ${machine.bun} · commit ${machine.commit} · ns per decision: median (best, p99) of 1024 in a row\n`
  )
  console.log(
    [
      "policy".padEnd(38),
      ...workerCounts.map((count) => `N = ${count}`.padStart(26)),
      "growth".padStart(10)
    ].join("")
  )
  const byPolicy = Map.groupBy(results, ({ policy }) => policy)
  for (const [policy, costs] of byPolicy) {
    const cells = costs.map(({ nsBest, nsP50, nsP99 }) =>
      `${nsP50.toFixed(1)} (${nsBest.toFixed(1)}, ${nsP99.toFixed(1)})`.padStart(26)
    )
    const [middle, last] = [costs.at(-2), costs.at(-1)!]
    // The exponent of the growth between the last two sizes: 0 is constant, 1 linear.
    const growth =
      middle === undefined
        ? ""
        : (Math.log(last.nsBest / middle.nsBest) / Math.log(last.workers / middle.workers)).toFixed(2)
    console.log([policy.padEnd(38), ...cells, growth.padStart(10)].join(""))
  }
}
