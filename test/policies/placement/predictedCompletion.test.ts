import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView, WorkerColumns } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { answerOf, cachedOf, naiveCosts as naive, tieScore } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import {
  BLOCK_TOKENS,
  type Candidate,
  chainOf,
  charge,
  equalWorkers,
  oneRequest,
  poolOf
} from "../../support/pools.ts"

const entry = findPlacement("predicted-completion")

/** A placement by predicted completion with some weight of the externality, size of chunks, and spacing that nobody reaches unless told. */
type Subject = (
  externality: number,
  chunkTokens: number,
  spacing?: number
) => Pick<Placement, "pick" | "placed">

const real: Subject = (externality, chunkTokens, spacing = 1e12) =>
  entry.make({ externality, spacing, chunkTokens }, makeRng(1))

const weight = fc.constantFrom(0, 0.25, 1)
const chunk = fc.constantFrom(512, 8192)

const eligible = candidates({ minLength: 1, maxLength: 6 }).map((rows) =>
  rows.map((row) => ({ ...row, eligible: true }))
)

/** Steps without length, nobody longer for another sequence: what is left are prompts that are computed, and who waits for them. */
const onlyPrompts = (rows: ReadonlyArray<Candidate>): ReadonlyArray<Candidate> =>
  rows.map((row) => ({
    ...row,
    pendingPrefillAttention: 0,
    prefillSinceMs: 0,
    prefillDueMs: 0,
    maxSequences: 65_536,
    contextTokens: 0,
    kvCapacityTokens: 0,
    baseMs: 2 ** -40,
    prefillTokenMs: 0.03125,
    prefillAttentionMs: 0,
    decodeSequenceMs: 0,
    decodeContextMs: 0
  }))

/** Nothing changes as time passes, and prompts take as long as they have tokens. */
const nonePending = (rows: ReadonlyArray<Candidate>): ReadonlyArray<Candidate> =>
  rows.map((row) => ({
    ...row,
    pendingPrefillTokens: 0,
    pendingPrefillAttention: 0,
    prefillAttentionMs: 0
  }))

const MEMORY_MS = 3_000

/** After prompts were placed at every worker that take it a multiple of the memory. */
const filled = (
  placement: ReturnType<Subject>,
  rows: ReadonlyArray<Candidate>,
  memories: number
): ReturnType<Subject> => {
  const pool = poolOf(rows)
  for (const [worker, { prefillTokenMs }] of rows.entries()) {
    const tokens = (memories * MEMORY_MS) / prefillTokenMs
    placement.placed?.({ ...oneRequest, promptTokens: tokens, uncachedTokens: tokens }, worker, pool, 0)
  }
  return placement
}

const mostOf = (rows: ReadonlyArray<Candidate>, one: RequestView): number =>
  Math.max(...rows.map((row) => cachedOf(row, one)))

/** Of one of several rows, where no prompt was placed lately. */
const costOf = (
  row: Candidate,
  one: RequestView,
  externality: number,
  chunkTokens: number,
  rows: ReadonlyArray<Candidate>
): number => {
  const cached = cachedOf(row, one)
  return (
    naive.ttftMs(row, one.promptTokens, cached, answerOf(one), chunkTokens, 0) +
    externality * naive.externalityMs(row, one.promptTokens, cached, mostOf(rows, one), 0)
  )
}

/** The law that the cost of the picked row is the least. */
const leastIs = (
  subject: Subject,
  rows: fc.Arbitrary<ReadonlyArray<Candidate>>,
  externalities: fc.Arbitrary<number>,
  cost: typeof costOf
): void =>
  holds(
    fc.property(rows, request, externalities, chunk, (workers, one, externality, chunkTokens) => {
      const picked = workers[subject(externality, chunkTokens).pick(one, poolOf(workers), 0)]!
      const costs = workers.map((row) => cost(row, one, externality, chunkTokens, workers))
      expect(cost(picked, one, externality, chunkTokens, workers)).toBeLessThanOrEqual(
        Math.min(...costs) * (1 + 1e-12)
      )
    })
  )

