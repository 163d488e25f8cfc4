import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { ContinuousBatch } from "../../src/engines/simulated/ContinuousBatch.ts"
import { presets, stepMs } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { audit } from "../../src/simulator/replay/audit.ts"
import type { Crash } from "../../src/simulator/replay/faults.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { Replay, replay, type ReplayOptions, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import type { Attempt, ReplayWorker } from "../../src/simulator/replay/ReplayWorker.ts"
import { type PlannedRequest, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { boundsOf } from "../../src/simulator/report/bounds.ts"
import { figuresOf, workerMsOf } from "../../src/simulator/report/figuresOf.ts"
import { plotsOf } from "../../src/simulator/report/plots.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { troubles } from "../support/troubles.ts"

type Maker = (options: ReplayOptions) => Replay

const holds = (check: (options: ReplayOptions) => void): void =>
  fc.assert(fc.property(troubles, check), { numRuns: 50 })

/** In what happens by chance, and where it happens for sure. */
const alsoIn = (options: ReplayOptions, check: (options: ReplayOptions) => void): void => {
  holds(check)
  check(options)
}

const bytesOf = ({ lives, outcomes, presentMs, spanMs, totals, workers }: ReplayResult) => [
  ...Object.values(outcomes).map((column: ArrayBufferView) => Buffer.from(column.buffer).toString("base64")),
  JSON.stringify([presentMs, spanMs, totals, lives, workers])
]

const part = (replay: Replay, name: string) => Reflect.get(replay, name)
const put = (owner: object, name: string, value: unknown): void => void Reflect.set(owner, name, value)
const nowOf = (replay: Replay): number => part(replay, "nowMs")

/** Calls `after` behind each call of a method, with its result and what it was given. */
const watch = (
  owner: object,
  method: string,
  after: (result: unknown, ...given: Array<never>) => void
): void => {
  const original = Reflect.get(owner, method)
  put(owner, method, (...given: Array<never>) => {
    const result = original.apply(owner, given)
    after(result, ...given)
    return result
  })
}

/** Every process, from the start or as it is made. */
const eachWorker = (replay: Replay, visit: (worker: ReplayWorker) => void): void => {
  for (const worker of replay.workers) visit(worker)
  watch(replay, "makeWorker", (worker) => visit(worker as ReplayWorker))
}

/** Whoever holds anything of some request. */
const involved = (replay: Replay): ReadonlyArray<ReplayWorker> => {
  const table = part(replay, "table")
  const requests = Array.from({ length: table.capacity }, (_, slot) => table.at(slot))
  return requests.flatMap(({ holder, keeper, tied }) => [holder, keeper, tied])
}

const naiveSlowness = ({ slowDowns = [], workers }: ReplayOptions, slot: number, nowMs: number): number => {
  let factor = workers[slot]!.slowFactor ?? 1
  for (const one of slowDowns)
    if (one.worker === slot && nowMs >= one.fromMs && nowMs < one.toMs) factor *= one.factor
  return factor
}

const costs = ["stepPrefillTokens", "stepAttention", "stepDecodes", "stepContextTokens"] as const
type Sums = readonly [number, number, number, number]
const sumsOf = (batch: ContinuousBatch<Attempt>) => costs.map((name) => batch[name]) as unknown as Sums

const preset = presets["8b-h100"]
const NETWORK_MS = 0.5

const one = (arrivalMs: number, promptTokens = 1000, outputTokens = 50): PlannedRequest => ({
  arrivalMs,
  promptTokens,
  outputTokens,
  maxTokens: outputTokens,
  tenant: 0,
  sessionHigh: 0,
  sessionLow: 0,
  keys: new Float64Array(0)
})

/** Requests at workers that take turns, and begin with the one of the lowest key. */
const inTurns = (
  requests: ReadonlyArray<PlannedRequest>,
  workers: number,
  more: Partial<ReplayOptions>
): ReplayOptions => ({
  workload: { name: "made", blockTokens: 256, tenants: ["default"], requests },
  workers: Array.from({ length: workers }, (_, i) => ({ name: `worker-${i}`, preset })),
  pipeline: {
    ...choiceOf(pipelines.simple),
    admission: [],
    placement: { policy: "round-robin", options: {} }
  },
  seed: 1,
  ...more
})

/** A burst, and the workers that come for it and go. */
const [least, most, coldStartMs] = [1, 4, 5_000]
const workload = workloadOf([
  generateTraffic({
    seed: 1,
    requests: 600,
    requestsPerSecond: 20,
    promptTokens: { mean: 4000, variation: 0.5 },
    outputTokens: { mean: 100, variation: 0.5 }
  })
])
/** Then it is quiet, but for one request now and then. */
const quiet = Array.from({ length: 40 }, (_, i) => one(60_000 + 5_000 * i))
const requests = [...workload.requests, ...quiet]
const scaling = {
  policy: { policy: "queue-driven", options: { concurrency: 8, drain: 1_000, window: 20_000 } },
  least,
  coldStartMs,
  periodMs: 2_000
}
const laws = [
  {
    id: "trouble-deterministic",
    check: (make: Maker) =>
      holds((options) => {
        const first = bytesOf(make(options).run())
        make({ ...options, seed: options.seed + 1 }).run()
        expect(bytesOf(make(options).run())).toEqual(first)
      })
  },
  {
    id: "trouble-conserves",
    check: (make: Maker) =>
      holds((options) => {
        const replay = make(options)
        const ends = options.workload.requests.map(() => 0)
        watch(replay, "end", (_, number: number) => ends[number]!++)
        const result = replay.run()
        expect(() => audit(result)).not.toThrow()
        expect(ends.every((count) => count === 1)).toBe(true)
        const { answerTokens, contextTokens, inFlight, pendingPrefillTokens } = part(replay, "columns")
        for (const charged of [answerTokens, contextTokens, inFlight, pendingPrefillTokens])
          expect([...charged].every((count) => count === 0)).toBe(true)
      })
  },
  {
    id: "trouble-lost",
    check: (make: Maker) =>
      holds((options) => {
        const { heartbeatMs = 0, networkMs = 0 } = options
        // Given up two seconds after the last heartbeat that came, as soon as somebody looks.
        const longestMs = networkMs + 2_000 + Math.min(heartbeatMs, 250) + 1e-6
        const replay = make(options)
        const diedMs = new Map<ReplayWorker, number>()
        watch(replay, "retire", (_, worker: ReplayWorker) => diedMs.set(worker, nowOf(replay)))
        watch(replay, "lose", (_, worker: ReplayWorker) => {
          if (part(replay, "links")[worker.slot] !== undefined) return
          expect(involved(replay)).not.toContain(worker)
          // The place for the answer of a split request may be kept there until its prompt is read.
          if (options.pipeline.placement.policy !== "disaggregated")
            expect(replay.prefixes.heldCount(worker.slot)).toBe(0)
          expect(nowOf(replay) - diedMs.get(worker)!).toBeWithin(networkMs - 1e-6, longestMs)
        })
        watch(replay, "dialled", (_, { batch }: ReplayWorker) => {
          expect(batch.cache.freePages).toBe(batch.cache.capacityPages)
          expect(batch.running + batch.waiting).toBe(0)
        })
        replay.run()
        for (const [worker, atMs] of diedMs)
          if (nowOf(replay) > atMs + longestMs) expect(part(replay, "links")).not.toContain(worker)
      })
  },
  {
    id: "trouble-placed",
    check: (make: Maker) =>
      alsoIn(inTurns(requests, most, { scaling }), (options) => {
        const replay = make(options)
        const drained = new Set<ReplayWorker>()
        const links = part(replay, "links")
        watch(replay, "drain", (_, slot: number) => drained.add(links[slot]))
        const { capacity, inFlight } = part(replay, "columns")
        watch(replay, "assign", (sent, _, worker: number) => {
          if (sent !== true) return
          expect(drained.has(links[worker])).toBe(false)
          expect(part(replay, "pool").stateOf(worker)).toBe("ready")
          expect(inFlight[worker]).toBeLessThanOrEqual(capacity[worker])
        })
        replay.run()
      })
  },
  {
    id: "trouble-slow",
    check: (make: Maker) =>
      holds((options) => {
        const replay = make(options)
        const { cost } = presets["8b-h100"]
        eachWorker(replay, (worker) => {
          let before = sumsOf(worker.batch)
          watch(worker, "step", (_, nowMs: number) => {
            const sums = sumsOf(worker.batch)
            const done = sums.map((sum, i) => sum - before[i]!) as unknown as Sums
            before = sums
            const takesMs = stepMs(cost, ...done) * naiveSlowness(options, worker.slot, nowMs)
            if (worker.stepping) expect(worker.endsMs - nowMs).toBeCloseTo(takesMs, 6)
          })
        })
        replay.run()
      })
  },
  {
    id: "trouble-time",
    check: (make: Maker) =>
      holds((options) => {
        const replay = make(options)
        let countedMs = 0
        const advance = Reflect.get(replay, "advance")
        put(replay, "advance", (nowMs: number) => {
          const there = replay.workers.filter(({ life }) => life !== "none").length
          countedMs += there * (nowMs - nowOf(replay))
          advance.call(replay, nowMs)
        })
        const dueMs = new Map<ReplayWorker, number>()
        const { crashes = [], scaling } = options
        const waitsMs = [scaling?.coldStartMs, ...crashes.map(({ goneMs }) => goneMs)]
        watch(replay, "order", (_, slot: number, afterMs: number) => {
          expect(waitsMs).toContain(afterMs)
          dueMs.set(replay.workers[slot]!, nowOf(replay) + afterMs)
        })
        watch(replay, "join", (_, worker: ReplayWorker) =>
          expect(nowOf(replay)).toBeCloseTo(dueMs.get(worker)! + options.networkMs!, 6)
        )
        expect(workerMsOf(replay.run().lives)).toBeCloseTo(countedMs, 3)
      })
  },
  {
    id: "trouble-nothing",
    check: (make: Maker) =>
      holds(({ crashes: _crashes, scaling: _scaling, slowDowns: _slowDowns, ...plain }) => {
        const nothing: ReplayOptions = {
          ...plain,
          crashes: [{ worker: 0, atMs: 1e12, silent: true }],
          slowDowns: [{ worker: 0, fromMs: 0, toMs: 1e12, factor: 1 }],
          scaling: { policy: { policy: "fixed", options: {} }, least: plain.workers.length, coldStartMs: 0 }
        }
        // What is summed up at more moments is rounded otherwise.
        const exactly = (result: ReplayResult) => bytesOf({ ...result, presentMs: 0 })
        expect(exactly(make(nothing).run())).toEqual(exactly(make(plain).run()))
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

let runs = 0
const defects: ReadonlyArray<Planted<Maker>> = [
  [
    "draws from a sequence of its own",
    "trouble-deterministic",
    (options) => new Replay({ ...options, seed: runs++ })
  ],
  [
    "forgets what a worker did before it crashed",
    "trouble-conserves",
    changed((replay) =>
      watch(replay, "order", (_, slot: number) => (part(replay, "retired")[slot].length = 0))
    )
  ],
  [
    "charges a worker that joins for nothing",
    "trouble-conserves",
    changed((replay) =>
      watch(replay, "join", (_, { slot }: ReplayWorker) => part(replay, "columns").inFlight[slot]++)
    )
  ],
  [
    "leaves what a lost worker had to itself",
    "trouble-lost",
    changed((replay) =>
      put(replay, "lose", ({ slot }: ReplayWorker) => {
        part(replay, "links")[slot] = undefined
        replay.prefixes.forget(slot)
        part(replay, "tellPool").call(replay, { _tag: "Left", worker: slot })
      })
    )
  ],
  [
    "remembers the cache of a lost worker",
    "trouble-lost",
    changed((replay) => put(replay.prefixes, "forget", () => undefined))
  ],
  [
    "has a worker find its cache again",
    "trouble-lost",
    changed((replay) =>
      watch(replay, "order", (_, slot: number) => {
        const former = part(replay, "processes").find((one?: ReplayWorker) => one?.slot === slot)
        put(replay.workers[slot]!, "batch", former.batch)
      })
    )
  ],
  [
    "never looks whether heartbeats come",
    "trouble-lost",
    changed((replay) => {
      const pool = part(replay, "pool")
      const step = pool.step
      put(pool, "step", (message: { readonly _tag: string }, nowMs: number) =>
        message._tag === "Check" ? [] : step.call(pool, message, nowMs)
      )
    })
  ],
  [
    "does not say that a worker is to leave",
    "trouble-placed",
    changed((replay) => put(replay, "drain", () => undefined))
  ],
  [
    "slows workers down for ever",
    "trouble-slow",
    changed((replay) =>
      eachWorker(replay, (worker) => {
        const slow = Reflect.get(worker, "slow")
        put(worker, "slow", (slowness: number) => {
          if (slowness > 1) slow.call(worker, slowness)
        })
      })
    )
  ],
  [
    "does not count the time that workers take to start",
    "trouble-time",
    changed((replay) =>
      watch(replay, "dialled", (_, worker: ReplayWorker) => (worker.orderedMs = nowOf(replay)))
    )
  ],
  [
    "waits for the first heartbeat of who was there before",
    "trouble-nothing",
    (options) => {
      const replay = new Replay(options)
      if (options.crashes !== undefined)
        for (const slot of replay.workers.keys()) {
          const core = part(replay, "core")
          core.member(0, slot, false, 0)
          part(replay, "pool").step({ _tag: "Joined", worker: slot, registration: 0 }, 0)
        }
      return replay
    }
  ]
]

describe("a replay with troubles", () => keepsAll(laws, (options) => new Replay(options)))
describe("planted defects", () => findsAll(laws, defects))

describe("a request whose worker crashes", () => {
  const first = replay(inTurns([one(0)], 2, {})).outcomes.workers[0]!
  const firstMs = replay(inTurns([one(0)], 2, {})).outcomes.firstMs[0]!
  const crashing = (crash: Partial<Crash>) =>
    replay(inTurns([one(0)], 2, { crashes: [{ worker: first, atMs: 20, ...crash }] })).outcomes

  test("before its first token is placed anew when the end of the connection is heard", () => {
    const { firstMs: againMs, placedMs, reasons, workers } = crashing({})
    expect(reasons[0]).toBe(Reason.none)
    expect(workers[0]).toBe(1 - first)
    expect(placedMs[0]).toBe(20 + NETWORK_MS)
    expect(againMs[0]! - placedMs[0]!).toBeCloseTo(firstMs, 9)
  })

  test("without a word is placed anew when the failure detector has given the worker up", () => {
    const { placedMs, workers } = crashing({ silent: true })
    expect(workers[0]).toBe(1 - first)
    expect(placedMs[0]).toBeWithin(2_000 - 250, 2_000 + 250 + 1)
  })

  test("without a word is placed anew when the worker is back before it was missed", () => {
    const { placedMs } = crashing({ silent: true, goneMs: 300 })
    expect(placedMs[0]).toBe(20 + 300 + NETWORK_MS)
  })

  test("after its first token fails, for half an answer cannot be taken back", () => {
    const { endedMs, reasons } = crashing({ atMs: Math.ceil(firstMs) })
    expect(reasons[0]).toBe(Reason.workerLost)
    expect(endedMs[0]).toBe(Math.ceil(firstMs) + NETWORK_MS)
  })

  test("when it is the only one waits until that is back, and its blocks are computed again", () => {
    const keys = Float64Array.from({ length: 3 }, (_, i) => (i + 1) * 2 ** 32 + 7)
    const requests = [0, 500, 2_000].map((arrivalMs) => ({ ...one(arrivalMs), keys }))
    const { outcomes, workers } = replay(
      inTurns(requests, 1, { crashes: [{ worker: 0, atMs: 500, goneMs: 400 }] })
    )
    expect([...outcomes.reasons]).toEqual([Reason.none, Reason.none, Reason.none])
    expect(outcomes.placedMs[1]).toBe(500 + 400 + NETWORK_MS)
    expect([...outcomes.cachedTokens]).toEqual([0, 0, 3 * 256])
    expect(workers[0]!.requestsDone).toBe(3)
  })
})

describe("a worker that is slow for a while", () => {
  test("and has crashed before changes nothing", () => {
    const requests = [one(0), one(1_000)]
    const worker = replay(inTurns(requests, 2, {})).outcomes.workers[0]!
    const crashes = [{ worker, atMs: 100 }]
    const slowDowns = [{ worker, fromMs: 500, toMs: 600, factor: 2 }]
    const crashed = replay(inTurns(requests, 2, { crashes }))
    expect([...crashed.outcomes.reasons]).toEqual([Reason.workerLost, Reason.none])
    expect(replay(inTurns(requests, 2, { crashes, slowDowns })).outcomes).toEqual(crashed.outcomes)
  })

  test("goes on as fast as ever after the slow step in which that ends", () => {
    const slowDowns = [{ worker: 0, fromMs: 100, toMs: 150, factor: 15 }]
    const { outcomes } = replay(inTurns([one(0, 1000, 50)], 1, { slowDowns }))
    let nowMs = NETWORK_MS + stepMs(preset.cost, 1000, 1000 * 500, 0, 0)
    let slowSteps = 0
    for (let token = 1; token < 50; token++) {
      const isSlow = nowMs >= 100 && nowMs < 150
      if (isSlow) slowSteps++
      nowMs += stepMs(preset.cost, 0, 0, 1, 1000 + token - 1) * (isSlow ? 15 : 1)
    }
    expect(slowSteps).toBe(1)
    expect(outcomes.endedMs[0]).toBeCloseTo(nowMs + NETWORK_MS, 6)
  })
})

describe("workers that follow the load", () => {
  const fixed = replay(inTurns(requests, least, {}))
  const scaled = replay(inTurns(requests, most, { scaling }))

  test("serve sooner than the fewest, for less than the time of the most", () => {
    const meanMs = ({ outcomes }: ReplayResult): number =>
      requests.reduce((sum, _, i) => sum + outcomes.firstMs[i]! - outcomes.arrivedMs[i]!, 0) / requests.length
    expect([...scaled.outcomes.reasons].every((reason) => reason === Reason.none)).toBe(true)
    expect(meanMs(scaled)).toBeLessThan(meanMs(fixed) / 2)
    expect(workerMsOf(fixed.lives)).toBeWithin(fixed.spanMs, 1.01 * fixed.spanMs)
    expect(workerMsOf(scaled.lives)).toBeWithin(1.05 * scaled.spanMs, 0.6 * most * scaled.spanMs)
  })

  test("start when they are wanted, and leave when they are not", () => {
    const { arrivedMs, placedMs, workers } = scaled.outcomes
    const [first, ...later] = requests.map((_, i) => i).filter((i) => workers[i] !== 0)
    expect(placedMs[first!]).toBeGreaterThanOrEqual(2_000 + coldStartMs + 2 * NETWORK_MS)
    expect(new Set(later.map((i) => workers[i])).size).toBe(most - 1)
    expect(new Set(workers.filter((_, i) => arrivedMs[i]! > 120_000)).size).toBe(least)
  })

  test("do both parts of requests; those that do one are there from the start, and stay", () => {
    const workers = (["both", "prefill", "both", "both", "decode", "both"] as const).map((role, i) => ({
      name: `worker-${i}`,
      preset,
      role
    }))
    const { lives, outcomes, spanMs } = replay({
      ...inTurns(requests, workers.length, { scaling }),
      workers,
      pipeline: {
        ...choiceOf(pipelines.simple),
        admission: [],
        placement: { policy: "disaggregated", options: { threshold: 1 } }
      }
    })
    expect([...outcomes.reasons].every((reason) => reason === Reason.none)).toBe(true)
    const livesOf = (worker: number) => lives.filter((life) => life.worker === worker)
    const endMs = requests[0]!.arrivalMs + spanMs
    for (const worker of [0, 1, 4])
      expect(livesOf(worker)).toEqual([{ worker, orderedMs: 0, upMs: 0, endedMs: endMs }])
    for (const worker of [2, 3, 5]) {
      expect(livesOf(worker).length).toBeGreaterThan(0)
      for (const { endedMs, orderedMs } of livesOf(worker)) {
        expect(orderedMs).toBeGreaterThan(0)
        expect(endedMs).toBeLessThan(endMs)
      }
    }
  })

  test("that nobody has ordered are not taken for idle ones", () => {
    const few = [0, 20_000, 40_000].map((arrivalMs) => one(arrivalMs))
    const [alone, oneOfMany] = [inTurns(few, least, {}), inTurns(few, most, { scaling })].map((options) => {
      const yardstick = {
        bounds: boundsOf(options),
        from: 0,
        goodputMax: 1,
        targets: { ttftMs: 1_000, tpotMs: 100 }
      }
      const result = replay(options)
      const { imbalanceCv, imbalanceMaxOverMean } = figuresOf(result, yardstick)
      const { inFlightLeast, inFlightMean } = plotsOf(result, yardstick).timeline
      return { imbalanceCv, imbalanceMaxOverMean, inFlightLeast, inFlightMean }
    })
    expect(oneOfMany!).toEqual(alone!)
    expect(alone!).toMatchObject({ imbalanceCv: 0, imbalanceMaxOverMean: 1 })
  })
})
