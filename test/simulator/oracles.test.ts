import { afterAll, describe, expect, test } from "bun:test"
import { type EnginePreset, stepMs } from "../../src/engines/simulated/CostModel.ts"
import type { PipelineChoice } from "../../src/policies/pipelines.ts"
import { erlangB, meanWait } from "../../src/structures/ErlangC.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { replay, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import type { ReplayWorkerOptions } from "../../src/simulator/replay/ReplayWorker.ts"
import type { PlannedRequest } from "../../src/simulator/replay/Workload.ts"
import { type QueueFigures, type QueueOptions, QueueWorld } from "../support/QueueWorld.ts"
import { RedundancyWorld } from "../support/RedundancyWorld.ts"

/**
 * Queueing systems of which theory knows the answer, in the parts of the replay. Seeds are fixed, runs so long that what chance leaves is
 * below the bound.
 */
const ERROR_MAX = 0.02

interface Oracle {
  /** As in the catalogue of oracles. */
  readonly id: string
  readonly model: string
  readonly analytic: number
  readonly simulated: () => number
}

const exponential =
  (mean: number) =>
  (rng: Rng): number =>
    -mean * Math.log(1 - rng.next())
/** Mean 1, squared variation 1.5. */
const hyperexponential = (rng: Rng): number => exponential(rng.next() < 0.5 ? 0.5 : 1.5)(rng)
const HYPER_SQUARE = 2.5
const always = () => 1

/** Poisson arrivals at `load` busy workers, service of mean 1. Little's law and work conservation are checked of each run. */
const queue = (
  options: Partial<QueueOptions> & { readonly workers: number; readonly load: number }
): QueueFigures => {
  const figures = new QueueWorld({
    capacity: 1,
    requests: 1_000_000,
    warmUp: 1000,
    gapMs: exponential(1 / options.load),
    serviceMs: exponential(1),
    ...options
  }).run()
  expect(Math.abs(figures.sojournsMs / figures.presentMs - 1)).toBeLessThan(1e-9)
  expect(figures.idled).toBe(false)
  return figures
}

/** Takes whoever is sent to it, and serves one after the other. */
const INFINITE = 2 ** 20

const placedBy = (policy: string, options = {}) => ({ placement: { policy, options } })
const orderedBy = (policy: string, options = {}) => ({ ordering: { policy, options } })
const shortestFirst = orderedBy("shortest-job", { outputPrice: 0, aging: 0.001 })
const refusing = { admission: [{ policy: "queue-bounds", options: { maxQueued: 0 } }] }

/**
 * Mean time in the system where who has least left is served, exponential with mean 1. Source: Schrage and Miller, The queue M/G/1 with the
 * shortest remaining processing time discipline, Operations Research 14(4), 1966.
 */
const shortestRemainingSojourn = (load: number): number => {
  const step = 0.001
  let [sojourn, squares, residence] = [0, 0, 0]
  for (let x = step / 2; x < 40; x += step) {
    const density = Math.exp(-x)
    const left = 1 - load * (1 - density * (1 + x))
    squares += x * x * density * step
    residence += step / left
    sojourn += ((load * (squares + x * x * density)) / (2 * left ** 2) + residence) * density * step
  }
  return sojourn
}

/** Mean wait where shorter requests go first, exponential with mean 1: Phipps. */
const shortestFirstWait = (load: number): number => {
  const step = 0.001
  let wait = 0
  for (let x = step / 2; x < 40; x += step) {
    const below = load * (1 - Math.exp(-x) * (1 + x))
    wait += (load / (1 - below) ** 2) * Math.exp(-x) * step
  }
  return wait
}

/** Mean wait of each of three classes that come equally often: Cobham. */
const classWait = (load: number, one: number): number =>
  load / ((1 - (load * one) / 3) * (1 - (load * (one + 1)) / 3))

