import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { answerOf, cachedOf, naiveCosts as naive } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import {
  type Candidate,
  chainOf,
  charge,
  emptyQueue,
  equalWorkers,
  oneRequest,
  poolOf
} from "../../support/pools.ts"

const options = { ttft: 5000, itl: 100, rate: 0.8, burst: 0.3, spare: 0.5 }
const make = (some: Partial<typeof options> = {}): Admission =>
  findAdmission("prefill-budget").make({ ...options, ...some }, makeRng(1))

/** Two workers on which somebody is already: what they compute costs the same at any time, whoever else comes. */
const steady: ReadonlyArray<Candidate> = equalWorkers(2, {
  decodeSequenceMs: 0,
  prefillAttentionMs: 2 ** -20
})
const [first, second] = steady.map((row, i) => ({ ...row, baseMs: [8, 60][i]!, cachedTokens: [0, 1024][i]! }))
const rows = [first!, second!]
const roomOf = (row: Candidate): number => 1 - row.baseMs / options.itl

const command = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      act: fc.constant("ask" as const),
      promptTokens: fc.constantFrom(100, 1025, 5000, 40_000, 150_000),
      maxTokens: fc.constantFrom(2, 200, 2000),
      class: fc.nat(3),
      queuedPromptTokens: fc.constantFrom(0, 0, 20_000)
    })
  },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("start" as const), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ act: fc.constant("end" as const), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ act: fc.constant("wait" as const), ms: fc.constantFrom(10, 500, 4000) })
  }
)

interface Placed {
  readonly request: RequestView
  readonly worker: number
  started: boolean
}

/** What happens to a policy whose word is law: who is let in is placed where it came to lie, in turn. */
class Life {
  readonly admission: Admission
  readonly pool = poolOf(rows)
  readonly live: Array<Placed> = []
  readonly budgets = rows.map(() => ({ usedMs: 0, atMs: 0 }))
  nowMs = 0
  private slots = 0

  constructor(admission: Admission) {
    this.admission = admission
  }

  /** A budget by the rule as it is written. */
  usedMs(worker: number): number {
    const { atMs, usedMs } = this.budgets[worker]!
    const isDecoding = this.live.some((placed) => placed.worker === worker && placed.started)
    const share = isDecoding ? options.rate * roomOf(rows[worker]!) : 1
    return Math.max(0, usedMs - share * (this.nowMs - atMs))
  }

  /** Brings a budget up to date, with `moreMs` in it: before anything changes how fast it drains. */
  fill(worker: number, moreMs: number): void {
    this.budgets[worker] = { usedMs: Math.max(0, this.usedMs(worker) + moreMs), atMs: this.nowMs }
  }

  fits(one: RequestView, queuedPromptTokens: number): boolean {
    const ceiling = [1, 0.9, 0.7][Math.min(one.class, 2)]!
    const budgets = rows.map((row, worker) => {
      const there = this.live.filter((placed) => placed.worker === worker)
      const answers = [...there.map(({ request }) => answerOf(request)), answerOf(one)]
      const meanAnswer = answers.reduce((sum, tokens) => sum + tokens, 0) / answers.length
      const allMs = ceiling * Math.min(options.ttft, options.burst * roomOf(row) * meanAnswer * options.itl)
      const aheadMs = naive.ownMs(row, queuedPromptTokens / rows.length, 0)
      const leftMs = allMs - this.usedMs(worker) - aheadMs
      return { allMs, leftMs, missingMs: naive.ownMs(row, one.promptTokens, cachedOf(row, one)) - leftMs }
    })
    const freeMs = budgets.reduce((total, { leftMs }) => total + Math.max(0, leftMs), 0)
    const allMs = budgets.reduce((total, budget) => total + budget.allMs, 0)
    const leastMs = Math.min(...budgets.map(({ missingMs }) => missingMs))
    return leastMs <= 0 || leastMs < (options.spare * freeMs ** 2) / allMs
  }

  asked({ promptTokens, maxTokens, class: rank }: Pick<RequestView, "promptTokens" | "maxTokens" | "class">) {
    const slot = this.slots++
    return {
      ...oneRequest,
      slot,
      promptTokens,
      maxTokens,
      class: rank,
      chain: promptTokens > 1024 ? chainOf([1, 2, 3, 4]) : chainOf([]),
      deadlineMs: Number.MAX_SAFE_INTEGER
    }
  }

  place(one: RequestView): void {
    const worker = one.slot % rows.length
    const request = charge(this.pool, worker, one)
    const row = rows[worker]!
    this.fill(worker, naive.ownMs(row, one.promptTokens, cachedOf(row, one)))
    this.live.push({ request, worker, started: false })
    this.admission.placed?.(request, worker, this.pool, this.nowMs)
  }

  start(placed: Placed): void {
    if (placed.started) return
    this.fill(placed.worker, 0)
    placed.started = true
    this.admission.started?.(placed.request, placed.worker, this.pool, this.nowMs)
  }