const laws = [
  {
    id: "completion-least",
    check: (subject: Subject) => leastIs(subject, eligible, weight, costOf)
  },
  {
    id: "completion-earliest",
    check: (subject: Subject) =>
      leastIs(subject, eligible, fc.constant(0), (row, one, _, chunkTokens) =>
        naive.ttftMs(row, one.promptTokens, cachedOf(row, one), answerOf(one), chunkTokens, 0)
      )
  },
  {
    // What counts as much as a later first token are tokens that come far apart, by the time that does not go to prefill.
    id: "completion-spacing",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible.map(nonePending),
          request,
          chunk,
          fc.constantFrom(0, 0.5, 1),
          (rows, one, chunkTokens, busy) => {
            const placement = filled(subject(0, chunkTokens, 20), rows, busy)
            const cost = (row: Candidate): number =>
              costOf(row, one, 0, chunkTokens, rows) +
              (1 - busy) ** 2 * naive.spacedMs(row, answerOf(one), 20)
            const picked = rows[placement.pick(one, poolOf(rows), 0)]!
            expect(cost(picked)).toBeLessThanOrEqual(Math.min(...rows.map(cost)) * (1 + 1e-9))
          }
        )
      )
  },
  {
    // Of each prompt a worker computes what it does not have; what another one has delays all who are there by the root of the share of time
    // that goes to prefill, and all of it as far as it lasts.
    id: "completion-again",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible.map(onlyPrompts),
          request,
          fc.constantFrom(0, 0.25, 0.5, 1, 2),
          (rows, one, busy) => {
            const placement = filled(subject(1, 8192), rows, busy)
            const cost = (row: Candidate): number => {
              const cached = cachedOf(row, one)
              const again = Math.sqrt(Math.min(1, busy)) * (mostOf(rows, one) - cached)
              const n = one.promptTokens - cached
              const lasting = n * (n / (n + 12_000 / row.prefillTokenMs)) ** 3
              return row.pendingPrefillTokens + n + row.inFlight * (again + lasting)
            }
            const picked = rows[placement.pick(one, poolOf(rows), 0)]!
            expect(cost(picked)).toBeLessThanOrEqual(Math.min(...rows.map(cost)) * (1 + 1e-12))
          }
        )
      )
  },
  {
    // Where nobody has anything of the prompt, its first token comes at most so much later as its own prefill lasts for those in flight.
    id: "completion-nothing-again",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, request, weight, chunk, (rows, found, externality, chunkTokens) => {
          const one = { ...found, chain: chainOf([]) }
          const soonest = rows[subject(0, chunkTokens).pick(one, poolOf(rows), 0)]!
          const picked = rows[subject(externality, chunkTokens).pick(one, poolOf(rows), 0)]!
          const firstMs = (row: Candidate): number =>
            naive.ttftMs(row, one.promptTokens, 0, answerOf(one), chunkTokens, 0)
          const lastingMs = soonest.inFlight * naive.lastingMs(naive.ownMs(soonest, one.promptTokens, 0))
          expect(firstMs(picked)).toBeLessThanOrEqual(
            (firstMs(soonest) + externality * lastingMs) * (1 + 1e-12)
          )
        })
      )
  },
  {
    // A prompt that nobody has anything of, and that takes long: of workers where it comes as soon, the one with the fewest in flight.
    id: "completion-long",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.array(fc.nat(40), { minLength: 1, maxLength: 8 }),
          fc.integer({ min: 10_000, max: 1_000_000 }),
          (inFlight, promptTokens) => {
            const rows = equalWorkers(inFlight.length, { decodeSequenceMs: 0, decodeContextMs: 0 })
            const pool = poolOf(rows.map((row, i) => ({ ...row, inFlight: inFlight[i]! })))
            const picked = subject(0.25, 8192).pick({ ...oneRequest, promptTokens }, pool, 0)
            expect(inFlight[picked]!).toBe(Math.min(...inFlight))
          }
        )
      )
  },
  {
    // What a worker has to compute counts more the more prefill it was given lately than the others, by the weight of each in the memory.
    id: "completion-recent",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible.map(nonePending),
          request,
          chunk,
          fc.array(
            fc.record({
              turn: fc.nat(30),
              tokens: fc.integer({ min: 1000, max: 50_000 }),
              pauseMs: fc.nat(9000)
            }),
            { maxLength: 40 }
          ),
          (rows, one, chunkTokens, placed) => {
            const pool = poolOf(rows)
            const placement = subject(0, chunkTokens)
            let nowMs = 0
            const shares = rows.map(() => 0)
            for (const { turn, tokens, pauseMs } of placed) {
              const worker = turn % rows.length
              nowMs += pauseMs
              for (const i of rows.keys()) shares[i]! *= Math.exp(-pauseMs / MEMORY_MS)
              shares[worker]! += (rows[worker]!.prefillTokenMs * tokens) / MEMORY_MS
              const other = { ...oneRequest, promptTokens: tokens, uncachedTokens: tokens }
              placement.placed?.(other, worker, pool, nowMs)
            }
            const mean = Math.min(1, shares.reduce((sum, share) => sum + share, 0) / rows.length)
            const costs = rows.map(
              (row, i) =>
                costOf(row, one, 0, chunkTokens, rows) +
                0.6 *
                  naive.ownMs(row, one.promptTokens, cachedOf(row, one)) *
                  (Math.min(1, shares[i]!) - mean)
            )
            const picked = placement.pick(one, pool, nowMs)
            expect(costs[picked]!).toBeLessThanOrEqual(Math.min(...costs) * (1 + 1e-9))
          }
        )
      )
  },
  {
    // What requests lose by following a prefix pays for copies of it; it fades, and counts by the time there is to spare.
    id: "completion-copies",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible.map(nonePending),
          request,
          weight,
          chunk,
          fc.constantFrom(0, 0.5),
          fc.array(fc.record({ prefix: fc.nat(1), pauseMs: fc.constantFrom(0, 0, 1000, 20_000) }), {
            maxLength: 40
          }),
          (rows, found, externality, chunkTokens, busy, asked) => {
            const pool = poolOf(rows)
            const placement = filled(subject(externality, chunkTokens), rows, busy)
            const owed = [0, 1].map(() => ({ debtMs: 0, sinceMs: 0 }))
            let nowMs = 0
            for (const { pauseMs, prefix } of asked) {
              nowMs += pauseMs
              const chain = chainOf(
                Array.from({ length: found.chain.count }, (_, i) => 1000 * prefix + i + 1)
              )
              const one = { ...found, chain }
              const most = mostOf(rows, one)
              const share = busy * Math.exp(-nowMs / MEMORY_MS)
              const again = Math.sqrt(share)
              const work = (row: Candidate, cached: number): number =>
                naive.ownMs(row, one.promptTokens, cached) +
                naive.chunkSteps(one.promptTokens - cached, chunkTokens) * naive.stepMs(row) +
                externality * naive.externalityMs(row, one.promptTokens, cached, most, again)
              const copies = rows.map((row) => work(row, cachedOf(row, one)) - work(row, most))
              const copied = rows.map((row, i) => {
                const cached = cachedOf(row, one)
                const delayMs = naive.externalityMs(row, one.promptTokens, cached, most, again)
                return costOf(row, one, 0, chunkTokens, rows) + externality * delayMs - copies[i]!
              })
              const { debtMs, sinceMs } = owed[prefix]!
              const leftMs = debtMs * Math.exp((sinceMs - nowMs) / 30_000)
              const costs = copied.map((ms, i) => ms + Math.max(copies[i]!, leftMs))
              const picked = placement.pick(one, pool, nowMs)
              expect(costs[picked]!).toBeLessThanOrEqual(Math.min(...costs) * (1 + 1e-9) + 1e-9)
              if (most === 0) continue
              const saved = copied.map((ms, i) => Math.max(0, Math.min(copied[picked]! - ms, copies[i]! / 2)))
              const lostMs = saved.reduce((sum, ms) => sum + ms, 0) / Math.max(1, rows.length - 1)
              owed[prefix] = {
                debtMs: Math.max(0, leftMs - copies[picked]!) + (1 - share) * lostMs,
                sinceMs: nowMs
              }
            }
          }
        )
      )
  },
  {
    id: "completion-ties",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, request, (workers, one) => {
          const equal = workers.map(({ keyHigh, keyLow }) => ({ ...equalWorkers(1)[0]!, keyHigh, keyLow }))
          const picked = equal[subject(0.25, 8192).pick(one, poolOf(equal), 0)]!
          expect(tieScore(picked, one)).toBe(Math.max(...equal.map((row) => tieScore(row, one))))
        })
      )
  },
  {
    // Prompts of one size, all at once, with workers up to four times as fast as others: what is pending is never uneven by more than one.
    id: "completion-speeds",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.array(fc.constantFrom(1, 2, 4), { minLength: 2, maxLength: 6 }),
          fc.integer({ min: 1, max: 40 }),
          (slowness, burst) => {
            const rows = equalWorkers(slowness.length, { inFlight: 0, decodeSequenceMs: 0 })
            const pool = poolOf(
              rows.map((row, i) => ({
                ...row,
                baseMs: 2 ** -20 * slowness[i]!,
                prefillTokenMs: row.prefillTokenMs * slowness[i]!,
                speed: 1 / slowness[i]!
              }))
            )
            const placement = subject(0, 8192)
            for (let i = 0; i < burst; i++) {
              const one = { ...oneRequest, idLow: i }
              charge(pool, placement.pick(one, pool, 0), one)
            }
            const { pendingPrefillTokens: pending, prefillTokenMs } = pool.workers
            const next = [...pending].map((tokens, i) => (tokens + 100) * prefillTokenMs[i]!)
            for (const [i, tokens] of pending.entries())
              expect(tokens * prefillTokenMs[i]!).toBeLessThanOrEqual(Math.min(...next) + 1e-3)
          }
        )
      )
  }
]

