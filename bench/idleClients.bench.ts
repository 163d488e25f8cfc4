/*
 * What do ten thousand connected idle clients cost, and do the workers' heartbeats notice them?
 *
 * `bun run bench:idle` · method: docs/benchmarks.md.
 */
import { readFileSync } from "node:fs"
import { json, onOff, readFlags, seconds, text, whole } from "./flags.ts"
import { type Peer, startParallax, startPeer, startRelay } from "./hop/children.ts"
import { elapse } from "../test/support/elapse.ts"
import { readUsage, residentBytesOf, usedBetween } from "./hop/process.ts"
import type { Order, Standing } from "./idle/clients.ts"
import { probeHeartbeats } from "./idle/heartbeats.ts"
import { machine, machineText } from "./machine.ts"
import { aligned } from "./table.ts"

const flags = readFlags({
  clients: whole("clients that connect", 10_000),
  hold: seconds("how long they stay silent, in seconds", 30),
  relay: onOff("measure the relay in the balancer's place"),
  "broker-cmd": text("what is started in the balancer's place", "COMMAND", undefined),
  json
})
const { clients: clientCount, hold: holdSeconds } = flags

/** The whole balancer, with all clients connected. */
const RESIDENT_MB_MAX = 250
const SETTLE_MS = 3000
const SPARE_FILES = 200
const MB = 1e6

const say = (text: string): void => void process.stderr.write(`${text}\n`)

const filesMax = Number(/Max open files\s+(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1])
if (clientCount + SPARE_FILES > filesMax) {
  say(
    `--clients ${clientCount} takes ${clientCount + SPARE_FILES} open files, and ${filesMax} are allowed: raise ulimit -n.`
  )
  process.exit(2)
}

const before = machine()
const broker = flags.relay ? await startRelay() : await startParallax(flags["broker-cmd"])
const probe = await probeHeartbeats(broker.address)
const clients: Peer = startPeer(import.meta.resolve("./idle/clients.ts"))
const order = async (what: Order): Promise<Standing> => (await clients.ask(what)) as Standing
const connect = () => order({ do: "connect", address: broker.address, firstIdentity: 1, count: clientCount })

/** One stretch of time: what the broker held and used, and how late heartbeats were read meanwhile. */
const stretch = async (name: string, during: () => Promise<Partial<Standing>>) => {
  say(name)
  probe.delays.clear()
  const before = readUsage(broker.pid)
  const startedMs = performance.now()
  const standing = await during()
  const elapsedMs = performance.now() - startedMs
  return {
    stretch: name,
    elapsedMs,
    residentMb: residentBytesOf(broker.pid) / MB,
    corePercent: usedBetween(before, readUsage(broker.pid)).cpuUs / elapsedMs / 10,
    heartbeatMsP50: probe.delays.quantileUs(0.5) / 1000,
    heartbeatMsP99: probe.delays.quantileUs(0.99) / 1000,
    heartbeatMsMax: probe.delays.quantileUs(1) / 1000,
    ...standing
  }
}
const waiting = (forMs: number) => async (): Promise<Partial<Standing>> => {
  await elapse(forMs)
  return {}
}

await elapse(SETTLE_MS)
const stretches = [
  await stretch("workers only", waiting(SETTLE_MS)),
  await stretch("connecting", connect),
  await stretch("idle", waiting(holdSeconds * 1000)),
  await stretch("all answer a ping", () => order({ do: "check" })),
  await stretch("dropped at once", () => order({ do: "drop" })),
  await stretch("reconnect storm", connect),
  await stretch("idle again", waiting(SETTLE_MS)),
  await stretch("all answer again", () => order({ do: "check" }))
]
const find = (name: string) => stretches.find((each) => each.stretch === name)!
const baseMb = find("workers only").residentMb
const idleMb = find("idle").residentMb
const verdict = {
  clients: clientCount,
  residentMb: Math.max(...stretches.map((each) => each.residentMb)),
  residentMbMax: RESIDENT_MB_MAX,
  bytesPerClient: ((idleMb - baseMb) * MB) / clientCount,
  stayed: find("all answer a ping").pongs,
  pingsAnswered: find("all answer a ping").pingsAnswered,
  returned: find("all answer again").pongs,
  stormMs: find("reconnect storm").elapsedMs,
  workersLost: probe.lost()
}
const kept =
  verdict.residentMb <= RESIDENT_MB_MAX &&
  verdict.stayed === clientCount &&
  verdict.returned === clientCount &&
  verdict.workersLost === 0

if (flags.json) process.stdout.write(`${JSON.stringify({ ...before, ...verdict, kept, stretches })}\n`)
else {
  const number = (value: number | undefined, digits = 0): string =>
    value === undefined || Number.isNaN(value) ? "" : value.toFixed(digits)
  const table = [
    [
      "stretch",
      "ms",
      "RSS MB",
      "core %",
      "heartbeat p50 ms",
      "p99 ms",
      "max ms",
      "open",
      "lost",
      "pings",
      "pongs"
    ],
    ...stretches.map((each) => [
      each.stretch,
      number(each.elapsedMs),
      number(each.residentMb, 1),
      number(each.corePercent, 1),
      number(each.heartbeatMsP50, 2),
      number(each.heartbeatMsP99, 2),
      number(each.heartbeatMsMax, 2),
      number(each.open),
      number(each.lost),
      number(each.pingsAnswered),
      number(each.pongs)
    ])
  ]
  process.stdout.write(
    `${machineText(before)}\n\n${aligned(table, 1)}\n\n` +
      `${kept ? "✓" : "✗"} ${verdict.stayed} of ${clientCount} clients stayed for ${holdSeconds} s and ${verdict.returned} returned; ` +
      `at most ${number(verdict.residentMb)} MB (budget ${RESIDENT_MB_MAX}), ${number(verdict.bytesPerClient)} B per idle client; ` +
      `${verdict.workersLost} of the workers lost\n`
  )
}
process.exit(0)
