import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { told } from "../../laws/placementLife.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { charge, equalWorkers, oneRequest, poolOf, prefilled, release } from "../../support/pools.ts"

type Options = Readonly<Record<string, number>>
type Subject = (options: Options) => Placement

const entry = findPlacement("least-latency")
const real: Subject = (options) => entry.make(options, makeRng(1))

/** How a worker treats a request: the time to its first token and between the others, their number, and how it ends. */
interface Treatment {
  readonly firstMs: number
  readonly stepMs?: number
  readonly outputTokens?: number
  /** Tokens that are told of at once. */
  readonly chunkTokens?: number
  readonly reason?: Reason
}

/** Two idle workers, of which the policy sees both; requests are put on them and treated one after the other. */
class Two {
  readonly pool: PoolView = poolOf(equalWorkers(2, { inFlight: 0 }))
  readonly placement: Placement
  nowMs = 0

  constructor(subject: Subject, options: Options = {}) {
    this.placement = told(subject(options), this.pool)
  }

  place(worker: number, one: RequestView = oneRequest): RequestView {
    const placed = charge(this.pool, worker, one)
    this.placement.placed?.(placed, worker, this.pool, this.nowMs)
    return placed
  }

  serve(
    worker: number,
    { firstMs, stepMs = 10, outputTokens = 11, chunkTokens = 1, reason = Reason.none }: Treatment
  ): void {
    const { pool, placement } = this
    const placed = this.place(worker)
    this.nowMs += firstMs
    prefilled(pool, worker, placed)
    if (reason === Reason.none) {
      placement.timed?.(placed, worker, pool, this.nowMs)
      placement.started?.(placed, worker, pool, this.nowMs)
      for (let token = 1; token < outputTokens; token += chunkTokens) {
        this.nowMs += stepMs * chunkTokens
        placement.produced?.(placed, chunkTokens, pool, this.nowMs)
      }
    }
    release(pool, worker, placed)
    placement.released?.(placed, worker, reason, pool, this.nowMs)
    placement.ended?.(placed, reason, pool, this.nowMs)
  }

  /** The worker it prefers: the ties of idle workers aside, what ten picks agree on, or -1. */
  get preferred(): number {
    const picks = new Set(
      Array.from({ length: 10 }, () => this.placement.pick(oneRequest, this.pool, this.nowMs))
    )
    return picks.size === 1 ? [...picks][0]! : -1
  }
}

const treatment = fc.record({
  firstMs: fc.integer({ min: 1, max: 5000 }),
  stepMs: fc.integer({ min: 1, max: 200 }),
  outputTokens: fc.integer({ min: 1, max: 20 })
})

/** How an attempt ends without a token: for a reason that says nothing of the worker, or by its fault. */
const endings = [
  Reason.cancelled,
  Reason.expired,
  Reason.workerFailed,
  Reason.workerLost,
  Reason.workerRefused,
  Reason.workerProtocol
] as const