/** The policy, given other columns than the pool has. */
const given =
  (columns: (pool: PoolView) => Partial<WorkerColumns>): Subject =>
  (externality, chunkTokens) => {
    const placement = real(externality, chunkTokens)
    return {
      placed: placement.placed!,
      pick: (one, pool, nowMs) =>
        placement.pick(one, { ...pool, workers: { ...pool.workers, ...columns(pool) } }, nowMs)
    }
  }

const zeros = (pool: PoolView): Float64Array => new Float64Array(pool.workers.inFlight.length)

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "charges the whole prompt, cached or not",
    "completion-least",
    (externality, chunkTokens) => ({
      pick: (one, pool, nowMs) =>
        real(externality, chunkTokens).pick(one, { ...pool, cachedTokens: () => zeros(pool) }, nowMs)
    })
  ],
  ["charges chunks of one size, whatever the option", "completion-least", (one) => real(one, 8192)],
  [
    "knows no size of the KV cache",
    "completion-earliest",
    given((pool) => ({ kvCapacityTokens: zeros(pool) }))
  ],
  [
    "looks at the prompts that wait as the last heartbeat has them",
    "completion-earliest",
    given((pool) => ({ pendingPrefillTokens: zeros(pool) }))
  ],
  [
    "counts the delay of others where it should not",
    "completion-earliest",
    (_, chunkTokens) => real(1, chunkTokens)
  ],
  [
    "forgets that those who decode wait for the prompt too",
    "completion-again",
    given(({ workers }) => ({ inFlight: workers.prefilling }))
  ],
  [
    "counts the delay of others by prompts that nobody has",
    "completion-nothing-again",
    (externality, chunkTokens) => ({
      pick: (one, pool, nowMs) => {
        const steps = pool.workers.baseMs.map((ms, i) => ms + externality * pool.workers.inFlight[i]!)
        const workers = { ...pool.workers, baseMs: steps }
        return real(externality, chunkTokens).pick(one, { ...pool, workers }, nowMs)
      }
    })
  ],
  [
    "does not look at how slow answers are",
    "completion-spacing",
    (one, chunkTokens) => real(one, chunkTokens)
  ],
  [
    "spreads answers alike where all time goes to prefill",
    "completion-spacing",
    (externality, chunkTokens, spacing) => ({
      ...real(externality, chunkTokens, spacing),
      placed: () => undefined
    })
  ],
  [
    "copies a prefix as soon as one request would be better off elsewhere",
    "completion-copies",
    (externality, chunkTokens) =>
      entry.make({ externality, chunkTokens, spacing: 1e12, copyAfter: 1 }, makeRng(1))
  ],
  [
    "never copies",
    "completion-copies",
    (externality, chunkTokens) =>
      entry.make({ externality, chunkTokens, spacing: 1e12, copyAfter: 65_536 }, makeRng(1))
  ],
  [
    "remembers what was lost for an hour",
    "completion-copies",
    (externality, chunkTokens) =>
      entry.make({ externality, chunkTokens, spacing: 1e12, patience: 3_600_000 }, makeRng(1))
  ],
  [
    "takes all prefixes for one",
    "completion-copies",
    (externality, chunkTokens) => {
      const placement = real(externality, chunkTokens)
      return {
        placed: placement.placed!,
        pick: (one, pool, nowMs) => {
          const cachedTokens = pool.cachedTokens(one)
          const chain = chainOf(Array.from({ length: one.chain.count }, (_, i) => i + 1))
          return placement.pick({ ...one, chain }, { ...pool, cachedTokens: () => cachedTokens }, nowMs)
        }
      }
    }
  ],
  ["does not see whom a long prompt delays", "completion-long", (_, chunkTokens) => real(0, chunkTokens)],
  [
    "never forgets",
    "completion-recent",
    (externality, chunkTokens) => {
      const placement = real(externality, chunkTokens)
      return {
        pick: (one, pool) => placement.pick(one, pool, 0),
        placed: (one, worker, pool) => placement.placed!(one, worker, pool, 0)
      }
    }
  ],
  [
    "remembers nothing",
    "completion-recent",
    (externality, chunkTokens) => ({ pick: real(externality, chunkTokens).pick })
  ],
  [
    "divides by a speed that the step costs hold already",
    "completion-speeds",
    given(({ workers }) => ({
      prefillTokenMs: workers.prefillTokenMs.map((ms, i) => ms / workers.speed[i]!)
    }))
  ],
  [
    "settles ties by the first id it saw",
    "completion-ties",
    (externality, chunkTokens) => ({
      pick: (_, pool, nowMs) => real(externality, chunkTokens).pick(oneRequest, pool, nowMs)
    })
  ]
]

