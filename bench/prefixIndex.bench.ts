/*
 * What does it cost to know which worker holds which prefix, in time and in memory, beside a plain Map?
 *
 * `bun run bench:prefix` · one core, seed 1. Every worker holds at least an eighth of every prompt, and up to one of
 * eight depths, drawn for each: more than happens. A sample is 16 calls in a row, about 16 of 64 prompts; forms take turns of 125
 * samples, the first of which do not count. What is not in the core's caches is measured with 4000 prompts, one million blocks, drawn at
 * random: the chain is copied from a buffer before, as it comes from a socket, and that is part of the figure; what it takes by itself
 * stands beside it. The memory of a million blocks is measured in processes of their own.
 */
import { assert } from "../src/structures/assert.ts"
import type { PrefixChain } from "../src/structures/PrefixChain.ts"
import { PrefixIndex } from "../src/structures/PrefixIndex.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { inner, json, readFlags } from "./flags.ts"
import { machine, machineText } from "./machine.ts"
import { MapOfBits, MapOfSets, type PlainIndex } from "./prefixIndex/plainMaps.ts"
import { aligned } from "./table.ts"

const flags = readFlags({
  json,
  /** Of a process that measures the memory of one form: which. */
  memory: inner
})

const BYTES_MAX = 200_000_000
const CALLS = 16
/** Taken by each form, in turns of so many samples. */
const SAMPLES = 1000
const TURN = 125
const DEPTHS = 8
const PROMPTS = 64
const COLD_PROMPTS = 4000

const rng = makeRng(1)
const u32 = (): number => rng.int(2 ** 32)

const randomChain = (count: number): PrefixChain => ({
  count,
  high: Uint32Array.from({ length: count }, u32),
  low: Uint32Array.from({ length: count }, u32)
})

const randomChains = (count: number, blocks: number): ReadonlyArray<PrefixChain> =>
  Array.from({ length: count }, () => randomChain(blocks))

/** Stores each prompt at all workers, up to one of eight depths. */
const fill = (
  chains: ReadonlyArray<PrefixChain>,
  workerCount: number,
  forms: ReadonlyArray<PlainIndex>
): void => {
  for (const chain of chains)
    for (let worker = 0; worker < workerCount; worker++) {
      const depth = (chain.count / DEPTHS) * (1 + rng.int(DEPTHS))
      for (const form of forms) form.stored(worker, chain, 0, depth)
    }
}

interface Cost {
  readonly what: string
  readonly form: string
  readonly workers: number
  readonly nsP50: number
  readonly nsP99: number
}

/** Nanoseconds of one call in samples of so many, and the operations each call stands for. */
const timed = (
  what: string,
  workers: number,
  forms: Readonly<Record<string, (call: number) => unknown>>,
  operations = 1
): ReadonlyArray<Cost> => {
  const runs = Object.entries(forms).map(([form, run]) => ({
    form,
    run,
    samplesNs: new Float64Array(SAMPLES)
  }))
  for (let first = -TURN; first < SAMPLES; first += TURN)
    for (const { run, samplesNs } of runs)
      for (let sample = first; sample < first + TURN; sample++) {
        const began = Bun.nanoseconds()
        for (let call = 0; call < CALLS; call++) run(sample * CALLS + call)
        if (sample >= 0) samplesNs[sample] = (Bun.nanoseconds() - began) / CALLS / operations
      }
  return runs.map(({ form, samplesNs }) => {
    samplesNs.sort()
    return { what, form, workers, nsP50: samplesNs[SAMPLES / 2]!, nsP99: samplesNs[SAMPLES * 0.99]! }
  })
}

/** A number below `count` for a call; calls before the first sample have negative numbers. */
const turn = (call: number, count: number): number => ((call % count) + count) % count

/** The index in the form of the maps. */
const asPlain = (index: PrefixIndex): PlainIndex => ({
  stored: (worker, chain, from, to) =>
    void index.stored(
      worker,
      from > 0 ? chain.high[from - 1]! : 0,
      from > 0 ? chain.low[from - 1]! : 0,
      chain,
      from,
      to
    ),
  removed: (worker, chain, from, to) => index.removed(worker, chain, from, to),
  match: (chain, workers, blocks) => {
    const matched = index.match(chain)
    workers.set(matched.workers.subarray(0, matched.count))
    blocks.set(matched.blocks.subarray(0, matched.count))
    return matched.count
  }
})