const laws = [
  {
    // An answer is as long as its client asked for: that says nothing of the worker.
    id: "latency-not-length",
    check: (subject: Subject) => {
      const two = new Two(subject)
      for (let i = 0; i < 5; i++) {
        two.serve(0, { firstMs: 100, stepMs: 10, outputTokens: 200 })
        two.serve(1, { firstMs: 150, stepMs: 11, outputTokens: 2 })
      }
      expect(two.preferred).toBe(0)
    }
  },
  {
    // Nor is the length of the prompts before the own one.
    id: "latency-by-token",
    check: (subject: Subject) => {
      const two = new Two(subject)
      const long = { ...oneRequest, slot: 1, promptTokens: 10_000 }
      const placed = two.place(0, long)
      two.nowMs += 1000
      prefilled(two.pool, 0, placed)
      two.placement.timed?.(placed, 0, two.pool, two.nowMs)
      release(two.pool, 0, placed)
      two.placement.released?.(placed, 0, Reason.none, two.pool, two.nowMs)
      two.serve(1, { firstMs: 60 })
      expect(two.preferred).toBe(0)
    }
  },
  {
    id: "latency-endings-cost",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.array(fc.tuple(fc.nat(1), treatment), { maxLength: 8 }),
          fc.integer({ min: 0, max: 1000 }),
          fc.constantFrom(...endings),
          (history, failedMs, reason) => {
            const [failing, unharmed] = [new Two(subject, { memory: 500 }), new Two(subject, { memory: 500 })]
            for (const two of [failing, unharmed])
              for (const [worker, each] of history) two.serve(worker, each)
            failing.serve(0, { firstMs: failedMs, reason })
            unharmed.nowMs += failedMs
            if (unharmed.preferred !== 0) expect(failing.preferred).not.toBe(0)
          }
        )
      )
  },
  {
    id: "latency-fails-fast",
    check: (subject: Subject) => {
      const two = new Two(subject)
      let failed = 0
      for (let i = 0; i < 100; i++) {
        const worker = two.placement.pick(oneRequest, two.pool, two.nowMs)
        if (worker === 0) failed++
        two.serve(worker, worker === 0 ? { firstMs: 0, reason: Reason.workerFailed } : { firstMs: 500 })
      }
      expect(failed).toBeLessThanOrEqual(4)
    }
  },
  {
    // Its requests all expire before a token came: it is slow, however little is known of how slow.
    id: "latency-stalls",
    check: (subject: Subject) => {
      const two = new Two(subject)
      two.serve(0, { firstMs: 100 })
      two.serve(1, { firstMs: 300 })
      two.serve(0, { firstMs: 2000, reason: Reason.expired })
      expect(two.preferred).toBe(1)
    }
  },
  {
    id: "latency-tries-again",
    check: (subject: Subject) => {
      const two = new Two(subject, { memory: 1000 })
      two.serve(0, { firstMs: 50 })
      two.serve(1, { firstMs: 5000, reason: Reason.workerFailed })
      for (let i = 0; i < 20; i++) two.serve(0, { firstMs: 500 })
      expect(two.preferred).toBe(1)
    }
  },
  {
    // Until it has answered once, one request tells enough of a worker.
    id: "latency-unknown-once",
    check: (subject: Subject) => {
      const two = new Two(subject)
      two.serve(0, { firstMs: 3000 })
      expect(two.preferred).toBe(1)
      two.place(1)
      expect(two.preferred).toBe(0)
    }
  }
]

/** An average of one time per request; a defect says which, and what a failure counts. */
const byRequest =
  ({
    wholeAnswer = false,
    failureMs = 0,
    ofFailures = (firstMs: number) => firstMs
  }: {
    readonly wholeAnswer?: boolean
    readonly failureMs?: number
    readonly ofFailures?: (firstMs: number) => number | undefined
  }): Subject =>
  () => {
    const averages = [0, 0]
    let placedMs = 0
    const learn = (worker: number, ms: number): void => {
      averages[worker] = averages[worker] === 0 ? ms : averages[worker]! * 0.7 + ms * 0.3
    }
    return {
      pick: (_, { workers }) => {
        const [a, b] = averages.map((each, worker) => each * (workers.inFlight[worker]! + 1))
        return a! <= b! ? 0 : 1
      },
      placed: (_request, _worker, _pool, nowMs) => void (placedMs = nowMs),
      timed: (_, worker, _pool, nowMs) => {
        if (!wholeAnswer) learn(worker, nowMs - placedMs)
      },
      released: (_, worker, reason, _pool, nowMs) => {
        if (reason === Reason.none && wholeAnswer) learn(worker, nowMs - placedMs)
        if (reason === Reason.none) return
        const ms = ofFailures(nowMs - placedMs)
        if (ms !== undefined) learn(worker, ms + failureMs)
      }
    }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  ["measures whole answers", "latency-not-length", byRequest({ wholeAnswer: true })],
  ["measures prompts by the request", "latency-by-token", byRequest({})],
  ["takes a failure for a fast answer", "latency-endings-cost", byRequest({})],
  ["takes a failure for a fast answer", "latency-fails-fast", byRequest({})],
  ["learns from answers alone", "latency-stalls", byRequest({ ofFailures: () => undefined })],
  ["never forgets", "latency-tries-again", byRequest({ failureMs: 5000 })],
  ["takes a worker it knows nothing of for the fastest", "latency-unknown-once", byRequest({})]
]

