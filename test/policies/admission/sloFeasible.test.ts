import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { decodeStepMs, prefillMs, ttftMs } from "../../../src/policies/costs.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { chainOf, emptyQueue, equalWorkers, oneRequest, poolOf, quietForecast } from "../../support/pools.ts"

const options = { ttft: 5000, stretch: 2, itl: 25 }
const make = (given: Readonly<Record<string, number>> = {}) =>
  findAdmission("slo-feasible").make(given, makeRng(1))

/** The same pool, of which predictions are known to be off. */
const withForecast = (pool: PoolView, ttftRatio: number): PoolView =>
  Object.assign(pool, { forecast: { ...quietForecast, ttftRatio } })

/** The rule as it is written, worker by worker. */
const feasible = (one: RequestView, pool: PoolView, queued: number, nowMs: number): boolean => {
  const { workers, eligible, eligibleCount, forecast } = pool
  const output = forecast.meanOutputTokens(one)
  const ceiling = [1, 0.9, 0.7][Math.min(one.class, 2)]!
  return [...eligible.subarray(0, eligibleCount)].some((worker) => {
    const cached = pool.cachedTokens(one)[worker]!
    const placedMs = ttftMs(workers, worker, one.promptTokens, cached, output, nowMs)
    const leftMs = one.deadlineMs - nowMs
    const most = Math.max(
      ...[...eligible.subarray(0, eligibleCount)].map((other) => pool.cachedTokens(one)[other]!)
    )
    const againMs = prefillMs(workers, worker, most - cached, cached)
    if (workers.inFlight[worker] === 0 && queued === 0 && againMs <= options.ttft) return placedMs <= leftMs
    const aheadMs = prefillMs(workers, worker, queued / eligibleCount, 0)
    const ownMs = prefillMs(workers, worker, one.promptTokens - cached, cached)
    const allowedMs = Math.max(options.ttft, options.stretch * ownMs) * ceiling
    const stepMs =
      decodeStepMs(workers, worker) +
      workers.decodeSequenceMs[worker]! +
      workers.decodeContextMs[worker]! * (one.promptTokens + output)
    const steady = workers.inFlight[worker] === 0 || stepMs <= options.itl * ceiling
    return steady && (aheadMs + placedMs) * forecast.ttftRatio <= Math.min(allowedMs, leftMs)
  })
}

type Make = () => Admission

const laws = [
  {
    id: "slo-feasible-rule",
    statement: "lets in exactly what some worker is predicted to serve in time",
    check: (given: Make) => {
      let [admitted, refused] = [0, 0]
      holds(
        fc.property(
          candidates({ minLength: 1, maxLength: 4 }),
          request,
          fc.constantFrom(0.5, 1, 3),
          fc.constantFrom(0, 0, 1000, 50_000),
          fc.nat(30_000),
          (rows, one, ttftRatio, queuedPromptTokens, pauseMs) => {
            const pool = withForecast(poolOf(rows), ttftRatio)
            fc.pre(pool.eligibleCount > 0)
            const queue = { ...emptyQueue, queuedCount: queuedPromptTokens > 0 ? 3 : 0, queuedPromptTokens }
            const nowMs = one.arrivedMs + pauseMs
            const refusal = given().decide(one, pool, queue, nowMs)
            expect(refusal === null).toBe(feasible(one, pool, queuedPromptTokens, nowMs))
            if (refusal === null) admitted++
            else refused++
          }
        )
      )
      expect(Math.min(admitted, refused)).toBeGreaterThan(100)
    }
  }
]

/** The policy with another view of what it is asked. */
const blinded =
  (
    given: Readonly<Record<string, number>>,
    change: (one: RequestView, pool: PoolView) => PoolView = (_, pool) => pool
  ): Make =>
  () => {
    const inner = make(given)
    return { decide: (one, pool, queue, nowMs) => inner.decide(one, change(one, pool), queue, nowMs) }
  }

const defects: ReadonlyArray<Planted<Make>> = [
  ["bans long prompts", "slo-feasible-rule", blinded({ ...options, stretch: 1 })],
  ["looks at first tokens alone", "slo-feasible-rule", blinded({ ...options, itl: 1e9 })],
  [
    "takes predictions for the truth",
    "slo-feasible-rule",
    blinded(options, (_, pool) => ({ ...pool, forecast: quietForecast }))
  ],
  [
    "forgets what is cached",
    "slo-feasible-rule",
    blinded(options, (_, pool) => ({ ...pool, cachedTokens: () => new Float64Array(pool.eligible.length) }))
  ],
  [
    "looks at the first worker alone",
    "slo-feasible-rule",
    blinded(options, (_, pool) => ({ ...pool, eligibleCount: Math.min(1, pool.eligibleCount) }))
  ]
]

describe("slo-feasible", () => keepsAll(laws, () => make(options)))
describe("planted defects", () => findsAll(laws, defects))

