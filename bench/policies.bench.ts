/*
 * What does one decision of each policy cost, how does it grow with the number of workers, and what does it allocate?
 *
 * `bun run bench:policies [--only NAME,NAME] [--json]` · one core, seed 1. A pool as the balancer has it, with its real prefix index: 64 families of
 * prompts of 256 blocks of which 8 workers each hold a part. Every decision is timed by itself, the lookup in the index included; it is
 * charged, and released 4 N decisions later. What the pool and the policy do when they are told of it is timed by itself too. All rows of
 * one number of workers take turns, five rounds of them, and each figure is that of the quietest round. The row «nothing» is the price of
 * the clock. Policies that never look at prefixes have one row. Bytes are what the process grew by for each decision, garbage included.
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
    const session = slot % 4 === 0 ? {} : { sessionHigh: low, sessionLow: high }
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

/** Which of these prompts the budget is for, and how many workers. */
const BUDGET = { workers: 64, blocks: 256, nsP50: 2000, nsP99: 20_000 }
const ROUNDS = 5

interface Cost {
  readonly policy: string
  readonly workers: number
  readonly nsP50: number
  readonly nsP99: number
  /** Of being told of one request. */
  readonly toldNsP50: number
  readonly bytes: number
  readonly budgeted: boolean
}

/** A row: its i-th decision, and what follows of it. `tell` is timed by itself, `change` is not. */
interface Subject {
  readonly policy: string
  readonly workers: number
  readonly budgeted?: boolean
  readonly decide: (i: number) => number
  readonly change?: (i: number, result: number) => void
  readonly tell?: (i: number, result: number) => void
}

const nothing = (): void => undefined

/** The cost of each subject, in turns. */
const costsOf = (subjects: ReadonlyArray<Subject>, decisions: number): ReadonlyArray<Cost> => {
  const times = new Float64Array(decisions)
  const toldTimes = new Float64Array(decisions)
  const round = ({ decide, change = nothing, tell = nothing }: Subject, first: number): void => {
    for (let i = 0; i < decisions; i++) {
      const startNs = Bun.nanoseconds()
      const result = decide(first + i)
      const decidedNs = Bun.nanoseconds()
      change(first + i, result)
      const changedNs = Bun.nanoseconds()
      tell(first + i, result)
      toldTimes[i] = Bun.nanoseconds() - changedNs
      times[i] = decidedNs - startNs
    }
  }
  const rounds = subjects.map((): Array<Pick<Cost, "nsP50" | "nsP99" | "toldNsP50" | "bytes">> => [])
  for (const subject of subjects) for (let i = 0; i < ROUNDS; i++) round(subject, i * decisions)
  for (let number = 0; number < ROUNDS; number++)
    for (const [i, subject] of subjects.entries()) {
      Bun.gc(true)
      const before = memoryUsage().current
      round(subject, (ROUNDS + number) * decisions)
      const bytes = Math.max(0, memoryUsage().current - before) / decisions
      times.sort()
      toldTimes.sort()
      const nsP99 = times[Math.floor(decisions * 0.99)]!
      rounds[i]!.push({ nsP50: times[decisions >> 1]!, nsP99, toldNsP50: toldTimes[decisions >> 1]!, bytes })
    }
  return subjects.map(({ policy, workers, budgeted = false }, i) => {
    const least = (figure: (of: (typeof rounds)[0][0]) => number): number =>
      Math.min(...rounds[i]!.map(figure))
    return {
      policy,
      workers,
      budgeted,
      nsP50: least(({ nsP50 }) => nsP50),
      nsP99: least(({ nsP99 }) => nsP99),
      toldNsP50: least(({ toldNsP50 }) => toldNsP50),
      bytes: least(({ bytes }) => bytes)
    }
  })
}

const placing = (policy: string, placement: Placement, workers: number, blocks: number): Subject => {
  const pool = makePool(placement, workers)
  const requests = requestsOf(blocks)
  const charges = Array.from({ length: 4 * workers }, () => new Charge())
  let nowMs = 0
  let released = -1
  return {
    policy,
    workers,
    budgeted: workers === BUDGET.workers && blocks === BUDGET.blocks,
    decide: (i) => {
      pool.unmatch()
      return placement.pick(requests[i % REQUESTS]!, pool, nowMs)
    },
    change: (i, worker) => {
      nowMs += 1
      const charge = charges[i % charges.length]!
      released = charge.worker
      if (released >= 0) pool.workers.release(charge)
      pool.workers.charge(charge, worker, requests[i % REQUESTS]!.promptTokens, 0, 100)
    },
    tell: (i, worker) => {
      const request = requests[i % REQUESTS]!
      if (released >= 0) pool.refresh(released)
      pool.refresh(worker)
      placement.placed?.(request, worker, pool, nowMs)
      placement.started?.(request, worker, pool, nowMs)
      placement.released?.(request, worker, 0, pool, nowMs)
      if (i % 64 === 0) placement.observed?.(i % workers, pool, nowMs)
    }
  }
}

