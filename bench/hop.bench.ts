/*
 * What does the hop through the balancer cost, beside a hand-written relay by header and a direct connection?
 *
 * `bun bench/hop.bench.ts [--json | --markdown] [--rounds 5] [--seconds 1.5] [--quick] [--cell S/64,C/64]
 * [--brokers direct,relay,parallax] [--broker-cmd "…"] [--seed 1]`. Method and reading: docs/benchmarks.md.
 */
import { parseArgs } from "node:util"
import { assert } from "../src/structures/assert.ts"
import { makeRng, type Rng } from "../src/structures/Rng.ts"
import { type Cell, cells } from "./hop/cells.ts"
import { type Broker, startGenerator, startParallax, startRelay, startWorker } from "./hop/children.ts"
import { residentBytesOf } from "./hop/process.ts"
import { figuresTable, ratiosTable, type Sample, summarize } from "./hop/report.ts"
import { machine, machineText } from "./machine.ts"
import { aligned, markdown } from "./table.ts"

const { values: flags } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    markdown: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    cell: { type: "string" },
    brokers: { type: "string" },
    "broker-cmd": { type: "string" },
    seed: { type: "string", default: "1" }
  }
})
const rounds = Number(flags.rounds ?? (flags.quick ? 2 : 5))
const seconds = Number(flags.seconds ?? (flags.quick ? 0.5 : 1.5))
const seed = Number(flags.seed)
assert(Number.isInteger(rounds) && rounds > 0, "--rounds is a whole number above 0")
assert(seconds > 0, "--seconds is above 0")

const WARM_UP_MS = flags.quick ? 300 : 600
const LEAD_IN_MS = 200

/** What stands between generator and worker. "direct" is nothing; "relay-accepted" is the relay that answers ACCEPTED to each request. */
const starters: Readonly<Record<string, () => Promise<Broker> | undefined>> = {
  direct: () => undefined,
  relay: () => startRelay(),
  "relay-accepted": () => startRelay("--accepted"),
  parallax: () => startParallax(flags["broker-cmd"])
}

const say = (text: string): void => void process.stderr.write(text)

const selected = (names: ReadonlyArray<string>, known: ReadonlyArray<string>, flag: string) => {
  for (const name of names) assert(known.includes(name), `${flag} is of ${known.join(", ")}, and not ${name}`)
  return names
}
const brokerNames = selected(
  flags.brokers?.split(",") ?? ["direct", "relay", "parallax"],
  Object.keys(starters),
  "--brokers"
)
const cellNames = selected(
  flags.cell?.split(",") ?? cells.map((cell) => cell.name),
  cells.map((cell) => cell.name),
  "--cell"
)
const chosen = cells.filter((cell) => cellNames.includes(cell.name))
/** Run before anything is measured, whatever was chosen: it makes everything hot. */
const hottest = cells.find((cell) => cell.name === "S/1024")!

const shuffled = <A>(list: ReadonlyArray<A>, rng: Rng): ReadonlyArray<A> => {
  const result = [...list]
  for (let i = result.length - 1; i > 0; i--) {
    const j = rng.int(i + 1)
    const swapped = result[i]!
    result[i] = result[j]!
    result[j] = swapped
  }
  return result
}

/** Starts every process, makes them hot, measures each cell through each broker in random order, and stops them. */
const measureRound = async (round: number, rng: Rng): Promise<ReadonlyArray<Sample>> => {
  const brokers = new Map<string, Broker>()
  for (const name of brokerNames) {
    const broker = await starters[name]!()
    if (broker !== undefined) brokers.set(name, broker)
  }
  const worker = await startWorker([...brokers.values()].map((broker) => broker.address))
  const generator = startGenerator()

  const measure = async (cell: Cell, name: string, warmMs: number, measureMs: number): Promise<Sample> => {
    const broker = brokers.get(name) ?? worker
    const pids = { broker: broker.pid, worker: worker.pid, generator: generator.pid }
    const result = await generator
      .run({ ...cell.load, address: broker.address, warmMs, measureMs, pids })
      .catch((cause: unknown) => {
        throw new Error(`${cell.name} through ${name} is not valid: ${String(cause)}`, { cause })
      })
    const { requests, elapsedMs, p50Us, p99Us, usage } = result
    const { userTicks, systemTicks } = usage["broker"]!
    return {
      round,
      cell: cell.name,
      broker: name,
      requestsPerSecond: (requests / elapsedMs) * 1000,
      p50Us,
      p99Us,
      cpuUs: usage["broker"]!.cpuUs / requests,
      generatorUs: usage["generator"]!.cpuUs / requests,
      workerUs: usage["worker"]!.cpuUs / requests,
      userShare: userTicks / Math.max(1, userTicks + systemTicks),
      residentMb: residentBytesOf(broker.pid) / 1e6
    }
  }

  const samples: Array<Sample> = []
  for (const cell of [hottest, ...chosen])
    for (const name of brokerNames) await measure(cell, name, 0, WARM_UP_MS)
  for (const cell of shuffled(chosen, rng)) {
    say(`\rround ${round + 1}/${rounds}  ${cell.name.padEnd(10)}`)
    for (const name of shuffled(brokerNames, rng))
      samples.push(await measure(cell, name, LEAD_IN_MS, seconds * 1000))
  }
  await generator.stop()
  await worker.stop()
  for (const broker of brokers.values()) await broker.stop()
  return samples
}

const before = machine()
const rng = makeRng(seed)
const samples: Array<Sample> = []
for (let round = 0; round < rounds; round++) samples.push(...(await measureRound(round, rng)))
say("\r                              \r")

const summaries = chosen.map((cell) => summarize(cell, samples))
const after = machine()
if (flags.json) {
  const document = { ...before, loadAverageAfter: after.loadAverage, seed, rounds, seconds, cells: summaries }
  process.stdout.write(`${JSON.stringify(document)}\n`)
} else {
  const print = flags.markdown ? markdown : aligned
  const about =
    `${machineText(before)} before, ${after.loadAverage} after · ` +
    `${rounds} rounds of ${seconds} s · seed ${seed}`
  const tables = [figuresTable(summaries), ratiosTable(summaries)].filter((table) => table.length > 1)
  process.stdout.write(`${[about, ...tables.map((table) => print(table))].join("\n\n")}\n`)
}
process.exit(0)
