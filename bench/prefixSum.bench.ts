/*
 * What does placing a batch by prefix sums cost beside binary search and LPT, do several threads pay, and how good are the placements?
 *
 * `bun run bench:prefix-sum` · seed 1. Costs are 1 … 4000 tokens, backlogs below 8000, speeds equal. Forms of one batch are
 * interleaved in every round; a row gives the median (best) of the rounds, in ns per request.
 */
import { assert } from "../src/structures/assert.ts"
import { BatchPlacement } from "../src/structures/BatchPlacement.ts"
import { mix } from "../src/structures/hash.ts"
import { mean, sum } from "../src/structures/mean.ts"
import { firstAbove, prefixSum } from "../src/structures/PrefixSum.ts"
import { RadixPlacement } from "../src/structures/RadixPlacement.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { segmentStart, segmentStarts } from "../src/structures/segmentStarts.ts"
import { WaterLevel } from "../src/structures/WaterLevel.ts"
import { distinctPrefixes, optimalMakespan } from "../test/support/batchOracles.ts"
import { chainedRequests } from "../test/support/batches.ts"
import { json, readFlags } from "./flags.ts"
import { spread } from "./hop/report.ts"
import { machine, machineText } from "./machine.ts"
import { placeShared, sharedMemory } from "./prefixSum/SharedBatch.ts"
import type { Task } from "./prefixSum/thread.ts"
import { aligned } from "./table.ts"

const flags = readFlags({ json })

const rng = makeRng(1)
const caseRng = rng.split(1)
const promptRng = rng.split(2)
const before = machine()

const ROUNDS = 15
/** What one form of a round takes at least, so that the clock's resolution does not show. */
const ROUND_NS = 1e6

/** Nanoseconds of each form, by round; the forms take turns. */
const timed = (
  forms: Readonly<Record<string, () => unknown>>
): ReadonlyMap<string, ReadonlyArray<number>> => {
  const runs = Object.entries(forms).map(([name, run]) => {
    for (let warm = 0; warm < 20; warm++) run()
    const began = Bun.nanoseconds()
    run()
    return { name, run, times: Math.max(1, Math.ceil(ROUND_NS / (Bun.nanoseconds() - began))) }
  })
  const samples = new Map<string, Array<number>>(runs.map(({ name }) => [name, []]))
  for (let round = 0; round < ROUNDS; round++)
    for (const { name, run, times } of runs) {
      const began = Bun.nanoseconds()
      for (let time = 0; time < times; time++) run()
      samples.get(name)!.push((Bun.nanoseconds() - began) / times)
    }
  return samples
}

const randomCosts = (count: number): Float64Array =>
  Float64Array.from({ length: count }, () => 1 + rng.int(4000))
const randomBacklogs = (count: number): Float64Array =>
  Float64Array.from({ length: count }, () => rng.int(8000))

const equalWorkers = (count: number, backlog: Float64Array = new Float64Array(count)) => ({
  count,
  order: Int32Array.from({ length: count }, (_, k) => k),
  backlog,
  speed: new Int32Array(count).fill(1),
  headroom: new Float64Array(count).fill(Number.POSITIVE_INFINITY)
})

const sizes = [
  [16, 8],
  [64, 64],
  [1000, 64],
  [1000, 1000],
  [10_000, 1000],
  [1024, 32],
  [262_144, 32]
] as const
/** LPT of more takes seconds. */
const LPT_REQUESTS_MAX = 10_000

const costRows = sizes.flatMap(([requestCount, workerCount]) => {
  const cost = randomCosts(requestCount)
  const workers = equalWorkers(workerCount, randomBacklogs(workerCount))
  const placed = new Int32Array(requestCount)
  const placement = new BatchPlacement()
  const place = (headShare?: number) =>
    placement.place({ count: requestCount, cost }, workers, placed, headShare)
  const sums = new Float64Array(requestCount)
  const starts = new Int32Array(workerCount + 1)
  const water = new WaterLevel()
  const scan = () => prefixSum(cost, sums, 0, requestCount)
  water.fill(scan(), workers)
  const { edges } = water
  const forms = {
    "all of it": () => place(),
    "level alone": () => water.fill(sums[requestCount - 1]!, workers),
    "scan, merge": () => {
      scan()
      segmentStarts(sums, requestCount, edges, 0, workerCount, starts)
    },
    "scan, a search per worker": () => {
      scan()
      for (let k = 0; k <= workerCount; k++) starts[k] = segmentStart(sums, requestCount, edges, k)
    },
    "scan, a search per request": () => {
      scan()
      let twice = sums[0]!
      for (let i = 0; i < requestCount; i++) {
        placed[i] = firstAbove(edges, workerCount, twice)
        twice = sums[i]! + (sums[i + 1] ?? 0)
      }
    },
    ...(requestCount <= LPT_REQUESTS_MAX
      ? { "head of 25 %, scan": () => place(0.25), LPT: () => place(0) }
      : {})
  }
  return [...timed(forms)].map(([form, times]) => ({
    requestCount,
    workerCount,
    form,
    nsPerRequest: spread(times.map((ns) => ns / requestCount))
  }))
})

