/*
 * What does one decision of each policy cost, how does it grow with the number of workers, and what does it allocate?
 *
 * `bun run bench:policies [--only NAME,NAME] [--json]` · one core, seed 1. A pool as the balancer has it, with its real prefix index: 64 families of
 * prompts of 256 blocks of which 8 workers each hold a part. Every decision is timed by itself, the lookup in the index included; it is
 * charged, untimed, and released 4 N decisions later. The row «nothing» is the price of the clock. Policies that never look at prefixes have
 * one row. Bytes are what the process grew by over all decisions of a row, garbage included.
 */
import { memoryUsage } from "bun:jsc"
import { execSync } from "node:child_process"
import { cpus } from "node:os"
import { BalancerPool } from "../src/actors/BalancerPool.ts"
import { Charge, WorkerTable } from "../src/actors/WorkerTable.ts"
import type { Placement } from "../src/policies/Placement.ts"
import { choiceOf, makePipeline, pipelines } from "../src/policies/pipelines.ts"
import { admissions, orderings, placements, rivals } from "../src/policies/registry.ts"
import { hash64, mix } from "../src/structures/hash.ts"
import { PrefixIndex } from "../src/structures/PrefixIndex.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { oneRequest } from "../test/support/pools.ts"

const workerCounts = [4, 64, 1000, 10_000]
const blockCounts = [0, 64, 256]
const FAMILIES = 64
const HOLDERS = 8
const REQUESTS = 1024
const BLOCK_TOKENS = 256

const familyChain = (family: number) => {
  const numbers = Array.from({ length: Math.max(...blockCounts) }, (_, block) => family * 1000 + block)
  return {
    count: numbers.length,
    high: Uint32Array.from(numbers, (number) => mix(1, 0, number)),
    low: Uint32Array.from(numbers, (number) => mix(2, 0, number))
  }
}
const chains = Array.from({ length: FAMILIES }, (_, family) => familyChain(family))

/** Requests whose prompts have so many blocks. */
const requestsOf = (blocks: number) =>
  Array.from({ length: REQUESTS }, (_, slot) => {
    const { high, low } = hash64(`request ${slot}`)
    const session = slot % 2 === 0 ? { sessionHigh: low, sessionLow: high } : {}
    const promptTokens = blocks === 0 ? 500 : blocks * BLOCK_TOKENS
    return {
      ...oneRequest,
      slot,
      idHigh: high,
      idLow: low,
      promptTokens,
      uncachedTokens: promptTokens,
      tenant: slot % 16,
      chain: { ...chains[slot % FAMILIES]!, count: blocks },
      ...session
    }
  })

const makePool = (placement: Placement, count: number): BalancerPool => {
  const workers = new WorkerTable(count)
  const prefixes = new PrefixIndex({ workersMax: count, bytesMax: 2 ** 28 })
  const pool = new BalancerPool({
    workers,
    policies: {
      ...makePipeline(choiceOf(pipelines.simple), makeRng(1)),
      placement,
      usesPrefixes: true,
      usesForecast: true
    },
    prefixes,
    blockTokens: BLOCK_TOKENS
  })
  for (let worker = 0; worker < count; worker++) {
    const { high, low } = hash64(`worker-${worker}`)
    workers.keyHigh[worker] = high
    workers.keyLow[worker] = low
    workers.capacity[worker] = 1024
    workers.ratedSpeed[worker] = 1
    workers.kvCapacityTokens[worker] = 467_000
    workers.joined(worker, -1e9)
    pool.setReady(worker, true, 0)
  }
  const rng = makeRng(3)
  for (const chain of chains)
    for (let holder = 0; holder < Math.min(HOLDERS, count); holder++)
      prefixes.stored(rng.int(count), 0, 0, chain, 0, 1 + rng.int(chain.count))
  return pool
}

interface Cost {
  readonly policy: string
  readonly workers: number
  readonly nsP50: number
  readonly nsP99: number
  readonly bytes: number
}

/** Times `decide(i)` one by one; `after` is not timed. */
const cost = (
  policy: string,
  workers: number,
  count: number,
  decide: (i: number) => number,
  after: (i: number, result: number) => void
): Cost => {
  const run = (times: Float64Array): void => {
    for (let i = 0; i < times.length; i++) {
      const startNs = Bun.nanoseconds()
      const result = decide(i)
      times[i] = Bun.nanoseconds() - startNs
      after(i, result)
    }
  }
  run(new Float64Array(Math.max(2000, count)))
  const times = new Float64Array(count)
  Bun.gc(true)
  const before = memoryUsage().current
  run(times)
  const bytes = Math.max(0, memoryUsage().current - before) / count
  times.sort()
  return { policy, workers, nsP50: times[count >> 1]!, nsP99: times[Math.floor(count * 0.99)]!, bytes }
}

