/*
 * How fast does virtual time pass, and what does an event cost as the number of workers grows?
 *
 * `bun run bench:replay` · one core, seed 1. First made-up traffic, as much for each worker whatever their number, under a
 * placement that looks at two workers and under the default pipeline. It has as many requests in every row, and so lasts for 30 seconds on
 * most workers and longer on fewer: what differs is the number of workers alone. Of some rounds the one with the median of processor time
 * counts, the first apart, in which code is compiled; making the workers does not count. One more round, which does not count either, asks how
 * long admission and placement take. Then servegen-large-a on 16 workers under both, once, where it is found.
 * Processor time is what the process used, the collector's other threads included; it says more than the time on the wall where others
 * work on the same machine. An event is an arrival, a step of an engine, a message, a heartbeat or a tick; a step makes a token for each
 * sequence of its batch.
 */
import { existsSync } from "node:fs"
import { presets } from "../src/engines/simulated/CostModel.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../src/policies/pipelines.ts"
import { DecisionTime } from "../src/simulator/replay/DecisionTime.ts"
import { generateTraffic } from "../src/simulator/replay/generate.ts"
import { Replay, replay } from "../src/simulator/replay/Replay.ts"
import { type Workload, workloadOf } from "../src/simulator/replay/Workload.ts"
import { traceOf } from "../test/support/traceOf.ts"
import { readFlags, text } from "./flags.ts"
import { machine, machineText } from "./machine.ts"

const PER_WORKER_SECOND = 4
const REQUESTS = 120_000
const ROUNDS = 5
const SECONDS_MAX = 20
const workerCounts = [8, 64, 256, 1000]
const flags = readFlags({
  trace: text("what is replayed at the end", "FILE", "../shared/traces/traces/servegen-large-a.jsonl.gz")
})

const two: PipelineChoice = { ...choiceOf(pipelines.simple), admission: [] }
const contenders = [
  ["power-of-two", two],
  ["default", choiceOf(pipelines.default)]
] as const

const workersOf = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ name: `worker-${i}`, preset: presets["8b-h100"] }))

/** As much a second for each worker, whatever their number. */
const trafficFor = (workers: number): Workload =>
  workloadOf([
    generateTraffic({
      seed: 1,
      requests: REQUESTS,
      requestsPerSecond: PER_WORKER_SECOND * workers,
      promptTokens: { mean: 1000, variation: 1 },
      outputTokens: { mean: 100, variation: 1 },
      sharedPrefix: { count: 20, tokens: 1024, share: 0.5 }
    })
  ])

interface Measured {
  readonly cpuS: number
  readonly wallS: number
  readonly events: number
  readonly tokens: number
  readonly done: number
}

const measure = (workload: Workload, workers: number, pipeline: PipelineChoice): Measured => {
  const made = new Replay({ workload, workers: workersOf(workers), pipeline, seed: 1 })
  const cpuBefore = process.cpuUsage()
  const wallBefore = performance.now()
  const result = made.run()
  const wallS = (performance.now() - wallBefore) / 1e3
  const { system, user } = process.cpuUsage(cpuBefore)
  const tokens = result.workers.reduce((sum, { outputTokens }) => sum + outputTokens, 0)
  return { cpuS: (user + system) / 1e6, wallS, events: result.events, tokens, done: result.totals.done }
}

/** How long admission and placement take, in ns for each event. */
const decisionNs = (workload: Workload, workers: number, pipeline: PipelineChoice): number => {
  const time = new DecisionTime()
  const { adapted } = time
  const { events } = replay({ workload, workers: workersOf(workers), pipeline, seed: 1, adapted })
  return time.ns / events
}

const print = (cells: ReadonlyArray<string | number>): void =>
  console.log(
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(16) : String(cell).padStart(11))).join("")
  )

const row = (name: string, workers: number, measured: Measured, decisions?: number): void => {
  const { cpuS, events, tokens, wallS } = measured
  print([
    name,
    workers,
    events,
    tokens,
    cpuS.toFixed(2),
    wallS.toFixed(2),
    (events / cpuS / 1e6).toFixed(2),
    ((1e9 * cpuS) / events).toFixed(0),
    ((1e9 * cpuS) / tokens).toFixed(0),
    decisions?.toFixed(0) ?? ""
  ])
}

console.log(machineText(machine()))
print([
  "placement",
  "workers",
  "events",
  "tokens",
  "cpu s",
  "wall s",
  "M events/s",
  "ns/event",
  "ns/token",
  "to decide"
])
for (const [name, pipeline] of contenders)
  for (const workers of workerCounts) {
    const workload = trafficFor(workers)
    const [, ...rounds] = Array.from({ length: 1 + ROUNDS }, () => measure(workload, workers, pipeline))
    const median = rounds.toSorted((a, b) => a.cpuS - b.cpuS)[Math.floor(ROUNDS / 2)]!
    row(name, workers, median, decisionNs(workload, workers, pipeline))
  }

if (!existsSync(flags.trace)) console.log(`\n${flags.trace} is not there: give --trace FILE to replay it.`)
else {
  const bytes = await Bun.file(flags.trace).bytes()
  const text = new TextDecoder().decode(flags.trace.endsWith(".gz") ? Bun.gunzipSync(bytes) : bytes)
  const workload = workloadOf([traceOf(text)])
  console.log(`\n${flags.trace}: ${workload.requests.length} requests`)
  for (const [name, pipeline] of contenders) {
    const measured = measure(workload, 16, pipeline)
    row(name, 16, measured)
    if (measured.cpuS > SECONDS_MAX) console.log(`  above the ${SECONDS_MAX} s that it may take`)
  }
}
