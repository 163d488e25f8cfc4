import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import {
  AimdLimit,
  type ConcurrencyLimit,
  GradientLimit,
  type LimitRange,
  type LimitWindow
} from "../../../src/policies/estimators/ConcurrencyLimit.ts"
import { limitInFlight } from "../../../src/policies/limitInFlight.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { emptyQueue, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Make = (range: LimitRange) => ConcurrencyLimit

const gradient: Make = (range) => new GradientLimit({ ...range, tolerance: 1.1, smoothing: 0.2, queue: 2 })
const aimd: Make = (range) => new AimdLimit(range)

const range = fc
  .tuple(fc.integer({ min: 1, max: 20 }), fc.nat(50), fc.nat(100))
  .map(([minimum, span, at]) => ({ minimum, maximum: minimum + span, initial: minimum + (at % (span + 1)) }))

const window: fc.Arbitrary<LimitWindow> = fc.record({
  msPerToken: fc.constantFrom(Number.NaN, 0.001, 1, 10, 10, 12, 20, 50, 1e9),
  inFlight: fc.nat(80),
  limited: fc.boolean(),
  dropped: fc.constantFrom(false, false, false, true)
})
const windows = fc.array(window, { maxLength: 60 })

const laws = [
  {
    id: "limit-range",
    statement: "min ≤ limit ≤ max, whatever happens",
    check: (make: Make) =>
      holds(
        fc.property(range, windows, (bounds, all) => {
          const limit = make(bounds)
          for (const each of all) {
            limit.update(each)
            expect(limit.limit).toBeGreaterThanOrEqual(bounds.minimum)
            expect(limit.limit).toBeLessThanOrEqual(bounds.maximum)
          }
        })
      )
  },
  {
    id: "limit-unused",
    statement: "a limit of which less than half is used does not grow",
    check: (make: Make) =>
      holds(
        fc.property(range, windows, window, (bounds, all, last) => {
          const limit = make(bounds)
          for (const each of all) limit.update(each)
          const before = limit.limit
          limit.update({ ...last, inFlight: before * 0.49 })
          expect(limit.limit).toBeLessThanOrEqual(before)
        })
      )
  },
  {
    id: "limit-drop",
    statement: "a drop makes it less, unless it is at min",
    check: (make: Make) =>
      holds(
        fc.property(range, windows, window, (bounds, all, last) => {
          const limit = make(bounds)
          for (const each of all) limit.update(each)
          const before = limit.limit
          limit.update({ ...last, dropped: true })
          if (before === bounds.minimum) expect(limit.limit).toBe(before)
          else expect(limit.limit).toBeLessThan(before)
        })
      )
  }
]

/** How much a limit is after each second of an M/M/c queue that is offered `load` times what its servers do. */
const inQueue = (make: Make, servers: number, load: number, seconds: number): ReadonlyArray<number> => {
  const limit = make({ initial: 16, minimum: 4, maximum: 1024 })
  const rng = makeRng(5)
  const admission = limitInFlight({ limit, windowMs: 1000, timeoutMs: 1000 }, rng.split(1))
  const pool = poolOf(equalWorkers(1, { capacity: 10_000 }))
  const exponential = (mean: number): number => -mean * Math.log(1 - rng.next())
  const MS_PER_TOKEN = 1
  const MEAN_TOKENS = 100
  const gapMs = (MEAN_TOKENS * MS_PER_TOKEN) / servers / load
  const serving: Array<{ readonly request: RequestView; readonly endsMs: number }> = []
  const waiting: Array<RequestView> = []
  const limits: Array<number> = []
  let [nowMs, nextMs, slot] = [0, 0, 0]
  const serve = (): void => {
    while (serving.length < servers && waiting.length > 0) {
      const request = waiting.shift()!
      admission.timed?.(request, 0, pool, nowMs)
      serving.push({ request, endsMs: nowMs + request.outputTokens * MS_PER_TOKEN })
    }
  }
  while (limits.length < seconds) {
    const first = serving.reduce((least, { endsMs }, i) => (endsMs < serving[least]!.endsMs ? i : least), 0)
    const endsMs = serving[first]?.endsMs ?? Number.POSITIVE_INFINITY
    nowMs = Math.min(nextMs, endsMs)
    if (endsMs < nextMs) {
      const { request } = serving.splice(first, 1)[0]!
      admission.ended?.(request, Reason.none, pool, nowMs)
    } else {
      nextMs += exponential(gapMs)
      const outputTokens = Math.ceil(exponential(MEAN_TOKENS))
      const request = { ...oneRequest, slot: slot++ % 4096, arrivedMs: nowMs, outputTokens }
      if (admission.decide(request, pool, emptyQueue, nowMs) === null) {
        admission.admitted?.(request, pool, nowMs)
        waiting.push(request)
      }
    }
    serve()
    while (limits.length < nowMs / 1000 - 1) limits.push(limit.limit)
  }
  return limits
}