const only = process.argv.includes("--only")
  ? new Set(process.argv[process.argv.indexOf("--only") + 1]?.split(","))
  : undefined
const isWanted = (name: string): boolean => only === undefined || only.has(name)

const results: Array<Cost> = []
for (const workers of workerCounts) {
  const subjects = [placing("nothing", { pick: () => 0 }, workers, 0)]
  for (const { name, make, uses = [] } of [...placements, ...rivals].filter((entry) => isWanted(entry.name)))
    for (const blocks of uses.includes("prefixes") ? blockCounts : [256]) {
      const label = uses.includes("prefixes") ? `${name}, ${blocks} blocks` : name
      subjects.push(placing(label, make({}, makeRng(1)), workers, blocks))
    }
  results.push(...costsOf(subjects, workers > 1000 ? 600 : 4000))
}
const requests = requestsOf(64)
const others: Array<Subject> = []
for (const { name, make } of admissions.filter((entry) => isWanted(entry.name))) {
  const admission = make({}, makeRng(1))
  const pool = makePool({ pick: () => 0 }, 64)
  const queue = { queuedCount: 10, queuedPromptTokens: 1000, expectedWaitMs: 20 }
  others.push({
    policy: `${name} (admission)`,
    workers: 64,
    decide: (i) => (admission.decide(requests[i % REQUESTS]!, pool, queue, i) === null ? 0 : 1)
  })
}
for (const { name, make } of orderings.filter((entry) => isWanted(entry.name))) {
  const ordering = make({}, makeRng(1))
  const pool = makePool({ pick: () => 0 }, 64)
  for (const request of requests.slice(0, REQUESTS / 2)) ordering.enqueue(request, pool, 0)
  const waiting = requests.slice(REQUESTS / 2)
  others.push({
    policy: `${name} (ordering, 512 queued)`,
    workers: 64,
    decide: (i) => {
      ordering.enqueue(waiting.pop()!, pool, i)
      return ordering.next(pool, i)
    },
    change: (_, slot) => void waiting.push(requests[slot]!)
  })
}
results.push(...costsOf(others, 4000))

const machine = {
  cpu: cpus()[0]?.model,
  bun: Bun.version,
  commit: execSync("git rev-parse --short HEAD").toString().trim()
}
if (process.argv.includes("--json")) console.log(JSON.stringify({ ...machine, results }))
else {
  const isOver = ({ budgeted, nsP50, nsP99 }: Cost): boolean =>
    budgeted && (nsP50 > BUDGET.nsP50 || nsP99 > BUDGET.nsP99)
  console.log(
    `${machine.cpu} · Bun ${machine.bun} · commit ${machine.commit} · ns per decision: p50 (p99), + being told of it, bytes\n`
  )
  console.log(
    [
      "policy".padEnd(40),
      ...workerCounts.map((count) => `N = ${count}`.padStart(29)),
      "growth".padStart(8)
    ].join("")
  )
  for (const [policy, costs] of Map.groupBy(results, (each) => each.policy)) {
    const cells = workerCounts.map((count) => {
      const found = costs.find(({ workers }) => workers === count)
      if (found === undefined) return "".padStart(29)
      const mark = isOver(found) ? " ✗" : ""
      const [p50, p99, told, bytes] = [found.nsP50, found.nsP99, found.toldNsP50, found.bytes].map((each) =>
        each.toFixed(0)
      )
      return `${p50} (${p99}) + ${told}, ${bytes}${mark}`.padStart(29)
    })
    const middle = costs.find(({ workers }) => workers === 64)
    const last = costs.at(-1)!
    // The exponent of the growth from 64 workers to the most: 0 is constant, 1 linear.
    const growth =
      middle === undefined || last.workers === 64
        ? ""
        : (Math.log(last.nsP50 / middle.nsP50) / Math.log(last.workers / 64)).toFixed(2)
    console.log([policy.padEnd(40), ...cells, growth.padStart(8)].join(""))
  }
  const over = results.filter(isOver)
  console.log(
    `\nbudget at ${BUDGET.workers} workers with ${BUDGET.blocks} blocks: p50 ≤ ${BUDGET.nsP50} ns, p99 ≤ ${BUDGET.nsP99} ns: ` +
      (over.length === 0 ? "all within" : `${over.map(({ policy }) => policy).join("; ")} above`)
  )
}