describe("least latency", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test.each([2, 3])("workers that nothing is known of are compared by requests: least of d = %d", (d) =>
  sampleLaw(d).check({ ...entry, make: () => real({ d }) })
)

test("a client that goes away says nothing of an unknown worker, a deadline that passes does", () => {
  const cancelled = new Two(real)
  cancelled.serve(0, { firstMs: 100 })
  cancelled.serve(1, { firstMs: 1, reason: Reason.cancelled })
  cancelled.place(1)
  expect(cancelled.preferred).toBe(0)
  const expired = new Two(real)
  expired.serve(0, { firstMs: 100 })
  expired.serve(1, { firstMs: 60_000, reason: Reason.expired })
  expect(expired.preferred).toBe(0)
})

test("steps are told apart however many tokens are told of at once", () => {
  const two = new Two(real)
  for (let i = 0; i < 3; i++) {
    two.serve(0, { firstMs: 100, stepMs: 10, chunkTokens: 10 })
    two.serve(1, { firstMs: 100, stepMs: 20 })
  }
  expect(two.preferred).toBe(0)
})

test("workers that nothing is known of are compared for their speed", () => {
  const pool = poolOf(equalWorkers(2).map((row, i) => ({ ...row, inFlight: 3 - i, speed: 1 / (1 + i) })))
  expect(real({}).pick(oneRequest, pool, 0)).toBe(0)
})

test("nothing is known of a worker that comes back to the pool", () => {
  const two = new Two(real)
  for (const worker of [0, 1]) two.serve(worker, { firstMs: 100 + 900 * worker })
  expect(two.preferred).toBe(0)
  for (const ready of [false, true]) two.placement.changed!(1, ready, two.pool, two.nowMs)
  expect(two.preferred).toBe(1)
})

test("of a request with two attempts the later one is measured", () => {
  const two = new Two(real)
  two.serve(0, { firstMs: 500 })
  two.serve(1, { firstMs: 100 })
  const first = two.place(0)
  two.nowMs += 100
  const second = two.place(1)
  two.nowMs += 900
  prefilled(two.pool, 0, first)
  two.placement.timed!(first, 0, two.pool, two.nowMs)
  prefilled(two.pool, 1, second)
  for (const [worker, placed] of [
    [1, second],
    [0, first]
  ] as const) {
    release(two.pool, worker, placed)
    two.placement.released!(
      placed,
      worker,
      worker === 1 ? Reason.cancelled : Reason.none,
      two.pool,
      two.nowMs
    )
  }
  // Worker 1 would have taken more than 900 ms; the 1000 ms of worker 0 do not count.
  expect(two.preferred).toBe(0)
})

test.each([1, 3])("attempts that have not started weigh by the power %d", (exponent) => {
  // Worker 0 has two unstarted attempts and steps of 10 ms, worker 1 none and steps of 10·3^e ms: as dear, but for prompts of ever so little.
  for (const [extraMs, preferred] of [
    [-1, 1],
    [1, 0]
  ] as const) {
    const two = new Two(real, { exponent, memory: 600_000 })
    two.serve(1, { firstMs: 1, stepMs: 10 * 3 ** exponent + extraMs, outputTokens: 2 })
    two.serve(0, { firstMs: 1, stepMs: 10, outputTokens: 2 })
    for (const slot of [1, 2]) two.place(0, { ...oneRequest, slot, promptTokens: 1 })
    expect(two.preferred).toBe(preferred)
  }
})
