import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { WorkerLoad } from "../../src/domain/WorkerLoad.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../../src/policies/pipelines.ts"
import type { PolicyFacts } from "../../src/policies/Policy.ts"
import { admissions, batchings, orderings, placements, rescues, rivals } from "../../src/policies/registry.ts"
import { audit } from "../../src/simulator/replay/audit.ts"
import { TICK_MS } from "../../src/simulator/replay/Event.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { Replay, type ReplayOptions, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import type { ReplayWorker } from "../../src/simulator/replay/ReplayWorker.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"
import { ChainBuffer, type PrefixChain } from "../../src/structures/PrefixChain.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays } from "../support/replays.ts"

type Maker = (options: ReplayOptions) => Replay

const holds = (check: (options: ReplayOptions) => void): void =>
  fc.assert(fc.property(replays, check), { numRuns: 80 })

const bytesOf = ({ outcomes, presentMs, spanMs, totals, workers }: ReplayResult): ReadonlyArray<unknown> => [
  ...Object.values(outcomes).map((column: ArrayBufferView) => Buffer.from(column.buffer).toString("base64")),
  JSON.stringify([presentMs, spanMs, totals, workers])
]

const chainOf = (keys: Float64Array): PrefixChain => {
  const chain = new ChainBuffer()
  chain.fill(keys, 0, keys.length)
  return chain
}

/** Calls of one method of one part of a replay, as they happen. */
const spy = (part: object, method: string, heard: (...args: Array<never>) => void): void => {
  const original = Reflect.get(part, method)
  Reflect.set(part, method, (...args: Array<never>) => {
    heard(...args)
    return original.apply(part, args)
  })
}

/** The preset `simple` with each policy there is in its place, and each preset. */
const everyPipeline = (): ReadonlyArray<PipelineChoice> => {
  const simple = choiceOf(pipelines.simple)
  const each = (entries: ReadonlyArray<PolicyFacts>) =>
    entries.map(({ name }) => ({ policy: name, options: {} }))
  return [
    ...Object.values(pipelines).map(choiceOf),
    ...each(admissions).map((admission) => ({ ...simple, admission: [admission] })),
    ...each(orderings).map((ordering) => ({ ...simple, ordering })),
    ...each(batchings).map((batching) => ({ ...simple, batching })),
    ...each([...placements, ...rivals]).map((placement) => ({ ...simple, placement })),
    ...each(rescues).map((rescue) => ({ ...simple, rescue: [rescue] }))
  ]
}

/** Bursts that make requests wait, minutes apart. */
const bursts = workloadOf([
  generateTraffic({
    seed: 1,
    requests: 120,
    requestsPerSecond: 40,
    promptTokens: { mean: 3000, variation: 1 },
    outputTokens: { mean: 50, variation: 1 },
    tenants: { count: 3, skew: 1 },
    sharedPrefix: { count: 2, tokens: 2048, share: 0.5 }
  })
])
const BURST = 30
const SILENCE_MS = 300_123

const withSilences: Omit<ReplayOptions, "pipeline"> = {
  workload: {
    ...bursts,
    requests: bursts.requests.map((request, i) => ({
      ...request,
      arrivalMs: request.arrivalMs + Math.floor(i / BURST) * SILENCE_MS
    }))
  },
  workers: [1, 2, 1].map((slowFactor, i) => ({
    name: `worker-${i}`,
    preset: presets["8b-h100"],
    slowFactor,
    maxNumSeqs: 4
  })),
  seed: 1
}

/** A worker comes back before a burst, and what it says until then is under way for long. */
const farAway: ReplayOptions = {
  ...withSilences,
  pipeline: choiceOf(pipelines.default),
  networkMs: 900,
  heartbeatMs: 50,
  crashes: [{ worker: 0, atMs: SILENCE_MS - 6000, goneMs: 1000 }]
}
const never = { worker: 0, atMs: 1e12, silent: true }