describe("where the line is", () => {
  /** One worker that computes a prompt token in 1/32 ms and has `pending` of them to do. */
  const busy = (pending: number, row = {}) =>
    poolOf(
      equalWorkers(1, { inFlight: 3, prefilling: 3, pendingPrefillTokens: pending, baseMs: 2 ** -20, ...row })
    )
  const ask = (pool: PoolView, one: Partial<RequestView> = {}, queue = emptyQueue) =>
    make().decide({ ...oneRequest, promptTokens: 0, ...one }, pool, queue, 0)

  test.each([
    ["at 5 s of pending prompts", busy(159_990), undefined],
    ["beyond", busy(160_010), Reason.sloInfeasible],
    ["with predictions that are twice too low", withForecast(busy(159_990), 2), Reason.sloInfeasible],
    ["with predictions that are twice too high", withForecast(busy(300_000), 0.5), undefined],
    ["with steps of 100 ms", busy(0, { prefilling: 0, baseMs: 99.8 }), undefined],
    ["with longer steps", busy(0, { prefilling: 0, baseMs: 100 }), Reason.sloInfeasible],
    ["with longer steps where nobody is", busy(0, { inFlight: 0, prefilling: 0, baseMs: 500 }), undefined]
  ])("%s", (_, pool, reason) => {
    expect(ask(pool)?.reason).toBe(reason)
  })

  test("a long prompt may take twice the time it takes alone", () => {
    const promptTokens = 320_000
    expect(ask(busy(310_000), { promptTokens })).toBeNull()
    expect(ask(busy(330_000), { promptTokens })).not.toBeNull()
  })

  test("a less urgent class reaches its line sooner", () => {
    const at = (share: number) => busy(160_000 * share)
    expect([0, 1, 2, 3].map((rank) => ask(at(0.95), { class: rank }) === null)).toEqual([
      true,
      false,
      false,
      false
    ])
    expect([0, 1, 2, 3].map((rank) => ask(at(0.8), { class: rank }) === null)).toEqual([
      true,
      true,
      false,
      false
    ])
    expect([0, 1, 2, 3].map((rank) => ask(at(0.65), { class: rank }) === null)).toEqual([
      true,
      true,
      true,
      true
    ])
  })

  test("what cannot meet its deadline is refused, on an idle worker too", () => {
    const idle = poolOf(equalWorkers(1, { inFlight: 0, baseMs: 2 ** -20 }))
    expect(ask(idle, { promptTokens: 32_000, deadlineMs: 1001 })).toBeNull()
    expect(ask(idle, { promptTokens: 32_000, deadlineMs: 999 })).not.toBeNull()
  })

  test("an idle worker does not compute again, for longer than ttft, what a busy one has", () => {
    const one = { promptTokens: 320_000, chain: chainOf(Array.from({ length: 1250 }, (_, i) => i)) }
    const [first, second] = equalWorkers(2, { baseMs: 2 ** -20 })
    const pool = (cachedTokens: number): PoolView =>
      poolOf([
        { ...first!, cachedTokens, pendingPrefillTokens: 1e6 },
        { ...second!, inFlight: 0 }
      ])
    expect(ask(pool(159_744), one)).toBeNull()
    expect(
      make({ stretch: 1 }).decide({ ...oneRequest, ...one }, pool(160_256), emptyQueue, 0)
    ).not.toBeNull()
  })

  test("prompts in the queue count in equal parts", () => {
    const pool = poolOf(equalWorkers(4, { inFlight: 1, baseMs: 2 ** -20 }))
    const queued = (queuedPromptTokens: number) => ({ ...emptyQueue, queuedCount: 9, queuedPromptTokens })
    expect(ask(pool, {}, queued(630_000))).toBeNull()
    expect(ask(pool, {}, queued(650_000))).not.toBeNull()
  })

  test("when no worker has room twice the wait counts, and the best worker known", () => {
    const rows = equalWorkers(2, { inFlight: 3, baseMs: 2 ** -20, pendingPrefillTokens: 32_000 })
    const full = poolOf(rows.map((row) => ({ ...row, eligible: false })))
    const one = { ...oneRequest, promptTokens: 0 }
    const waiting = (expectedWaitMs: number) => ({ ...emptyQueue, queuedCount: 5, expectedWaitMs })
    const admission = make()
    expect(admission.decide(one, full, waiting(1e6), 0)).toBeNull()
    expect(admission.decide(one, poolOf(rows), emptyQueue, 0)).toBeNull()
    expect(admission.decide(one, full, waiting(1990), 0)).toBeNull()
    expect(admission.decide(one, full, waiting(2010), 0)?.reason).toBe(Reason.sloInfeasible)
    expect(admission.decide(one, full, waiting(Number.POSITIVE_INFINITY), 0)).toBeNull()
  })

  test("where reading and producing are split, each half is asked", () => {
    const rows = equalWorkers(2, { inFlight: 3, baseMs: 2 ** -20 })
    const split = (reading: number, producing: number): PoolView => {
      const pool = poolOf(rows)
      pool.workers.pendingPrefillTokens[0] = reading
      pool.workers.baseMs[1] = producing
      return Object.assign(pool, {
        eligibleCount: 0,
        prefill: Int32Array.of(0),
        prefillCount: 1,
        decode: Int32Array.of(1),
        decodeCount: 1
      })
    }
    expect(ask(split(150_000, 90))).toBeNull()
    expect(ask(split(170_000, 90))).not.toBeNull()
    expect(ask(split(150_000, 110))).not.toBeNull()
  })

  test("the wait it tells grows with what is pending", () => {
    const waits = [170_000, 200_000, 400_000, 1e9].map((pending) => ask(busy(pending))!.retryAfterMs)
    expect(waits).toEqual(waits.toSorted((a, b) => a - b))
    expect(waits[1]!).toBeGreaterThanOrEqual(1250)
    expect(waits[3]!).toBeLessThanOrEqual(120_000)
  })
})