/** Mean time in the system at two servers where arrivals join the shorter queue: the Markov chain, solved by iteration. */
const shorterQueueSojourn = (load: number): number => {
  const size = 60
  let at = new Float64Array(size * size)
  at[0] = 1
  const rate = load + 2
  for (let round = 0; round < 3000; round++) {
    const next = new Float64Array(size * size)
    for (let a = 0; a < size - 1; a++)
      for (let b = 0; b < size - 1; b++) {
        const share = at[a * size + b]! / rate
        const [toA, toB] = a < b ? [load, 0] : a > b ? [0, load] : [load / 2, load / 2]
        next[(a + 1) * size + b]! += share * toA
        next[a * size + b + 1]! += share * toB
        next[Math.max(0, a - 1) * size + b]! += share
        next[a * size + Math.max(0, b - 1)]! += share
      }
    at = next
  }
  let present = 0
  let total = 0
  for (const [state, share] of at.entries()) {
    present += share * (Math.floor(state / size) + (state % size))
    total += share
  }
  return present / total / load
}

const SHORTER_QUEUE_SOJOURN = shorterQueueSojourn(1.6)

const supermarketSojourn = (load: number, d: number): number => {
  let sojourn = 0
  for (let i = 1; i < 30; i++) sojourn += load ** ((d ** i - d) / (d - 1))
  return sojourn
}

const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k)

/**
 * Mean time in the system where each request has two copies, of which the first to be served calls the other off.
 * Source: Gardner et al., Redundancy-d, Operations Research 65(4), 2017.
 */
const redundantSojourn = (workers: number, load: number): number => {
  const d = 2
  let sojourn = 0
  for (let i = d; i <= workers; i++)
    sojourn += 1 / ((workers * choose(workers - 1, d - 1)) / choose(i - 1, d - 1) - workers * load)
  return sojourn
}

/** Mean time in the system where all who wait are served together, b of them in `perRequest · b + base`: the chain of batch sizes. */
const takeAllSojourn = (rate: number, perRequest: number, base: number): number => {
  const size = 120
  const lasts = (batch: number): number => perRequest * batch + base
  const poisson = (mean: number): ReadonlyArray<number> => {
    const shares = [Math.exp(-mean)]
    for (let n = 1; n < size; n++) shares.push((shares[n - 1]! * mean) / n)
    return shares
  }
  const come = Array.from({ length: size }, (_, batch) => poisson(rate * lasts(batch)))
  let batches = Array.from({ length: size }, (_, batch) => Number(batch === 1))
  for (let round = 0; round < 300; round++) {
    const next = batches.map(() => 0)
    for (const [batch, share] of batches.entries())
      for (const [n, chance] of come[batch]!.entries()) next[Math.max(1, n)]! += share * chance
    batches = next
  }
  let sojourns = 0
  let requests = 0
  for (const [batch, share] of batches.entries())
    for (const [n, chance] of come[batch]!.entries()) {
      // Who finds nobody in service is served at once.
      sojourns += share * chance * (n === 0 ? lasts(1) : n * (lasts(batch) / 2 + lasts(n)))
      requests += share * chance * Math.max(1, n)
    }
  return sojourns / requests
}

/** Upper bound of the same. Source: Inoue, Queueing analysis of GPU-based inference servers, arXiv 1912.06322. */
const takeAllBound = (rate: number, perRequest: number, base: number): number => {
  const load = rate * perRequest
  const many =
    ((perRequest + base) / (2 * (1 - load))) * (1 + 2 * rate * base + (1 - rate * base) / (1 + load))
  const few = (3 * base) / (2 * (1 - load)) + ((perRequest / 2) * (load + 2)) / (1 - load * load)
  return Math.min(many, few)
}

/** Share of requests that find their block among the `kept` last used, where blocks are asked for at random: Che's approximation. */
const leastRecentlyUsedHits = (shares: ReadonlyArray<number>, kept: number): number => {
  let [low, high] = [0, 1e9]
  for (let round = 0; round < 200; round++) {
    const time = (low + high) / 2
    const held = shares.reduce((sum, share) => sum + 1 - Math.exp(-share * time), 0)
    if (held < kept) low = time
    else high = time
  }
  return shares.reduce((sum, share) => sum + share * (1 - Math.exp(-share * low)), 0)
}

const preset = (cost: EnginePreset["cost"], kvCapacityTokens = 2 ** 30): EnginePreset => ({
  cost,
  kvCapacityTokens,
  kvBytesPerToken: 1
})