const laws = [
  {
    id: "replay-deterministic",
    check: (make: Maker) =>
      holds((options) => {
        const first = bytesOf(make(options).run())
        make({ ...options, seed: options.seed + 1 }).run()
        expect(bytesOf(make(options).run())).toEqual(first)
      })
  },
  {
    id: "replay-conserves",
    check: (make: Maker) =>
      holds((options) => {
        const result = make(options).run()
        expect(() => audit(result)).not.toThrow()
        const { outcomes, totals, workers } = result
        const produced = workers.reduce((sum, worker) => sum + worker.outputTokens, 0)
        const due = options.workload.requests
          .filter((_, number) => outcomes.reasons[number] === Reason.none)
          .reduce((sum, request) => sum + request.outputTokens, 0)
        expect(totals.outputTokens).toBe(due)
        const wasted = options.pipeline.rescue.length > 0 || totals.expired > 0
        if (wasted) expect(produced).toBeGreaterThanOrEqual(due)
        else expect(produced).toBe(due)
      })
  },
  {
    id: "replay-present",
    check: (make: Maker) =>
      holds((options) => {
        const replay = make(options)
        for (const worker of replay.workers) {
          const load = worker.load.bind(worker)
          worker.load = () => {
            if (worker.stepping) expect(worker.endsMs).toBeGreaterThanOrEqual(Reflect.get(replay, "nowMs"))
            return load()
          }
        }
        replay.run()
      })
  },
  {
    id: "replay-superseded",
    check: (make: Maker) => {
      // Many are taken back while the network still carries their first token. Random traffic has that too rarely.
      const [networkMs, slowFactors] = [500, [1, 10]]
      for (let seed = 0; seed < 20; seed++) {
        const traffic = generateTraffic({
          seed,
          requests: 60,
          requestsPerSecond: 20,
          promptTokens: { mean: 1000, variation: 1 },
          outputTokens: { mean: 5, variation: 1 }
        })
        const { outcomes } = make({
          workload: workloadOf([traffic]),
          workers: slowFactors.map((slowFactor, i) => ({
            name: `worker-${i}`,
            preset: presets["8b-h100"],
            slowFactor
          })),
          pipeline: {
            ...choiceOf(pipelines.simple),
            rescue: [{ policy: "steal", options: { guard: 0 } }]
          },
          seed,
          networkMs
        }).run()
        for (const [number, firstMs] of outcomes.firstMs.entries()) {
          const slowFactor = slowFactors[outcomes.workers[number]!]!
          const leastMs = 2 * networkMs + presets["8b-h100"].cost.baseMs * slowFactor
          expect(firstMs - outcomes.placedMs[number]!).toBeGreaterThan(leastMs)
        }
      }
    }
  },
  {
    id: "replay-late",
    check: (make: Maker) =>
      holds((options) => {
        const { networkMs = 0, heartbeatMs = 0, workers } = options
        const replay = make(options)
        const beats: Array<readonly [worker: number, doneCount: number, nowMs: number]> = []
        const heardMs = new Map<number, number>()
        spy(Reflect.get(replay, "columns"), "observe", (worker: number, load: WorkerLoad, nowMs: number) =>
          beats.push([worker, load.requestsDone, nowMs])
        )
        spy(
          replay.prefixes,
          "stored",
          (worker: number, _high: number, _low: number, { count, high, low }: PrefixChain) => {
            for (let i = 0; i < count; i++) {
              const block = worker * 2 ** 53 + (high[i]! * 2 ** 21 + low[i]! / 2 ** 11)
              if (!heardMs.has(block)) heardMs.set(block, Reflect.get(replay, "nowMs"))
            }
          }
        )
        const { outcomes } = replay.run()
        for (const [worker, doneCount, nowMs] of beats) {
          const periods = (nowMs - networkMs - (worker * heartbeatMs) / workers.length) / heartbeatMs
          expect(periods).toBeCloseTo(Math.round(periods), 6)
          // Of a request that was done before the heartbeat left the balancer has heard when it comes.
          const heardOf = (untilMs: number): number =>
            outcomes.endedMs.filter(
              (endedMs, number) => outcomes.workers[number] === worker && endedMs <= untilMs && isDone(number)
            ).length
          const isDone = (number: number): boolean => outcomes.reasons[number] === Reason.none
          const wasted = options.pipeline.rescue.length > 0 || (options.requestTimeoutMs ?? 0) < 1000
          if (!wasted) expect(doneCount).toBeWithin(heardOf(nowMs - 1e-6), heardOf(nowMs + 1e-6) + 1)
        }
        for (const [number, { keys }] of options.workload.requests.entries()) {
          const worker = outcomes.workers[number]!
          const [last] = keys.slice(-1)
          if (last === undefined || !(outcomes.firstMs[number]! >= 0)) continue
          const atMs = heardMs.get(worker * 2 ** 53 + last)
          if (atMs === undefined) continue
          // Nobody can have computed a block before the first request with it reached a worker.
          const firstWith = options.workload.requests.findIndex((one) => one.keys.includes(last))
          expect(atMs).toBeGreaterThanOrEqual(outcomes.arrivedMs[firstWith]! + 2 * networkMs - 1e-6)
          expect(atMs).toBeLessThanOrEqual(outcomes.firstMs[number]!)
        }
      })
  },
  {
    id: "replay-silence",
    check: (make: Maker) => {
      const cases = [...everyPipeline().map((pipeline) => ({ ...withSilences, pipeline })), farAway]
      for (const options of cases) {
        const { crashes = [], pipeline } = options
        const result = make(options).run()
        // Looking out for workers that fall silent is an event four times a second, so that no silence is left out.
        const wakeful = make({ ...options, crashes: [...crashes, never] }).run()
        const isSame = Bun.deepEquals(
          bytesOf({ ...result, presentMs: 0 }),
          bytesOf({ ...wakeful, presentMs: 0 })
        )
        expect([pipeline, isSame]).toEqual([pipeline, true])
        expect(result.events).toBeLessThan(wakeful.events / 10)
      }
    }
  },
  {
    id: "replay-index",
    check: (make: Maker) =>
      holds((options) => {
        const { pipeline, workload } = options
        const indexed = {
          ...options,
          pipeline: { ...pipeline, admission: [], placement: { policy: "prefix-locality", options: {} } }
        }
        // A last request: when it comes, all that was said is heard and all that was expected has come.
        const last = {
          ...workload.requests.at(-1)!,
          arrivalMs: Math.max(...make(indexed).run().outcomes.endedMs) + 10_000,
          promptTokens: 1,
          outputTokens: 1,
          keys: new Float64Array(0)
        }
        const replay = make({
          ...indexed,
          workload: { ...workload, requests: [...workload.requests, last] }
        })
        replay.run()
        for (const [slot, { batch }] of replay.workers.entries()) {
          let cached = 0
          batch.cache.forEachRun((_, _keys, from, to) => (cached += to - from))
          expect(replay.prefixes.heldCount(slot)).toBe(cached)
          for (const { keys } of workload.requests) {
            const held = batch.cache.pin(keys, keys.length)
            expect(replay.prefixes.depth(chainOf(keys), slot)).toBe(held.end)
            batch.cache.unpin(held)
          }
        }
      })
  }
]

