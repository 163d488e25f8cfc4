/*
 * What does one decision of each policy cost, how does it grow with the number of workers, and what does it allocate?
 *
 * `bun run bench:policies` · one core, seed 1. A pool as the balancer has it, with its real prefix index: 64 families of
 * prompts of 256 blocks of which 8 workers each hold a part. Every decision is timed by itself, the lookup in the index included; it is
 * charged, and released 4 N decisions later. What the pool and the policy do when they are told of it is timed by itself too. Every figure has
 * processes of its own, one at a time, so that its code is compiled for what it does alone, as in a balancer: all figures take turns, three
 * of them, since the machine can be slow for seconds, and each is that of the quietest round. The row «nothing» is the price of the clock.
 * Policies that never look at prefixes have one row. Bytes are what the process grew by for each decision, garbage included.
 */
import { memoryUsage } from "bun:jsc"
import { BalancerPool } from "../src/actors/BalancerPool.ts"
import { Charge, WorkerTable } from "../src/actors/WorkerTable.ts"
import type { AdmissionEntry } from "../src/policies/Admission.ts"
import type { OrderingEntry } from "../src/policies/Ordering.ts"
import type { Placement } from "../src/policies/Placement.ts"
import { choiceOf, makePipeline, pipelines } from "../src/policies/pipelines.ts"
import { admissions, orderings, placements, rivals } from "../src/policies/registry.ts"
import { assert } from "../src/structures/assert.ts"
import { PrefixIndex } from "../src/structures/PrefixIndex.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { inner, json, readFlags, someOf } from "./flags.ts"
import { machine, machineText } from "./machine.ts"
import { benchRequests, BLOCK_TOKENS, familyChains, joinWorkers, REQUESTS } from "./pool.ts"

const workerCounts = [4, 64, 1000, 10_000]
const blockCounts = [0, 64, 256]

const chains = familyChains(Math.max(...blockCounts))

/** Requests whose prompts have so many blocks. */
const requestsOf = (blocks: number) =>
  benchRequests(chains, blocks, blocks === 0 ? 500 : blocks * BLOCK_TOKENS)

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
  joinWorkers(workers, count, prefixes, chains, (worker) => pool.setReady(worker, true, 0))
  return pool
}

/** Which of these prompts the budget is for, and how many workers. */
const BUDGET = { workers: 64, blocks: 256, nsP50: 2000, nsP99: 20_000 }
const TURNS = 3
/** Rounds of a turn, and the time they take at least: of those that warm up, until everything is compiled, and of those that count. */
const ROUNDS = 5
const WARM_UP_MS = 300
const MEASURED_MS = 100

interface Figures {
  readonly nsP50: number
  readonly nsP99: number
  /** Of being told of one request. */
  readonly toldNsP50: number
  readonly bytes: number
}

interface Cost extends Figures {
  readonly policy: string
  readonly workers: number
  readonly budgeted: boolean
}

/** What is measured: its i-th decision, and what follows of it. `tell` is timed by itself, `change` is not. */
interface Subject {
  readonly decide: (i: number) => number
  readonly change?: (i: number, result: number) => void
  readonly tell?: (i: number, result: number) => void
}

/** One figure of the table, of so many decisions a round. */
interface Row extends Omit<Cost, keyof Figures> {
  /** The policy as it is registered. */
  readonly name: string
  readonly decisions: number
  readonly subject: () => Subject
}

const nothing = (): void => undefined

/** The least of each figure. */
const quietest = (rounds: ReadonlyArray<Figures>): Figures => {
  const least = (figure: keyof Figures): number => Math.min(...rounds.map((round) => round[figure]))
  return {
    nsP50: least("nsP50"),
    nsP99: least("nsP99"),
    toldNsP50: least("toldNsP50"),
    bytes: least("bytes")
  }
}

const figuresOf = ({ decisions, subject }: Row): Figures => {
  const { decide, change = nothing, tell = nothing } = subject()
  const times = new Float64Array(decisions)
  const toldTimes = new Float64Array(decisions)
  let next = 0
  const round = (): void => {
    for (let at = 0; at < decisions; at++, next++) {
      const startNs = Bun.nanoseconds()
      const result = decide(next)
      const decidedNs = Bun.nanoseconds()
      change(next, result)
      const changedNs = Bun.nanoseconds()
      tell(next, result)
      toldTimes[at] = Bun.nanoseconds() - changedNs
      times[at] = decidedNs - startNs
    }
  }
  const measured = (): Figures => {
    Bun.gc(true)
    const before = memoryUsage().current
    round()
    const bytes = Math.max(0, memoryUsage().current - before) / decisions
    times.sort()
    toldTimes.sort()
    const [nsP50, nsP99] = [times[decisions >> 1]!, times[Math.floor(decisions * 0.99)]!]
    return { nsP50, nsP99, toldNsP50: toldTimes[decisions >> 1]!, bytes }
  }
  repeated(round, WARM_UP_MS)
  return quietest(repeated(measured, MEASURED_MS))
}