interface OneEngine {
  readonly requests: number
  readonly gapMs: (rng: Rng) => number
  readonly request: (rng: Rng) => Pick<PlannedRequest, "promptTokens" | "outputTokens" | "keys">
  readonly worker: Omit<ReplayWorkerOptions, "name">
}

/** A replay at one worker without a network between. */
const oneEngine = ({ gapMs, request, requests, worker }: OneEngine): ReplayResult => {
  const rng = makeRng(1)
  let arrivalMs = 0
  const planned = Array.from({ length: requests }, () => {
    arrivalMs += gapMs(rng)
    return { arrivalMs, ...request(rng), maxTokens: 2 ** 20, tenant: 0, sessionHigh: 0, sessionLow: 0 }
  })
  const none = { policy: "none", options: {} }
  return replay({
    workload: { name: "", blockTokens: 256, tenants: ["default"], requests: planned },
    workers: [{ name: "worker", capacity: INFINITE, ...worker }],
    pipeline: {
      admission: [],
      ordering: { policy: "arrival", options: {} },
      batching: none,
      placement: { policy: "random", options: {} },
      rescue: []
    },
    seed: 1,
    networkMs: 0
  })
}

const meanSojourn = ({ options, outcomes, presentMs }: ReplayResult): number => {
  expect(outcomes.reasons.every((reason) => reason === 0)).toBe(true)
  return presentMs / options.workload.requests.length
}

const keys = new Float64Array(0)
/** One token of every request in each step, all in turn: as if they shared the engine. */
const sharing = preset({
  baseMs: 1e-9,
  prefillTokenMs: 1,
  prefillAttentionMs: 0,
  decodeSequenceMs: 1,
  decodeContextMs: 0
})
const SHARED_TOKENS = 40

/** Mean time in the system over the mean service time. */
const sharedSojourn = (serviceMs: (rng: Rng) => number, requests = 250_000, maxNumSeqs = 1000): number => {
  const outputTokens = (rng: Rng): number => Math.max(1, Math.round(serviceMs(rng) * SHARED_TOKENS))
  return (
    meanSojourn(
      oneEngine({
        requests,
        gapMs: exponential(SHARED_TOKENS / 0.6),
        request: (rng) => ({ promptTokens: 1, outputTokens: outputTokens(rng), keys }),
        worker: { preset: sharing, maxNumSeqs }
      })
    ) / SHARED_TOKENS
  )
}

const takeAll = (rate: number, perRequest: number, base: number, requests = 400_000, maxNumSeqs = 1000) =>
  meanSojourn(
    oneEngine({
      requests,
      gapMs: exponential(1 / rate),
      request: () => ({ promptTokens: 1, outputTokens: 1, keys }),
      worker: {
        preset: preset({
          baseMs: base,
          prefillTokenMs: perRequest,
          prefillAttentionMs: 0,
          decodeSequenceMs: 0,
          decodeContextMs: 0
        }),
        maxNumSeqs
      }
    })
  )

const BLOCKS = 200
const BLOCKS_KEPT = 40
const popularities = (() => {
  const weights = Array.from({ length: BLOCKS }, (_, i) => (i + 1) ** -0.8)
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / total)
})()

const hitShare = (kept: number): number => {
  const { options, outcomes } = oneEngine({
    requests: 100_000,
    gapMs: always,
    request: (rng) => {
      let left = rng.next()
      const block = popularities.findIndex((share) => (left -= share) < 0)
      return { promptTokens: 257, outputTokens: 1, keys: Float64Array.of(1 + Math.max(0, block)) }
    },
    worker: {
      // Beside the blocks there is room for the token that is computed, and not for another block.
      preset: preset({ ...sharing.cost, prefillTokenMs: 1e-3 }, 256 * kept + 255),
      maxNumSeqs: 1
    }
  })
  const half = options.workload.requests.length / 2
  return outcomes.cachedTokens.slice(half).filter((tokens) => tokens > 0).length / half
}