/** A replay of which one part is another. */
const changed =
  (change: (replay: Replay) => void): Maker =>
  (options) => {
    const replay = new Replay(options)
    change(replay)
    return replay
  }

const put = (replay: Replay, name: string, part: unknown): void => void Reflect.set(replay, name, part)

let runs = 0
const defects: ReadonlyArray<Planted<Maker>> = [
  [
    "draws from a sequence of its own",
    "replay-deterministic",
    (options) => new Replay({ ...options, seed: runs++ })
  ],
  [
    "ends a request twice",
    "replay-conserves",
    changed((replay) => {
      const end = Reflect.get(replay, "end")
      put(replay, "end", (number: number, reason: Reason) => {
        end.call(replay, number, reason)
        if (number === 3) end.call(replay, 0, Reason.none)
      })
    })
  ],
  [
    "loses the tokens of a step",
    "replay-conserves",
    changed((replay) => {
      for (const worker of replay.workers)
        spy(worker, "step", () => {
          if (worker.batch.producedTokens === 2) worker.batch.producedTokens = 1
        })
    })
  ],
  [
    "says what it was like when something came of a step",
    "replay-present",
    changed((replay) => {
      const engines = Reflect.get(replay, "engines")
      const { beat, catchUp } = engines
      engines.beat = (worker: ReplayWorker) => {
        engines.catchUp = () => undefined
        beat.call(engines, worker)
        engines.catchUp = catchUp
      }
    })
  ],
  [
    "believes whoever speaks of a request",
    "replay-superseded",
    changed((replay) => {
      const { firstMs } = Reflect.get(replay, "outcomes")
      const first = Reflect.get(replay, "first")
      const heardMs = new Map<number, number>()
      put(replay, "first", (attempt: number, request: number) => {
        if (!heardMs.has(request)) heardMs.set(request, Reflect.get(replay, "nowMs"))
        first.call(replay, attempt, request)
        if (firstMs[request] >= 0) firstMs[request] = heardMs.get(request)
      })
    })
  ],
  [
    "hears heartbeats at once",
    "replay-late",
    changed((replay) => {
      const columns = Reflect.get(replay, "columns")
      spy(Reflect.get(replay, "engines"), "beat", (worker: ReplayWorker) =>
        columns.observe(worker.slot, worker.load(), Reflect.get(replay, "nowMs"))
      )
    })
  ],
  [
    "knows caches at once",
    "replay-late",
    changed((replay) => {
      const engines = Reflect.get(replay, "engines")
      const { step } = engines
      engines.step = (worker: ReplayWorker) => {
        step.call(engines, worker)
        for (const news of worker.unheard) Reflect.set(news, "heardMs", 0)
        Reflect.get(replay, "hear").call(replay, worker)
      }
    })
  ],
  [
    "sleeps until a request comes",
    "replay-silence",
    changed((replay) => {
      const againAfter = Reflect.get(Replay.prototype, "againAfter")
      put(replay, "againAfter", (periodMs: number) => {
        const [quietUntilMs, nowMs] = [Reflect.get(replay, "quietUntilMs"), Reflect.get(replay, "nowMs")]
        return Math.max(againAfter.call(replay, periodMs), quietUntilMs + periodMs - nowMs)
      })
    })
  ],
  [
    "never leaves a silence out",
    "replay-silence",
    changed((replay) => put(replay, "lookAhead", () => undefined))
  ],
  [
    "does not hear what left a cache",
    "replay-index",
    changed((replay) => Reflect.set(replay.prefixes, "removed", () => undefined))
  ]
]

