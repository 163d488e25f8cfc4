/*
 * What does the hop through the balancer cost, beside a hand-written relay by header and a direct connection?
 *
 * `bun run bench:hop` · method and reading: docs/benchmarks.md.
 */
import { makeRng, type Rng } from "../src/structures/Rng.ts"
import { json, onOff, readFlags, seconds as secondsFlag, someOf, text, whole } from "./flags.ts"
import { type Cell, cells } from "./hop/cells.ts"
import { type Broker, startGenerator, startParallax, startRelay, startWorker } from "./hop/children.ts"
import { residentBytesOf } from "./hop/process.ts"
import { figuresTable, ratiosTable, type Sample, summarize } from "./hop/report.ts"
import { machine, machineText } from "./machine.ts"
import { aligned, markdown } from "./table.ts"

/** What stands between generator and worker. "direct" is nothing; "relay-accepted" is the relay that answers ACCEPTED to each request. */
const starters: Readonly<Record<string, () => Promise<Broker> | undefined>> = {
  direct: () => undefined,
  relay: () => startRelay(),
  "relay-accepted": () => startRelay("--accepted"),
  parallax: () => startParallax(flags["broker-cmd"])
}

const cellNames = cells.map(({ name }) => name)
const flags = readFlags({
  cell: someOf(`load: some of ${cellNames.join(", ")}; by default all`, cellNames),
  brokers: someOf(
    `what stands between: some of ${Object.keys(starters).join(", ")}; by default all but relay-accepted`,
    Object.keys(starters),
    ["direct", "relay", "parallax"]
  ),
  "broker-cmd": text("what is started in Parallax's place", "COMMAND", undefined),
  rounds: whole("rounds, by default 5", undefined),
  seconds: secondsFlag("how long a cell is measured in a round, by default 1.5", undefined),
  quick: onOff("2 rounds of 0.5 seconds"),
  seed: whole("seed of the order in which cells and brokers come", 1, 0),
  json,
  markdown: onOff("print the tables in Markdown")
})
const { brokers: brokerNames, seed } = flags
const rounds = flags.rounds ?? (flags.quick ? 2 : 5)
const seconds = flags.seconds ?? (flags.quick ? 0.5 : 1.5)

const WARM_UP_MS = flags.quick ? 300 : 600
const LEAD_IN_MS = 200

const say = (text: string): void => void process.stderr.write(text)

const chosen = cells.filter(({ name }) => flags.cell.includes(name))
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
  // Before the worker, whose end it would report.
  for (const broker of brokers.values()) await broker.stop()
  await worker.stop()
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