const oracles: ReadonlyArray<Oracle> = [
  {
    id: "A1",
    model: "M/M/8 at 0.7, mean wait in the balancer's queue",
    analytic: meanWait(8, 5.6),
    simulated: () => queue({ workers: 8, load: 5.6 }).waitMs
  },
  {
    id: "A1",
    model: "2 × M/M/1 at 0.8, join the shorter (least-connections)",
    analytic: SHORTER_QUEUE_SOJOURN,
    simulated: () =>
      queue({ workers: 2, load: 1.6, capacity: INFINITE, pipeline: placedBy("least-connections") }).sojournMs
  },
  {
    id: "A2",
    model: "supermarket, 500 at 0.9, two choices (power-of-two)",
    analytic: supermarketSojourn(0.9, 2),
    simulated: () => supermarket(0.9, placedBy("power-of-two"))
  },
  {
    id: "A2",
    model: "supermarket, 500 at 0.9, three choices",
    analytic: supermarketSojourn(0.9, 3),
    simulated: () => supermarket(0.9, placedBy("power-of-two", { d: 3 }))
  },
  {
    id: "A3",
    model: "10 × M/M/1 at 0.7 (random)",
    analytic: 1 / 0.3,
    simulated: () => queue({ workers: 10, load: 7, capacity: INFINITE }).sojournMs
  },
  {
    id: "A3",
    model: "M/M/1 at 0.6 shared by continuous batching",
    analytic: 1 / 0.4,
    simulated: () => sharedSojourn(exponential(1))
  },
  {
    id: "A4",
    model: "M/D/1 at 0.7, Pollaczek–Khinchine",
    analytic: 1 + 0.7 / (2 * 0.3),
    simulated: () => queue({ workers: 1, load: 0.7, serviceMs: always }).sojournMs
  },
  {
    id: "A4",
    model: "M/H2/1 at 0.7, Pollaczek–Khinchine",
    analytic: 1 + (0.7 * HYPER_SQUARE) / (2 * 0.3),
    simulated: () => queue({ workers: 1, load: 0.7, serviceMs: hyperexponential }).sojournMs
  },
  {
    id: "A5",
    model: "M/H2/1 at 0.6 shared: insensitive",
    analytic: 1 / 0.4,
    simulated: () => sharedSojourn(hyperexponential)
  },
  ...[0.5, 0.8].map((load) => ({
    id: "A6",
    model: `M/M/1 at ${load}, least left first (Schrage and Miller)`,
    analytic: shortestRemainingSojourn(load),
    simulated: () => shortestRemaining({ load })
  })),
  {
    id: "A6",
    model: "M/M/1 at 0.7, shortest first, mean wait (Phipps)",
    analytic: shortestFirstWait(0.7),
    simulated: () => queue({ workers: 1, load: 0.7, pipeline: shortestFirst }).waitMs
  },
  ...[0, 1, 2].map((one) => ({
    id: "A7",
    model: `M/M/1 at 0.7, wait of class ${one} of three (Cobham)`,
    analytic: classWait(0.7, one),
    simulated: () => byPriority().waitMsOf(one)
  })),
  ...[
    [10, 0.7],
    [5, 0.5],
    [2, 0.3]
  ].map(([workers, load]) => ({
    id: "A8",
    model: `${workers} × M/M/1 at ${load}, two copies of each request (redundancy-d)`,
    analytic: redundantSojourn(workers!, load!),
    simulated: () => new RedundancyWorld(workers!, 4).run(80_000, workers! * load!)
  })),
  {
    id: "A9",
    model: "take-all batches in 0.5 b + 1 ms at 1 per ms",
    analytic: takeAllSojourn(1, 0.5, 1),
    simulated: () => takeAll(1, 0.5, 1)
  },
  {
    id: "A10",
    model: "M/D/10/10 at 8, share refused (Erlang B)",
    analytic: erlangB(10, 8),
    simulated: () => queue({ workers: 10, load: 8, serviceMs: always, pipeline: refusing }).refusedShare
  },
  {
    id: "A10",
    model: "M/H2/10/10 at 8: insensitive",
    analytic: erlangB(10, 8),
    simulated: () =>
      queue({ workers: 10, load: 8, serviceMs: hyperexponential, pipeline: refusing }).refusedShare
  },
  {
    id: "A10",
    model: "M/M/1/10 at 0.9, share refused",
    analytic: (0.1 * 0.9 ** 10) / (1 - 0.9 ** 11),
    simulated: () => queue({ workers: 1, capacity: 10, load: 0.9, pipeline: refusing }).refusedShare
  },
  {
    id: "A11",
    model: "M/M/1 at 0.7 with three classes, λ W ÷ L (Little)",
    analytic: 1,
    simulated: () => byPriority().sojournsMs / byPriority().presentMs
  },
  {
    id: "A11",
    model: "M/M/1 at 0.7 with three classes, Σ ρ · wait (Kleinrock)",
    analytic: 0.7 * meanWait(1, 0.7),
    simulated: () => [0, 1, 2].reduce((sum, one) => sum + (0.7 / 3) * byPriority().waitMsOf(one), 0)
  },
  {
    id: "A15",
    model: "LRU prefix cache, 40 of 200 blocks, hit share (Che)",
    analytic: leastRecentlyUsedHits(popularities, BLOCKS_KEPT),
    simulated: () => hitShare(BLOCKS_KEPT)
  }
]

