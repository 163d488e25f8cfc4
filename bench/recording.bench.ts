/*
 * What does it cost the balancer to record a request?
 *
 * `bun run bench:recording` · one core, seed 1. A request arrives, and ends after 63 others have arrived; half of its blocks
 * come again in every prompt, the others are new. `line` is what happens on the path of the request, `write` the making of the text that a
 * file is given, which happens once a second. CPU time, median of seven rounds. `worst` is the longest time one request took, on
 * the clock: on a busy machine it says nothing.
 */
import { Reason } from "../src/domain/Outcome.ts"
import { type RecordDisk, RecordFiles } from "../src/observability/RecordFiles.ts"
import { type RecordedLine, type RecordedRequest, Recording } from "../src/observability/Recording.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { json, readFlags } from "./flags.ts"
import { spread } from "./hop/report.ts"
import { machine, machineText } from "./machine.ts"
import { aligned } from "./table.ts"

const flags = readFlags({ json })

const ROUNDS = 7
const OPEN = 64

interface Cost {
  readonly blocks: number
  readonly lineNs: number
  readonly writeNs: number
  readonly lineBytes: number
  readonly worstMs: number
}

/** Takes everything and keeps nothing. */
const nowhere: RecordDisk = {
  names: async () => [],
  create: async () => ({
    isIntact: async () => true,
    append: async () => undefined,
    cut: async () => undefined,
    close: async () => undefined
  }),
  remove: async () => undefined
}

const cpuNs = (): number => {
  const { system, user } = process.cpuUsage()
  return 1000 * (system + user)
}

const measured = async (blocks: number, count: number): Promise<Cost> => {
  const rng = makeRng(1)
  const recording = new Recording({
    labels: { tenant: (index) => (index === 0 ? undefined : `t${index}`), model: () => "sim" },
    blockTokens: 256,
    share: 1,
    saltHigh: 1,
    saltLow: 2
  })
  const files = new RecordFiles({
    disk: nowhere,
    family: "bench",
    stamp: "20260101T000000Z",
    fileBytesMax: 64 * 1024 * 1024,
    filesMax: 2,
    header: {}
  })
  const request = (slot: number): RecordedRequest => ({
    slot,
    arrivedMs: slot,
    promptTokens: 256 * blocks + 7,
    outputTokens: 100,
    maxTokens: 256,
    tenant: slot % 5,
    model: 0,
    sessionHigh: 0,
    sessionLow: rng.int(2 ** 32),
    idHigh: rng.int(2 ** 32),
    idLow: rng.int(2 ** 32),
    chain: {
      count: blocks,
      high: Uint32Array.from({ length: blocks }, (_, i) => (i < blocks / 2 ? i : rng.int(2 ** 32))),
      low: Uint32Array.from({ length: blocks }, (_, i) => i)
    }
  })
  const lineNs: Array<number> = []
  const writeNs: Array<number> = []
  let bytes = 0
  let worstMs = 0
  for (let round = 0; round < ROUNDS; round++) {
    const requests = Array.from({ length: count }, (_, i) => request(i % (2 * OPEN)))
    const lines: Array<RecordedLine> = []
    const began = cpuNs()
    for (let i = 0; i < count + OPEN; i++) {
      const at = Bun.nanoseconds()
      if (i < count) recording.arrived(requests[i]!)
      if (i >= OPEN) recording.ended(requests[i - OPEN]!, Reason.none)
      worstMs = Math.max(worstMs, (Bun.nanoseconds() - at) / 1e6)
      if (i % 1024 === 0) lines.push(...recording.take())
    }
    lineNs.push((cpuNs() - began) / count)
    lines.push(...recording.take())
    const written = cpuNs()
    await files.write(lines)
    writeNs.push((cpuNs() - written) / count)
    bytes = lines.reduce((sum, { text }) => sum + text.length, 0) / lines.length
  }
  return { blocks, lineNs: spread(lineNs).median, writeNs: spread(writeNs).median, lineBytes: bytes, worstMs }
}

const costs: ReadonlyArray<Cost> = [
  await measured(0, 50_000),
  await measured(8, 50_000),
  await measured(64, 10_000),
  await measured(512, 1_000)
]

const on = machine()
if (flags.json) console.log(JSON.stringify({ machine: on, costs }))
else {
  console.log(`${machineText(on)}\n`)
  console.log(
    aligned([
      ["blocks", "line ns", "write ns", "bytes", "worst ms"],
      ...costs.map(({ blocks, lineBytes, lineNs, worstMs, writeNs }) => [
        String(blocks),
        lineNs.toFixed(0),
        writeNs.toFixed(0),
        lineBytes.toFixed(0),
        worstMs.toFixed(2)
      ])
    ])
  )
}