const assertAlike = (
  forms: ReadonlyArray<PlainIndex>,
  chains: ReadonlyArray<PrefixChain>,
  workerCount: number
): void => {
  for (const chain of chains) {
    const [first, ...others] = forms.map((form) => {
      const workers = new Int32Array(workerCount)
      const blocks = new Int32Array(workerCount)
      const count = form.match(chain, workers, blocks)
      const rows = Array.from({ length: count }, (_, i) => `${workers[i]}:${blocks[i]}`)
      assert(
        rows.every((_, i) => i === 0 || blocks[i]! <= blocks[i - 1]!),
        "the deepest match comes first"
      )
      return rows.toSorted().join()
    })
    assert(
      others.every((rows) => rows === first),
      "all forms find the same"
    )
  }
}

const matchCosts = (
  workerCount: number,
  blocks: number,
  known: ReadonlyArray<PrefixChain>,
  drawn: boolean
): ReadonlyArray<Cost> => {
  const index = new PrefixIndex({ workersMax: workerCount, bytesMax: BYTES_MAX })
  const bits = new MapOfBits(workerCount)
  const sets = new MapOfSets()
  // Of a million blocks, the slowest form would take minutes.
  const forms = drawn ? [asPlain(index), bits] : [asPlain(index), bits, sets]
  fill(known, workerCount, forms)
  const asked = blocks === 0 ? randomChains(PROMPTS, 256) : known
  assertAlike(forms, asked.slice(0, 16), workerCount)
  const order = Int32Array.from({ length: 65_536 }, (_, i) =>
    drawn ? rng.int(asked.length) : i % asked.length
  )
  const copy = randomChain(asked[0]!.count)
  const chainOf = (call: number): PrefixChain => {
    const chain = asked[order[turn(call, order.length)]!]!
    if (!drawn) return chain
    copy.high.set(chain.high)
    copy.low.set(chain.low)
    return copy
  }
  const workers = new Int32Array(workerCount)
  const found = new Int32Array(workerCount)
  return timed(`match, ${blocks} blocks known${drawn ? ", of a million" : ""}`, workerCount, {
    index: (call) => index.match(chainOf(call)),
    "map of bits": (call) => bits.match(chainOf(call), workers, found),
    ...(drawn
      ? { "the copy alone": chainOf }
      : { "map of sets": (call: number) => sets.match(chainOf(call), workers, found) })
  })
}

/** Of prompts whose first 240 blocks three workers hold: 16 more, at one of these; and all 256, at another worker. */
const changeCosts = (workerCount: number): ReadonlyArray<Cost> => {
  const index = new PrefixIndex({ workersMax: workerCount, bytesMax: BYTES_MAX })
  const bits = new MapOfBits(workerCount)
  const sets = new MapOfSets()
  const forms = { index: asPlain(index), "map of bits": bits, "map of sets": sets }
  const chains = randomChains(PROMPTS, 256)
  for (const [prompt, chain] of chains.entries())
    for (let copy = 0; copy < 3; copy++)
      for (const form of Object.values(forms)) form.stored((prompt + copy) % workerCount, chain, 0, 240)
  const chainOf = (call: number): PrefixChain => chains[turn(call, PROMPTS)]!
  const holderOf = (call: number): number => turn(call, PROMPTS) % workerCount
  const otherOf = (call: number): number => (turn(call, PROMPTS) + 3) % workerCount
  const untilMs = Number.POSITIVE_INFINITY
  const storeAndRemove = (form: PlainIndex, worker: number, chain: PrefixChain, from: number): void => {
    form.stored(worker, chain, from, 256)
    form.removed(worker, chain, from, 256)
  }
  const storing = (from: number, workerOf: (call: number) => number) =>
    Object.fromEntries(
      Object.entries(forms).map(([name, form]) => [
        name,
        (call: number) => storeAndRemove(form, workerOf(call), chainOf(call), from)
      ])
    )
  return [
    ...timed("expect and withdraw 256 blocks, 240 held", workerCount, {
      index: (call) => index.withdraw(index.expect(holderOf(call), chainOf(call), untilMs))
    }),
    ...timed("expect and withdraw 256 blocks, 240 held by others", workerCount, {
      index: (call) => index.withdraw(index.expect(otherOf(call), chainOf(call), untilMs))
    }),
    ...timed("store and remove a block nobody else holds", workerCount, storing(240, holderOf), 16),
    ...timed("store and remove a block others hold", workerCount, storing(0, otherOf), 256)
  ]
}