const shortestRemaining = (options: Partial<QueueOptions> & { readonly load: number }): number =>
  queue({ workers: 1, pipeline: shortestFirst, preemptive: true, ...options }).sojournMs

const supermarket = (load: number, pipeline: Partial<PipelineChoice>, requests = 1_000_000): number =>
  queue({ workers: 500, load: 500 * load, capacity: INFINITE, requests, warmUp: requests / 20, pipeline })
    .sojournMs

const classes = (pipeline: Partial<PipelineChoice>, requests: number): QueueFigures =>
  queue({ workers: 1, load: 0.7, requests, class: (rng) => rng.int(3), pipeline })
/** One run for all classes. */
let priorities: QueueFigures | undefined
const byPriority = (): QueueFigures =>
  (priorities ??= classes(orderedBy("priority", { aging: 1e9 }), 1_000_000))

const errorOf = (simulated: number, analytic: number): number => simulated / analytic - 1

describe("analytic oracles", () => {
  const rows: Array<string> = []
  const tell = (id: string, model: string, analytic: number, found: number): void => {
    const error = `${(100 * errorOf(found, analytic)).toFixed(2)} %`
    rows.push(
      `${id.padEnd(4)}${model.padEnd(60)}${analytic.toFixed(4).padStart(9)}${found.toFixed(4).padStart(11)}${error.padStart(10)}`
    )
  }
  test.each(oracles.map((oracle) => [oracle.id, oracle.model, oracle] as const))(
    "%s: %s within 2 %%",
    (id, model, { analytic, simulated }) => {
      const found = simulated()
      tell(id, model, analytic, found)
      expect(Math.abs(errorOf(found, analytic))).toBeLessThan(ERROR_MAX)
    }
  )

  afterAll(() => {
    const head = `${"".padEnd(64)}${"analytic".padStart(9)}${"simulated".padStart(11)}${"error".padStart(8)}`
    const number = (row: string): number => Number.parseInt(row.slice(1), 10)
    console.log([head, ...rows.toSorted((a, b) => number(a) - number(b) || (a < b ? -1 : 1))].join("\n"))
  })

  test("A1: the shorter queue lies between one queue for all and two choices", () => {
    const joining = (policy: string): number => {
      const pipeline = placedBy(policy)
      return queue({ workers: 8, load: 7.2, capacity: INFINITE, requests: 300_000, pipeline }).sojournMs
    }
    const shorter = joining("least-connections")
    expect(shorter).toBeGreaterThan(meanWait(8, 7.2) + 1)
    expect(joining("power-of-two")).toBeGreaterThan(shorter)
  })

  test("A9: batches keep Inoue's bound", () => {
    const rates: ReadonlyArray<readonly [number, number, number]> = [
      [1, 0.5, 1],
      [2, 0.4, 0.5]
    ]
    for (const [rate, perRequest, base] of rates) {
      const share = takeAllSojourn(rate, perRequest, base) / takeAllBound(rate, perRequest, base)
      expect(share).toBeWithin(0.94, 1.0001)
    }
  })

  test("A12: one after the other ends when Lindley's recursion says, to the last bit", () => {
    const cost = {
      baseMs: 6.4,
      prefillTokenMs: 0.024,
      prefillAttentionMs: 1.3e-6,
      decodeSequenceMs: 0.02,
      decodeContextMs: 4.6e-5
    }
    const { options, outcomes } = oneEngine({
      requests: 5000,
      gapMs: exponential(200),
      request: (rng) => ({ promptTokens: 1 + rng.int(2048), outputTokens: 1 + rng.int(40), keys }),
      worker: { preset: preset(cost), maxNumSeqs: 1, maxBatchedTokens: 2048 }
    })
    let freeMs = 0
    let waited = 0
    let [expectedMs, foundMs] = [0, 0]
    for (const [number, { arrivalMs, outputTokens, promptTokens }] of options.workload.requests.entries()) {
      if (freeMs > arrivalMs) waited++
      freeMs = Math.max(freeMs, arrivalMs) + stepMs(cost, promptTokens, promptTokens ** 2 / 2, 0, 0)
      expect(outcomes.firstMs[number]).toBe(freeMs)
      for (let i = 0; i < outputTokens - 1; i++) freeMs += stepMs(cost, 0, 0, 1, promptTokens + i)
      expect(outcomes.endedMs[number]).toBe(freeMs)
      expectedMs += freeMs - arrivalMs
      foundMs += outcomes.endedMs[number]! - arrivalMs
    }
    tell("A12", "one engine, first come, first served (Lindley)", expectedMs / 5000, foundMs / 5000)
    expect(waited).toBeWithin(2000, 4500)
  })
})