/** Requests that are placed in all before times count, and then while they do. */
const WARM_REQUESTS = 5_000_000
const TIMED_REQUESTS = 20_000_000

/** µs of each batch that counts. */
const batchTimes = (requestCount: number, place: () => unknown): ReadonlyArray<number> => {
  const warm = Math.ceil(WARM_REQUESTS / requestCount)
  return Array.from({ length: batchCount(requestCount) }, () => {
    const began = Bun.nanoseconds()
    place()
    return (Bun.nanoseconds() - began) / 1000
  }).slice(warm)
}

const batchCount = (requestCount: number): number =>
  Math.ceil(WARM_REQUESTS / requestCount) + Math.ceil(TIMED_REQUESTS / requestCount)

/** The same with so many threads, of which this is one. */
const threadedTimes = async (cost: Float64Array, backlog: Float64Array, threadCount: number) => {
  const memory = sharedMemory(cost, backlog, threadCount)
  const others = Array.from({ length: threadCount - 1 }, (_, i) => {
    const worker = new Worker(new URL("prefixSum/thread.ts", import.meta.url).href)
    const { promise, resolve } = Promise.withResolvers<unknown>()
    worker.addEventListener("message", resolve)
    const task: Task = { memory, thread: i + 1, batches: batchCount(cost.length) }
    worker.postMessage(task, [])
    return { worker, done: promise }
  })
  const times = batchTimes(cost.length, placeShared(memory, 0))
  await Promise.all(others.map(({ done }) => done))
  for (const { worker } of others) worker.terminate()
  return { times, placed: memory.placed }
}

const threadRows = []
for (const requestCount of [1000, 10_000, 100_000, 1_000_000, 4_000_000]) {
  const [cost, backlog] = [randomCosts(requestCount), randomBacklogs(1000)]
  const workers = equalWorkers(1000, backlog)
  const placed = new Int32Array(requestCount)
  const placement = new BatchPlacement()
  const times = batchTimes(requestCount, () =>
    placement.place({ count: requestCount, cost }, workers, placed)
  )
  threadRows.push({ requestCount, form: "BatchPlacement", us: spread(times) })
  for (const threadCount of [1, 2, 4]) {
    const shared = await threadedTimes(cost, backlog, threadCount)
    assert(
      placed.every((worker, i) => shared.placed[i] === worker),
      "any number of threads places the same"
    )
    threadRows.push({ requestCount, form: `threads: ${threadCount}`, us: spread(shared.times) })
  }
}

/** Makespans of random batches on idle equal workers, as multiples of the optimum. */
const CASES = 2000
const optimumRows = (() => {
  const placement = new BatchPlacement()
  const cases = Array.from({ length: CASES }, () => {
    const workerCount = 2 + caseRng.int(3)
    const heavy = caseRng.int(2) === 1
    const costs = Array.from({ length: 4 + caseRng.int(8) }, () =>
      heavy ? Math.ceil(100 / (0.02 + caseRng.next())) : 1 + caseRng.int(100)
    )
    return { workerCount, costs, optimum: optimalMakespan(costs, workerCount) }
  })
  const shares = [
    ["scan", Number.POSITIVE_INFINITY],
    ["head of 50 %, scan", 0.5],
    ["head of 25 %, scan", 0.25],
    ["LPT", 0]
  ] as const
  return shares.map(([form, headShare]) => {
    const ratios = cases.map(({ workerCount, costs, optimum }) => {
      const placed = new Int32Array(costs.length)
      const requests = { count: costs.length, cost: Float64Array.from(costs) }
      placement.place(requests, equalWorkers(workerCount), placed, headShare)
      const loads = new Float64Array(workerCount)
      for (const [i, worker] of placed.entries()) loads[worker]! += costs[i]!
      return Math.max(...loads) / optimum
    })
    return { form, mean: mean(ratios), max: Math.max(...ratios) }
  })
})()