/** A million blocks in prompts of 16, each at one to four of a thousand workers. */
const fillMillion = (form: PlainIndex): void => {
  for (let prompt = 0; prompt < 1_000_000 / 16; prompt++) {
    const chain = randomChain(16)
    for (let copies = 1 + rng.int(4); copies > 0; copies--) form.stored(rng.int(1000), chain, 0, 16)
  }
}

/** What a process that does nothing else prints about itself. */
const measureMemory = (form: string): void => {
  const resident = (): number => {
    Bun.gc(true)
    return process.memoryUsage.rss()
  }
  const before = resident()
  const index = form === "index" ? new PrefixIndex({ workersMax: 1000, bytesMax: BYTES_MAX }) : undefined
  const plain =
    index !== undefined ? asPlain(index) : form === "map of bits" ? new MapOfBits(1000) : new MapOfSets()
  fillMillion(plain)
  const residentMb = (resident() - before) / 1e6
  const began = Bun.nanoseconds()
  index?.forget(7)
  const forgetMs = (Bun.nanoseconds() - began) / 1e6
  // Read again, so that nothing was collected before.
  plain.match(randomChain(1), new Int32Array(1000), new Int32Array(1000))
  console.log(
    JSON.stringify({
      residentMb,
      blocks: index?.entryCount,
      tablesMb: index && index.bytes / 1e6,
      forgetMs: index && forgetMs
    })
  )
}

interface Memory {
  readonly form: string
  readonly residentMb: number
  readonly tablesMb?: number
  readonly blocks?: number
  readonly forgetMs?: number
}

const memoryOf = (form: string): Memory => {
  const { stdout } = Bun.spawnSync([process.execPath, import.meta.path, "--memory", form])
  return { form, ...JSON.parse(stdout.toString()) }
}

const report = (): void => {
  const about = machine()
  const memory = ["index", "map of bits", "map of sets"].map(memoryOf)
  const costs = [4, 64, 1000].flatMap((workerCount) => [
    ...[0, 16, 64, 256].flatMap((blocks) =>
      matchCosts(workerCount, blocks, randomChains(PROMPTS, Math.max(16, blocks)), false)
    ),
    ...changeCosts(workerCount)
  ])
  costs.push(...matchCosts(64, 256, randomChains(COLD_PROMPTS, 256), true))
  if (flags.json) return console.log(JSON.stringify({ ...about, costs, memory }))
  console.log(`${machineText(about)} · ns of a call: median (p99) of ${SAMPLES} samples\n`)
  const rows = Map.groupBy(costs, ({ what, form }) => `${what} · ${form}`)
  const cell = (cost: Cost | undefined): string =>
    cost === undefined ? "" : `${cost.nsP50.toFixed(0)} (${cost.nsP99.toFixed(0)})`
  console.log(
    aligned([
      ["what", "form", "4 workers", "64 workers", "1000 workers"],
      ...[...rows.values()].map((row) => [
        row[0]!.what,
        row[0]!.form,
        ...[4, 64, 1000].map((workers) => cell(row.find((cost) => cost.workers === workers)))
      ])
    ])
  )
  console.log(
    `\n${aligned(
      [
        [
          "a million blocks, each at 1 to 4 of 1000 workers",
          "resident MB",
          "tables MB",
          "forgetting a worker, ms"
        ],
        ...memory.map(({ form, residentMb, tablesMb, forgetMs }) => [
          form,
          residentMb.toFixed(0),
          tablesMb?.toFixed(0) ?? "",
          forgetMs?.toFixed(1) ?? ""
        ])
      ],
      1
    )}`
  )
}

if (flags.memory === undefined) report()
else measureMemory(flags.memory)