describe("predicted-completion", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

describe("three workers, by hand", () => {
  const [first, second, third] = equalWorkers(3)
  const idle = { ...first!, inFlight: 0, baseMs: 10, prefillTokenMs: 0.1, prefillAttentionMs: 1e-5 }
  const busy: Candidate = {
    ...second!,
    inFlight: 4,
    prefilling: 1,
    pendingPrefillTokens: 300,
    contextTokens: 5000,
    cachedTokens: 800,
    baseMs: 10,
    prefillTokenMs: 0.1,
    decodeSequenceMs: 0.05,
    decodeContextMs: 1e-4
  }
  const full: Candidate = {
    ...third!,
    inFlight: 2,
    contextTokens: 6000,
    kvUsedTokens: 6000,
    kvCapacityTokens: 6600,
    baseMs: 10,
    prefillTokenMs: 0.1,
    decodeSequenceMs: 0.05
  }
  const workers = [idle, busy, full]
  const one = { ...oneRequest, promptTokens: 1000, maxTokens: 200, chain: chainOf([1, 2, 3]) }
  const placement = (externality: number) => entry.make({ externality, chunkTokens: 512 }, makeRng(1))

  test.each([
    // 1000 tokens of 0.1 ms, each behind 500 others on average at 10⁻⁵ ms; two steps of 10 ms; nobody is there.
    [
      "idle",
      0,
      {
        waitingPrompts: 0,
        ownPrefill: 0.105,
        steps: 0.02,
        room: 0,
        externality: 0,
        answer: 0,
        recent: 0,
        debt: 0
      }
    ],
    // 232 of its tokens are not cached; 3 sequences decode in steps of 10.65 ms, of which one is under way and one goes along with the 300 tokens that are
    // pending; nobody has more of it, and 23.2 ms hardly last; 100 tokens come 0.65 ms later each.
    [
      "busy",
      1,
      {
        waitingPrompts: 0.04065,
        ownPrefill: 0.0232,
        steps: 0.0213,
        room: 0,
        externality: 4 * 0.0232 * (0.0232 / 12.0232) ** 3,
        answer: (0.065 * 0.65 ** 2) / 100 ** 2,
        recent: 0,
        debt: 0
      }
    ],
    // Two steps of 10.1 ms after the one under way; 500 tokens too many of 6000 that go within 100 of them; the 768 tokens that the busy one has count for
    // nothing, for nobody was given prompts lately.
    [
      "full",
      2,
      {
        waitingPrompts: 0,
        ownPrefill: 0.1,
        steps: 0.0303,
        room: 1.01 / 12,
        externality: 2 * 0.1 * (0.1 / 12.1) ** 3,
        answer: (0.01 * 0.1 ** 2) / 100 ** 2,
        recent: 0,
        debt: 0
      }
    ]
  ])("the terms of the worker that is %s", (_, worker, terms) => {
    const found = placement(1).terms!(one, worker, poolOf(workers), 0)
    expect(Object.keys(found)).toEqual(Object.keys(terms))
    for (const [name, seconds] of Object.entries(terms)) expect(found[name]).toBeCloseTo(seconds, 12)
  })

  // Behind 1200 tokens, where 768 of its own are cached, its first token takes 0.21 s; elsewhere 0.12 s, and 0.15 s of two others where
  // all time goes to prefill.
  test.each([
    [0, 1, 1],
    [0.25, 1, 1],
    [1, 0.0625, 1],
    [1, 1, 0]
  ])(
    "with externality %d, and a share %d of the time for prefill, it is worker %d",
    (externality, share, worker) => {
      const rows = [
        { ...busy, pendingPrefillTokens: 1200 },
        { ...full, kvCapacityTokens: 0 }
      ]
      expect(filled(placement(externality), rows, share).pick(one, poolOf(rows), 0)).toBe(worker)
    }
  )
})

describe("an idle worker", () => {
  const [row] = equalWorkers(1, { inFlight: 0 })
  const terms = (one: RequestView, worker: Candidate = row!) =>
    entry.make({ externality: 1 }, makeRng(1)).terms!(one, 0, poolOf([worker]), 0)

  test("is charged its own step, and nothing for others", () => {
    expect(terms(oneRequest)).toEqual({
      waitingPrompts: 0,
      ownPrefill: 0.003125,
      steps: 0.008,
      room: 0,
      externality: 0,
      answer: 0,
      recent: 0,
      debt: 0
    })
  })

  test("takes a step for a prompt that is cached but for its last token", () => {
    const cached = { ...oneRequest, promptTokens: 512, chain: chainOf([1, 2]) }
    expect(terms(cached, { ...row!, cachedTokens: 512 })).toMatchObject({
      ownPrefill: 0.00003125,
      steps: 0.008
    })
  })

  test("waits as long as for all of a full cache where a request never fits", () => {
    expect(terms(oneRequest, { ...row!, kvCapacityTokens: 100 })).toMatchObject({ room: 50 * 0.008 })
  })
})

test("a prefix that all want is computed at a second worker once so many would have been better off there", () => {
  const rows = equalWorkers(2).map((row, worker) => ({
    ...row,
    inFlight: worker === 0 ? 30 : 0,
    cachedTokens: worker === 0 ? 20 * BLOCK_TOKENS : 0
  }))
  const pool = poolOf(rows)
  const placement = entry.make({ copyAfter: 8 }, makeRng(1))
  const chain = chainOf(Array.from({ length: 20 }, (_, i) => i + 1))
  const picks = Array.from({ length: 100 }, (_, n) => {
    const asked = { ...oneRequest, idLow: n, promptTokens: 20 * BLOCK_TOKENS + 100, chain }
    const picked = placement.pick(asked, pool, 10 * n)
    const [first, second] = [0, 1].map((worker) => sumOf(placement.terms!(asked, worker, pool, 10 * n)))
    expect(picked).toBe(first! <= second! ? 0 : 1)
    return picked
  })
  const copied = picks.indexOf(1)
  expect(copied).toBeGreaterThanOrEqual(8)
  expect(picks[copied + 1]).toBe(0)
})

test("of a large pool so many are compared, the one that holds the prompt among them, and one of least terms is picked", () => {
  const { make } = entry
  const compared = 64
  const rows = equalWorkers(1000).map((row, worker) => ({
    ...row,
    inFlight: worker % 13,
    pendingPrefillTokens: (worker % 7) * 1000,
    cachedTokens: worker === 500 ? 20 * BLOCK_TOKENS : 0
  }))
  const pool = poolOf(rows)
  const placement = make({ compared }, makeRng(1))
  for (let n = 0; n < 100; n++) {
    // Nobody else wants it, or others would get it too.
    const chain = chainOf(Array.from({ length: 20 }, (_, i) => 1000 * n + i + 1))
    const asked = {
      ...oneRequest,
      idLow: n,
      promptTokens: 20 * BLOCK_TOKENS + 1,
      ...(n % 2 === 0 && { chain })
    }
    const picked = placement.pick(asked, pool, n)
    const those = rows.flatMap((_, worker) => (placement.compared!(worker, pool) ? [worker] : []))
    expect(those).toHaveLength(compared)
    if (n % 2 === 0) expect(picked).toBe(500)
    const costs = those.map((worker) => sumOf(placement.terms!(asked, worker, pool, n)))
    expect(sumOf(placement.terms!(asked, picked, pool, n))).toBeCloseTo(Math.min(...costs), 9)
    placement.placed!({ ...asked, uncachedTokens: asked.promptTokens }, picked, pool, n)
  }
})
const sumOf = (terms: Readonly<Record<string, number>>): number =>
  Object.values(terms).reduce((sum, term) => sum + term, 0)