const knee = {
  id: "limit-knee",
  statement:
    "in an M/M/c queue offered 1.5 times its work the gradient limit stays within 25 % of c from the second minute to the fifth",
  check: (make: Make) => {
    for (const servers of [32, 64]) {
      const limits = inQueue(make, servers, 1.5, 300)
      for (const limit of limits.slice(120)) {
        expect(limit).toBeGreaterThan(0.75 * servers)
        expect(limit).toBeLessThan(1.25 * servers)
      }
    }
  }
}

/** A limit whose every update a defect may replace. */
const spoiled =
  (make: Make, spoil: (window: LimitWindow, limit: ConcurrencyLimit) => LimitWindow, by = 1): Make =>
  (bounds) => {
    const inner = make(bounds)
    return {
      get limit() {
        return inner.limit * by
      },
      update: (each) => inner.update(spoil(each, inner))
    }
  }

const defects: ReadonlyArray<Planted<Make>> = [
  ["multiplies what it has bounded", "limit-range", spoiled(aimd, (each) => each, 1.5)],
  ["grows though nobody uses it", "limit-unused", spoiled(aimd, (each) => ({ ...each, inFlight: 1e9 }))],
  ["takes no notice of drops", "limit-drop", spoiled(gradient, (each) => ({ ...each, dropped: false }))],
  [
    "takes its own queue for what work takes",
    "limit-knee",
    (bounds) => {
      let [limit, long] = [bounds.initial, 0]
      return {
        get limit() {
          return limit
        },
        update: ({ msPerToken }) => {
          long = long === 0 ? msPerToken : long + 0.05 * (msPerToken - long)
          const wanted = limit * Math.min(1, (1.1 * long) / msPerToken) + 4
          limit = Math.min(bounds.maximum, limit + 0.2 * (wanted - limit))
        }
      }
    }
  ]
]

describe("gradient-limit", () => keepsAll([...laws, knee], gradient))
describe("aimd-limit", () => keepsAll(laws, aimd))
describe("planted defects", () => findsAll([...laws, knee], defects))

test("with tolerance 1.5 the gradient limit settles where a token takes 1.5 times as long", () => {
  const tolerant: Make = (bounds) =>
    new GradientLimit({ ...bounds, tolerance: 1.5, smoothing: 0.2, queue: 4 })
  for (const limit of inQueue(tolerant, 32, 3, 300).slice(120)) {
    expect(limit).toBeGreaterThan(0.75 * 1.5 * 32)
    expect(limit).toBeLessThan(1.25 * 1.5 * 32)
  }
})

test("the AIMD limit keeps first tokens about as late as its timeout", () => {
  // One second of wait at 32 servers of 10 requests a second each: 320 requests wait beyond those in service.
  const limits = inQueue(aimd, 32, 3, 600).slice(400)
  const mean = limits.reduce((sum, limit) => sum + limit, 0) / limits.length
  expect(mean).toBeGreaterThan(0.75 * 352)
  expect(mean).toBeLessThan(1.1 * 352)
})

describe.each(["gradient-limit", "aimd-limit"])("%s", (name) => {
  test("lets in as many as the limit says for each ready worker, by class", () => {
    const options = { initial: 10, min: 10, max: 10 }
    for (const [rank, most] of [
      [0, 30],
      [1, 27],
      [2, 21]
    ] as const) {
      const admission = findAdmission(name).make(options, makeRng(1))
      const pool = poolOf(equalWorkers(3, { eligible: false }))
      for (const worker of [0, 1, 2, 3]) admission.changed?.(worker, true, pool, 0)
      admission.changed?.(3, false, pool, 0)
      admission.changed?.(3, false, pool, 0)
      let admitted = 0
      for (let slot = 0; slot < 100; slot++) {
        const request = { ...oneRequest, slot, class: rank }
        const queue = { ...emptyQueue, queuedCount: admitted, expectedWaitMs: 400 }
        const refusal = admission.decide(request, pool, queue, 0)
        if (refusal === null) {
          admission.admitted?.(request, pool, 0)
          admitted++
        } else {
          expect(refusal.reason).toBe(Reason.concurrencyLimit)
          expect(refusal.retryAfterMs).toBeGreaterThanOrEqual(400)
        }
      }
      expect(admitted).toBe(most)
    }
  })
})