  end(placed: Placed): void {
    const { request, worker, started } = placed
    const row = rows[worker]!
    this.fill(worker, started ? 0 : -naive.ownMs(row, request.promptTokens, cachedOf(row, request)))
    this.live.splice(this.live.indexOf(placed), 1)
    this.pool.workers.inFlight[worker]!--
    this.admission.released?.(request, worker, Reason.none, this.pool, this.nowMs)
  }
}

type Make = () => Admission

const laws = [
  {
    id: "prefill-budget-rule",
    statement:
      "lets in exactly what fits into a worker's budget, or lacks less than all have to spare, whatever was placed, started and ended before",
    check: (given: Make) => {
      let [admitted, refused] = [0, 0]
      holds(
        fc.property(fc.array(command, { maxLength: 60, size: "max" }), (commands) => {
          const life = new Life(given())
          for (const each of commands) {
            const placed = "which" in each ? life.live[each.which % life.live.length] : undefined
            if (each.act === "wait") life.nowMs += each.ms
            else if (each.act === "start" && placed !== undefined) life.start(placed)
            else if (each.act === "end" && placed !== undefined) life.end(placed)
            else if (each.act === "ask") {
              const one = life.asked(each)
              const queue = { ...emptyQueue, queuedCount: 1, queuedPromptTokens: each.queuedPromptTokens }
              const refusal = life.admission.decide(one, life.pool, queue, life.nowMs)
              expect(refusal === null).toBe(life.fits(one, each.queuedPromptTokens))
              if (refusal === null) {
                admitted++
                life.place(one)
              } else refused++
            }
          }
        })
      )
      expect(Math.min(admitted, refused)).toBeGreaterThan(100)
    }
  },
  {
    id: "prefill-budget-window",
    statement:
      "at a lone worker the prefill placed in any time T is at most (1 + spare) · ttft + rate · room · T, or with no answer produced (1 + spare) · ttft + T",
    check: (given: Make) =>
      holds(
        fc.property(
          fc.array(fc.record({ promptTokens: fc.integer({ min: 1, max: 200_000 }), gapMs: fc.nat(4000) }), {
            minLength: 20,
            maxLength: 60
          }),
          fc.boolean(),
          (arrivals, isDecoding) => {
            const [row] = rows
            const pool = poolOf([row!])
            const admission = given()
            if (isDecoding) {
              const other = charge(pool, 0, { ...oneRequest, slot: arrivals.length, promptTokens: 1 })
              admission.placed?.(other, 0, pool, 0)
              admission.started?.(other, 0, pool, 0)
            }
            const share = isDecoding ? options.rate * roomOf(row!) : 1
            const placed: Array<{ readonly atMs: number; readonly ownMs: number }> = []
            let nowMs = 0
            for (const [slot, { promptTokens, gapMs }] of arrivals.entries()) {
              nowMs += gapMs
              const one = { ...oneRequest, slot, promptTokens, maxTokens: 4000 }
              if (admission.decide(one, pool, emptyQueue, nowMs) !== null) continue
              admission.placed?.(charge(pool, 0, one), 0, pool, nowMs)
              placed.push({ atMs: nowMs, ownMs: naive.ownMs(row!, promptTokens, 0) })
            }
            for (const [from, { atMs }] of placed.entries()) {
              let sumMs = 0
              for (const one of placed.slice(from)) {
                sumMs += one.ownMs
                const mostMs = (1 + options.spare) * options.ttft + share * (one.atMs - atMs)
                expect(sumMs).toBeLessThanOrEqual(mostMs * (1 + 1e-9))
              }
            }
          }
        )
      )
  }
]

const defects: ReadonlyArray<Planted<Make>> = [
  [
    "forgets what is cached",
    "prefill-budget-rule",
    () => {
      const inner = make()
      const bare = (pool: PoolView) => ({ ...pool, cachedTokens: () => new Float64Array(rows.length) })
      return { ...inner, decide: (one, pool, queue, nowMs) => inner.decide(one, bare(pool), queue, nowMs) }
    }
  ],
  ["asks each worker alone", "prefill-budget-rule", () => make({ spare: 0 })],
  ["lends twice what is to spare", "prefill-budget-window", () => make({ spare: 1 })],
  ["keeps what was never read", "prefill-budget-rule", () => ({ ...make(), released: () => undefined })],
  ["gives back what was read", "prefill-budget-rule", () => ({ ...make(), started: () => undefined })],
  [
    "does not see the queue",
    "prefill-budget-rule",
    () => {
      const inner = make()
      return {
        ...inner,
        decide: (one, pool, queue, nowMs) =>
          inner.decide(one, pool, { ...queue, queuedPromptTokens: 0 }, nowMs)
      }
    }
  ],
  ["does not see who decodes", "prefill-budget-window", () => ({ ...make(), started: () => undefined })],
  ["counts nothing", "prefill-budget-window", () => ({ ...make(), placed: () => undefined })],
  [
    "drains twice as fast",
    "prefill-budget-window",
    () => {
      const inner = make()
      return {
        ...inner,
        decide: (one, pool, queue, nowMs) => inner.decide(one, pool, queue, 2 * nowMs),
        placed: (one, worker, pool, nowMs) => inner.placed!(one, worker, pool, 2 * nowMs)
      }
    }
  ]
]