describe("a replay", () => keepsAll(laws, (options) => new Replay(options)))
describe("planted defects", () => findsAll(laws, defects))

describe("the audit", () => {
  const result = new Replay({
    workload: workloadOf([
      generateTraffic({
        seed: 1,
        requests: 50,
        requestsPerSecond: 20,
        promptTokens: { mean: 500, variation: 1 },
        outputTokens: { mean: 20, variation: 1 }
      })
    ]),
    workers: [{ name: "worker", preset: presets["8b-h100"] }],
    pipeline: choiceOf(pipelines.default),
    seed: 1
  }).run()

  const withOutcome = (column: "endedMs" | "firstMs" | "placedMs", change: (ms: number) => number) => ({
    ...result,
    outcomes: {
      ...result.outcomes,
      [column]: result.outcomes[column].map((ms, i) => (i === 7 ? change(ms) : ms))
    }
  })
  const [worker] = result.workers
  const [spell] = result.spells
  const tampered: Readonly<Record<string, readonly [ReplayResult, string]>> = {
    "a request that never ended": [withOutcome("endedMs", () => Number.NaN), "ends after"],
    "a request that took longer than it was there": [withOutcome("endedMs", (ms) => ms + 10), "Little's law"],
    "a token before its placement": [withOutcome("firstMs", () => 0), "placed last"],
    "a placement before the arrival": [withOutcome("placedMs", () => -1), "placed after"],
    "a request counted twice": [{ ...result, totals: { ...result.totals, done: 51 } }, "once"],
    "a request that nobody counted": [{ ...result, totals: { ...result.totals, accepted: 49 } }, "one end"],
    "a rejection too many": [
      { ...result, totals: { ...result.totals, rejected: 1 } },
      "accepted or rejected"
    ],
    "an engine that was busy with nothing": [
      { ...result, spells: [{ ...spell!, to: { ...spell!.to, busyMs: spell!.to.busyMs + 1 } }] },
      "busy with its steps"
    ],
    "a worker that was busy without its engine": [
      { ...result, workers: [{ ...worker!, busyMs: worker!.busyMs + 1 }] },
      "as long as their engines"
    ],
    "tokens from nowhere": [{ ...result, workers: [{ ...worker!, outputTokens: 5 }] }, "was produced"]
  }

  test("passes what was not tampered with", () => audit(result))
  test.each(Object.entries(tampered))("finds %s", (_, [wrong, must]) => {
    expect(() => audit(wrong)).toThrow(must)
  })
})

test("a request ends at its deadline, ten minutes after it has come unless told", () => {
  const request = {
    promptTokens: 100,
    outputTokens: 200_000,
    maxTokens: 200_000,
    tenant: 0,
    sessionHigh: 0,
    sessionLow: 0,
    keys: new Float64Array(0)
  }
  const workload = {
    name: "",
    blockTokens: 256,
    tenants: ["default"],
    requests: [1234.5, 2000.25].map((arrivalMs) => ({ ...request, arrivalMs }))
  }
  for (const requestTimeoutMs of [undefined, 3000]) {
    const { outcomes, totals } = new Replay({
      workload,
      workers: [{ name: "worker", preset: presets["8b-h100"] }],
      pipeline: choiceOf(pipelines.simple),
      seed: 1,
      ...(requestTimeoutMs !== undefined && { requestTimeoutMs })
    }).run()
    expect(totals.expired).toBe(2)
    for (const [number, endedMs] of outcomes.endedMs.entries()) {
      const lateMs = endedMs - outcomes.arrivedMs[number]! - (requestTimeoutMs ?? 600_000)
      expect(lateMs).toBeWithin(0, TICK_MS)
    }
  }
})