/** Prompts of one batch: a few system prompts, documents under each, and a question of its own. */
const prompts = (count: number): ReadonlyArray<ReadonlyArray<number>> =>
  Array.from({ length: count }, (_, prompt) => {
    const system = promptRng.int(8)
    const document = promptRng.int(12)
    return [
      ...Array.from({ length: 4 + (mix(system, 0, 1) % 8) }, (_, depth) => 1000 * system + depth),
      ...Array.from({ length: mix(system, document, 2) % 16 }, (_, depth) => 100 * document + depth),
      ...Array.from({ length: promptRng.int(4) }, (_, depth) => 10_000 * (prompt + 1) + depth)
    ]
  })

const TREES = 400
const radixRows = (() => {
  const [requestCount, workerCount] = [256, 8]
  const batch = new BatchPlacement()
  const radix = new RadixPlacement()
  const workers = equalWorkers(workerCount)
  const trees = Array.from({ length: TREES }, () => prompts(requestCount))
  const forms = {
    "round robin": (paths: ReadonlyArray<ReadonlyArray<number>>) => paths.map((_, i) => i % workerCount),
    "scan as they come": (paths: ReadonlyArray<ReadonlyArray<number>>) => {
      const placed = new Int32Array(requestCount)
      const cost = Float64Array.from(paths, (path) => path.length)
      batch.place({ count: requestCount, cost }, workers, placed)
      return placed
    },
    "radix scan": (paths: ReadonlyArray<ReadonlyArray<number>>) => {
      const placed = new Int32Array(requestCount)
      radix.place(chainedRequests(paths), workers, placed)
      return placed
    }
  }
  return Object.entries(forms).map(([form, place]) => {
    const ratios = trees.map((paths) => {
      const placed = place(paths)
      const computed = Array.from({ length: workerCount }, (_, worker) =>
        distinctPrefixes(paths.filter((_, i) => placed[i] === worker))
      )
      const distinct = distinctPrefixes(paths)
      const bound = Math.max(distinct / workerCount, ...paths.map(({ length }) => length))
      return {
        blocks: sum(computed) / distinct,
        makespan: Math.max(...computed) / bound
      }
    })
    return {
      form,
      blocks: mean(ratios.map(({ blocks }) => blocks)),
      makespan: mean(ratios.map(({ makespan }) => makespan))
    }
  })
})()

const radixCost = (() => {
  const requests = chainedRequests(prompts(256))
  const placed = new Int32Array(256)
  const workers = equalWorkers(8)
  const radix = new RadixPlacement()
  return spread(
    timed({ radix: () => radix.place(requests, workers, placed) })
      .get("radix")!
      .map((ns) => ns / 256)
  )
})()

if (flags.json)
  console.log(JSON.stringify({ ...before, costRows, threadRows, optimumRows, radixRows, radixCost }))
else {
  console.log(`${machineText(before)}\n`)
  const figure = (value: number): string => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)
  console.log(
    aligned([
      ["requests × workers", "form", "ns a request", "best", "µs a batch"],
      ...costRows.map(({ requestCount, workerCount, form, nsPerRequest: { median, min } }) => [
        `${requestCount} × ${workerCount}`,
        form,
        figure(median),
        figure(min),
        figure((median * requestCount) / 1000)
      ]),
      [
        "256 × 8, chains",
        "radix scan",
        figure(radixCost.median),
        figure(radixCost.min),
        figure(radixCost.median * 0.256)
      ]
    ])
  )
  console.log("")
  console.log(
    aligned(
      [
        ["requests × 1000", "form", "µs a batch", "best"],
        ...threadRows.map(({ requestCount, form, us }) => [
          String(requestCount),
          form,
          figure(us.median),
          figure(us.min)
        ])
      ],
      1
    )
  )
  console.log(`\nmakespan over the optimum, ${CASES} batches of 4–11 requests on 2–4 workers\n`)
  console.log(
    aligned(
      [
        ["form", "mean", "max"],
        ...optimumRows.map(({ form, mean, max }) => [form, mean.toFixed(3), max.toFixed(2)])
      ],
      1
    )
  )
  console.log(`\n${TREES} batches of 256 prompts with common beginnings on 8 workers\n`)
  console.log(
    aligned(
      [
        ["form", "blocks computed / distinct", "makespan / lower bound"],
        ...radixRows.map(({ form, blocks, makespan }) => [form, blocks.toFixed(3), makespan.toFixed(3)])
      ],
      1
    )
  )
}