describe("prefill-budget", () => keepsAll(laws, make))
describe("planted defects", () => findsAll(laws, defects))

describe("where the line is", () => {
  /** Steps of 20 ms, so 4/5 of the time is room; a prompt token takes 1/32 ms. */
  const ask = (row: Partial<Candidate>, one: Partial<RequestView>, queuedCount = 0) =>
    make({ spare: 0 }).decide(
      { ...oneRequest, ...one },
      poolOf(equalWorkers(1, { baseMs: 20, decodeSequenceMs: 0, ...row })),
      { ...emptyQueue, queuedCount },
      0
    )

  test.each([
    // 0.3 · 0.8 · 100 tokens · 100 ms are 2400 ms, so 76,800 tokens.
    ["the spare time of a mean answer", {}, { promptTokens: 76_790, maxTokens: 200 }, true],
    ["and no more", {}, { promptTokens: 76_810, maxTokens: 200 }, false],
    ["of a long one, the time to first token", {}, { promptTokens: 159_990, maxTokens: 20_000 }, true],
    ["and no more than that", {}, { promptTokens: 160_010, maxTokens: 20_000 }, false],
    ["seven tenths for the last class", {}, { promptTokens: 53_700, maxTokens: 200, class: 2 }, true],
    ["and no more for it", {}, { promptTokens: 53_900, maxTokens: 200, class: 2 }, false],
    ["nothing where steps take all the time", { baseMs: 100 }, { promptTokens: 1, maxTokens: 200 }, false],
    ["anything where nobody is", { inFlight: 0 }, { promptTokens: 1e6 }, true]
  ])("%s", (_, row, one, admitted) => {
    expect(ask(row, one) === null).toBe(admitted)
  })

  // Each of ten budgets is 2400 ms.
  test.each([
    ["beside empty budgets, as much again as a tenth of their sum", 0, 153_500, true],
    ["and no more", 0, 153_700, false],
    ["beside half of them full, a quarter of it", 5, 95_900, true],
    ["and no more then", 5, 96_100, false],
    ["beside full ones, what one has room for", 9, 77_500, true],
    ["and little more", 9, 77_700, false]
  ])("%s", (_, full, promptTokens, admitted) => {
    const pool = poolOf(equalWorkers(10, { baseMs: 20, decodeSequenceMs: 0 }))
    const admission = make({ spare: 0.1 })
    const one = { ...oneRequest, maxTokens: 200 }
    for (let slot = 0; slot < full; slot++)
      admission.placed!(charge(pool, slot, { ...one, slot, promptTokens: 76_800 }), slot, pool, 0)
    const asked = { ...one, slot: full, promptTokens }
    expect(admission.decide(asked, pool, emptyQueue, 0) === null).toBe(admitted)
  })

  test("not where nobody is but somebody waits", () => {
    expect(ask({ inFlight: 0 }, { promptTokens: 1e6 }, 1)?.reason).toBe(Reason.sloInfeasible)
  })

  test("an idle worker does not compute again, for longer than ttft, what a busy one has", () => {
    const chain = chainOf(Array.from({ length: 1000 }, (_, i) => i))
    const pool = (cachedTokens: number): PoolView => {
      const [busy, idle] = equalWorkers(2, { baseMs: 99 })
      return poolOf([
        { ...busy!, cachedTokens },
        { ...idle!, inFlight: 0 }
      ])
    }
    const one = { ...oneRequest, promptTokens: 256_001, chain }
    const asked = (cachedTokens: number) => make({ spare: 0 }).decide(one, pool(cachedTokens), emptyQueue, 0)
    expect(asked(159_744)).toBeNull()
    expect(asked(160_256)?.reason).toBe(Reason.sloInfeasible)
  })

  test("the wait it tells is until the budget has room", () => {
    const admission = make()
    const pool = poolOf(equalWorkers(1, { baseMs: 20, decodeSequenceMs: 0 }))
    const one = { ...oneRequest, promptTokens: 64_000, maxTokens: 200 }
    const placed = charge(pool, 0, one)
    admission.placed!(placed, 0, pool, 0)
    admission.started!(placed, 0, pool, 0)
    // 4000 ms of 2400, which drain by 0.8 · 0.8 a ms.
    const { retryAfterMs } = admission.decide({ ...one, slot: 1 }, pool, emptyQueue, 0)!
    expect(retryAfterMs).toBeGreaterThanOrEqual(2500)
    expect(retryAfterMs).toBeLessThanOrEqual(5000)
  })
})