const placing = (policy: string, placement: Placement, workers: number, blocks: number): Cost => {
  const pool = makePool(placement, workers)
  const requests = requestsOf(blocks)
  const charges = Array.from({ length: 4 * workers }, () => new Charge())
  let nowMs = 0
  return cost(
    policy,
    workers,
    workers > 1000 ? 3000 : 20_000,
    (i) => {
      pool.unmatch()
      return placement.pick(requests[i % REQUESTS]!, pool, nowMs)
    },
    (i, worker) => {
      nowMs += 1
      const request = requests[i % REQUESTS]!
      const charge = charges[i % charges.length]!
      if (charge.worker >= 0) pool.workers.release(charge)
      pool.workers.charge(charge, Math.max(0, worker), request.promptTokens, 0, 100)
      placement.placed?.(request, Math.max(0, worker), pool, nowMs)
      placement.started?.(request, Math.max(0, worker), pool, nowMs)
      placement.released?.(request, Math.max(0, worker), 0, pool, nowMs)
      if (i % 64 === 0) placement.observed?.(i % workers, pool, nowMs)
    }
  )
}

const only = process.argv.includes("--only")
  ? new Set(process.argv[process.argv.indexOf("--only") + 1]?.split(","))
  : undefined
const isWanted = (name: string): boolean => only === undefined || only.has(name)

const results: Array<Cost> = []
for (const workers of workerCounts) {
  results.push(placing("nothing", { pick: () => 0 }, workers, 0))
  for (const { name, make, uses = [] } of [...placements, ...rivals].filter((entry) => isWanted(entry.name)))
    for (const blocks of uses.includes("prefixes") ? blockCounts : [256]) {
      const label = uses.includes("prefixes") ? `${name}, ${blocks} blocks` : name
      results.push(placing(label, make({}, makeRng(1)), workers, blocks))
    }
}
const requests = requestsOf(64)
for (const { name, make } of admissions.filter((entry) => isWanted(entry.name))) {
  const admission = make({}, makeRng(1))
  const pool = makePool({ pick: () => 0 }, 64)
  const queue = { queuedCount: 10, queuedPromptTokens: 1000, expectedWaitMs: 20 }
  results.push(
    cost(
      `${name} (admission)`,
      64,
      20_000,
      (i) => (admission.decide(requests[i % REQUESTS]!, pool, queue, i) === null ? 0 : 1),
      () => undefined
    )
  )
}
for (const { name, make } of orderings.filter((entry) => isWanted(entry.name))) {
  const ordering = make({}, makeRng(1))
  const pool = makePool({ pick: () => 0 }, 64)
  for (const request of requests.slice(0, REQUESTS / 2)) ordering.enqueue(request, pool, 0)
  const waiting = requests.slice(REQUESTS / 2)
  results.push(
    cost(
      `${name} (ordering, 512 queued)`,
      64,
      20_000,
      (i) => {
        ordering.enqueue(waiting.pop()!, pool, i)
        return ordering.next(pool, i)
      },
      (_, slot) => waiting.push(requests[slot]!)
    )
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
    `${machine.cpu} · Bun ${machine.bun} · commit ${machine.commit} · ns per decision: p50 (p99), bytes\n`
  )
  console.log(
    [
      "policy".padEnd(44),
      ...workerCounts.map((count) => `N = ${count}`.padStart(24)),
      "growth".padStart(9)
    ].join("")
  )
  for (const [policy, costs] of Map.groupBy(results, (each) => each.policy)) {
    const cells = workerCounts.map((count) => {
      const found = costs.find(({ workers }) => workers === count)
      return (
        found === undefined
          ? ""
          : `${found.nsP50.toFixed(0)} (${found.nsP99.toFixed(0)}), ${found.bytes.toFixed(0)}`
      ).padStart(24)
    })
    const middle = costs.find(({ workers }) => workers === 64)
    const last = costs.at(-1)!
    // The exponent of the growth from 64 workers to the most: 0 is constant, 1 linear.
    const growth =
      middle === undefined || last.workers === 64
        ? ""
        : (Math.log(last.nsP50 / middle.nsP50) / Math.log(last.workers / 64)).toFixed(2)
    console.log([policy.padEnd(44), ...cells, growth.padStart(9)].join(""))
  }
}