/** What it gives each time, for so long. */
const repeated = <A>(run: () => A, forMs: number): ReadonlyArray<A> => {
  const untilNs = Bun.nanoseconds() + forMs * 1e6
  const results: Array<A> = []
  while (results.length < ROUNDS || Bun.nanoseconds() < untilNs) results.push(run())
  return results
}

const placing = (placement: Placement, workers: number, blocks: number): Subject => {
  const pool = makePool(placement, workers)
  const requests = requestsOf(blocks)
  const charges = Array.from({ length: 4 * workers }, () => new Charge())
  let nowMs = 0
  let released = -1
  return {
    decide: (i) => {
      pool.unmatch()
      return placement.pick(requests[i % REQUESTS]!, pool, nowMs)
    },
    change: (i, worker) => {
      nowMs += 1
      const charge = charges[i % charges.length]!
      released = charge.worker
      if (released >= 0) pool.workers.release(charge)
      pool.workers.charge(charge, worker, requests[i % REQUESTS]!.promptTokens, 0, 100, nowMs)
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

const admitting = ({ make }: AdmissionEntry): Subject => {
  const admission = make({}, makeRng(1))
  const requests = requestsOf(64)
  const pool = makePool(nobody, 64)
  const queue = { queuedCount: 10, queuedPromptTokens: 1000, expectedWaitMs: 20, ceiling: () => 1 }
  return {
    decide: (i) => (admission.decide(requests[i % REQUESTS]!, pool, queue, i) === null ? 0 : 1)
  }
}

const ordering = ({ make }: OrderingEntry): Subject => {
  const queue = make({}, makeRng(1))
  const requests = requestsOf(64)
  const pool = makePool(nobody, 64)
  for (const request of requests.slice(0, REQUESTS / 2)) queue.enqueue(request, pool, 0)
  const waiting = requests.slice(REQUESTS / 2)
  return {
    decide: (i) => {
      queue.enqueue(waiting.pop()!, pool, i)
      return queue.next(pool, i)
    },
    change: (_, slot) => void waiting.push(requests[slot]!)
  }
}

const NOTHING = "nothing"
const nobody: Placement = { pick: () => 0 }

const rowsOf = (workers: number): ReadonlyArray<Row> => {
  const decisions = workers > 1000 ? 600 : 4000
  const clock: Row = {
    ...{ name: NOTHING, policy: NOTHING, workers, decisions, budgeted: false },
    subject: () => placing(nobody, workers, 0)
  }
  const placed = [...placements, ...rivals].flatMap(({ name, make, uses = [] }) =>
    (uses.includes("prefixes") ? blockCounts : [256]).map((blocks): Row => ({
      name,
      policy: uses.includes("prefixes") ? `${name}, ${blocks} blocks` : name,
      workers,
      decisions,
      budgeted: workers === BUDGET.workers && blocks === BUDGET.blocks,
      subject: () => placing(make({}, makeRng(1)), workers, blocks)
    }))
  )
  return [clock, ...placed]
}

const otherRow = (name: string, what: string, subject: () => Subject): Row => ({
  ...{ name, policy: `${name} (${what})`, workers: 64, decisions: 4000, budgeted: false },
  subject
})

const rows: ReadonlyArray<Row> = [
  ...workerCounts.flatMap(rowsOf),
  ...admissions.map((entry) => otherRow(entry.name, "admission", () => admitting(entry))),
  ...orderings.map((entry) => otherRow(entry.name, "ordering, 512 queued", () => ordering(entry)))
]

const flags = readFlags({
  only: someOf("policies that are measured, by default all", [...new Set(rows.map(({ name }) => name))]),
  json,
  /** Of a process that measures one row: which. */
  row: inner
})
if (flags.row !== undefined) {
  console.log(JSON.stringify(figuresOf(rows[Number(flags.row)]!)))
  process.exit(0)
}

const inProcess = (row: Row): Figures => {
  const command = [process.execPath, import.meta.path, "--row", String(rows.indexOf(row))]
  const { stdout, success } = Bun.spawnSync(command, { stderr: "inherit" })
  assert(success, `the process of ${row.policy} with ${row.workers} workers gives figures`)
  return JSON.parse(stdout.toString())
}

const wanted = rows.filter(({ name }) => name === NOTHING || flags.only.includes(name))
const turns = Array.from({ length: TURNS }, () => wanted.map(inProcess))
const results = wanted.map(({ policy, workers, budgeted }, i): Cost => ({
  policy,
  workers,
  ...quietest(turns.map((turn) => turn[i]!)),
  budgeted
}))

const on = machine()
if (flags.json) console.log(JSON.stringify({ ...on, results }))
else {
  const isOver = ({ budgeted, nsP50, nsP99 }: Cost): boolean =>
    budgeted && (nsP50 > BUDGET.nsP50 || nsP99 > BUDGET.nsP99)
  console.log(`${machineText(on)} · ns per decision: p50 (p99), + being told of it, bytes\n`)
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