const FEW = 100_000

/** Systems that differ from those of the oracles, and must miss them. */
const defects: ReadonlyArray<readonly [defect: string, analytic: number, simulated: () => number]> = [
  ["A1: one worker less", meanWait(8, 5.6), () => queue({ workers: 7, load: 5.6, requests: FEW }).waitMs],
  [
    "A1: takes turns",
    SHORTER_QUEUE_SOJOURN,
    () => {
      const pipeline = placedBy("round-robin")
      return queue({ workers: 2, load: 1.6, capacity: INFINITE, pipeline, requests: FEW }).sojournMs
    }
  ],
  ["A2: looks at one", supermarketSojourn(0.9, 2), () => supermarket(0.9, {}, FEW)],
  ["A3: serves all from one queue", 1 / 0.3, () => queue({ workers: 10, load: 7, requests: FEW }).sojournMs],
  [
    "A4: all take equally long",
    1 + (0.7 * HYPER_SQUARE) / (2 * 0.3),
    () => queue({ workers: 1, load: 0.7, serviceMs: always, requests: FEW }).sojournMs
  ],
  ["A5: serves one after the other", 1 / 0.4, () => sharedSojourn(hyperexponential, 20_000, 1)],
  [
    "A6: first come, first served",
    shortestFirstWait(0.7),
    () => queue({ workers: 1, load: 0.7, requests: FEW }).waitMs
  ],
  [
    "A6: nobody is interrupted",
    shortestRemainingSojourn(0.8),
    () => shortestRemaining({ load: 0.8, requests: FEW, preemptive: false })
  ],
  ["A7: classes count for nothing", classWait(0.7, 0), () => classes({}, FEW).waitMsOf(0)],
  ["A8: one worker less", redundantSojourn(10, 0.7), () => new RedundancyWorld(9, 4).run(20_000, 7)],
  ["A9: batches of four at most", takeAllSojourn(1, 0.5, 1), () => takeAll(1, 0.5, 1, FEW, 4)],
  [
    "A10: room for one more",
    (0.1 * 0.9 ** 10) / (1 - 0.9 ** 11),
    () => queue({ workers: 1, capacity: 11, load: 0.9, pipeline: refusing, requests: FEW }).refusedShare
  ],
  [
    "A11: knows how long requests take",
    0.7 * meanWait(1, 0.7),
    () => 0.7 * queue({ workers: 1, load: 0.7, pipeline: shortestFirst, requests: FEW }).waitMs
  ],
  [
    "A15: keeps two blocks more",
    leastRecentlyUsedHits(popularities, BLOCKS_KEPT),
    () => hitShare(BLOCKS_KEPT + 2)
  ]
]

describe("planted defects", () => {
  test.each(defects)("%s: the oracle tells", (_, analytic, simulated) => {
    expect(Math.abs(errorOf(simulated(), analytic))).toBeGreaterThan(ERROR_MAX)
  })
})
