import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { answerOf, cachedOf, naiveCosts as naive } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import {
  BLOCK_TOKENS,
  type Candidate,
  chainOf,
  charge,
  equalWorkers,
  oneRequest,
  poolOf,
  prefilled,
  release
} from "../../support/pools.ts"

interface Options {
  readonly patience: number
  readonly copyPatience: number
  readonly utilization: number
  readonly window: number
}

type Subject = (options: Options) => Pick<Placement, "pick" | "placed">

const entry = findPlacement("prefix-locality")
const real: Subject = (options) => entry.make({ ...options }, makeRng(1))

const HOUR = 3_600_000
const defaults: Options = { patience: 200, copyPatience: 2000, utilization: 0.7, window: 10_000 }

const eligible = candidates({ minLength: 1, maxLength: 6 }).map((rows) =>
  rows.map((row) => ({ ...row, eligible: true }))
)

const options = fc.record({
  patience: fc.constantFrom(0, 200, 5000),
  copyPatience: fc.constantFrom(0, 2000, 20_000),
  utilization: fc.constantFrom(0.1, 0.7, 1),
  window: fc.constantFrom(1000, 60_000)
})

const ttftMs = (row: Candidate, one: RequestView, nowMs = 0): number =>
  naive.ttftMs(row, one.promptTokens, cachedOf(row, one), answerOf(one), 2048, nowMs)

/** Least time the request occupies one that holds `held` of it. */
const serviceMs = (holders: ReadonlyArray<Candidate>, one: RequestView, held: number): number =>
  Math.min(
    ...holders.map(
      (row) => naive.ownMs(row, one.promptTokens, held) + naive.longerMs(row, one.promptTokens, answerOf(one))
    )
  )

const laws = [
  {
    // Rates are those of all placements before, each fading by itself.
    id: "locality-least",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible,
          fc.tuple(request, request),
          fc.array(fc.tuple(fc.nat(1), fc.constantFrom(0, 3, 100, 5000)), { minLength: 1, maxLength: 16 }),
          options,
          (rows, requests, arrivals, chosen) => {
            const placement = subject(chosen)
            const pool = poolOf(rows)
            const matched: Array<{ readonly blocks: number; readonly atMs: number }> = []
            let nowMs = 0
            for (const [which, pauseMs] of arrivals) {
              const one = requests[which]!
              nowMs += pauseMs
              const held = Math.max(...rows.map((row) => cachedOf(row, one)))
              const blocks = Math.ceil(held / BLOCK_TOKENS)
              const holders = rows.filter((row) => cachedOf(row, one) === held)
              const count = matched
                .filter((other) => other.blocks === blocks)
                .reduce((sum, other) => sum + Math.exp((other.atMs - nowMs) / chosen.window), 0)
              const copies = Math.ceil(
                ((count / chosen.window) * serviceMs(holders, one, held)) / chosen.utilization - 1e-9
              )
              const leaving = holders.length < copies ? chosen.patience : chosen.copyPatience
              const cost = (row: Candidate): number =>
                ttftMs(row, one, nowMs) + (cachedOf(row, one) < held ? leaving : 0)
              const picked = placement.pick(one, pool, nowMs)
              expect(cost(rows[picked]!)).toBeLessThanOrEqual(Math.min(...rows.map(cost)) * (1 + 1e-9))
              placement.placed?.(one, picked, pool, nowMs)
              if (held > 0) matched.push({ blocks, atMs: nowMs })
            }
          }
        )
      )
  },
  {
    id: "locality-holder",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, request, options, (rows, one, chosen) => {
          const picked = rows[subject(chosen).pick(one, poolOf(rows), 0)]!
          const held = Math.max(...rows.map((row) => cachedOf(row, one)))
          if (cachedOf(picked, one) === held) return
          const soonest = Math.min(
            ...rows.filter((row) => cachedOf(row, one) === held).map((row) => ttftMs(row, one))
          )
          const gapMs = Math.min(chosen.patience, chosen.copyPatience)
          expect(soonest - ttftMs(picked, one)).toBeGreaterThanOrEqual(gapMs * (1 - 1e-9))
        })
      )
  },
  {
    id: "locality-copies",
    check: (subject: Subject) =>
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 40 }),
          fc.integer({ min: 100, max: 4000 }),
          (perSecond, suffix) => {
            const { copies, limit, needed } = hotPrefix(subject, perSecond, suffix)
            expect(copies).toBeLessThanOrEqual(limit)
            expect(copies).toBeGreaterThanOrEqual(needed)
          }
        ),
        { numRuns: 50 }
      )
  }
]

/**
 * Ten seconds of requests that share 64 blocks, evenly spaced, to 16 workers of which one holds these at first. Returns how many do in the
 * end, the most that the rate allows, and how many it takes to keep a backlog from growing by more than half of the time.
 */
const hotPrefix = (subject: Subject, perSecond: number, suffixTokens: number) => {
  const base = poolOf(equalWorkers(16, { inFlight: 0, capacity: 10_000, decodeSequenceMs: 0, baseMs: 0.001 }))
  const holders = new Set([0])
  const chain = chainOf(Array.from({ length: 64 }, (_, i) => i + 1))
  const pool: PoolView = {
    ...base,
    cachedTokens: () =>
      Float64Array.from({ length: 16 }, (_, slot) => (holders.has(slot) ? 64 * BLOCK_TOKENS : 0))
  }
  const one = { ...oneRequest, chain, promptTokens: 64 * BLOCK_TOKENS + suffixTokens, maxTokens: 1 }
  const placement = subject({ patience: 0, copyPatience: HOUR, utilization: 0.7, window: 2000 })
  const ends: Array<{ readonly atMs: number; readonly worker: number; readonly placed: RequestView }> = []
  const freeMs = new Float64Array(16)
  for (let i = 0; i < 10 * perSecond; i++) {
    const nowMs = (i * 1000) / perSecond
    for (const { atMs, worker, placed } of ends.filter(({ atMs }) => atMs <= nowMs)) {
      prefilled(pool, worker, placed, atMs)
      release(pool, worker, placed)
    }
    ends.splice(0, ends.length, ...ends.filter(({ atMs }) => atMs > nowMs))
    const worker = placement.pick({ ...one, idLow: i }, pool, nowMs)
    const placed = charge(pool, worker, { ...one, idLow: i }, nowMs)
    placement.placed?.(placed, worker, pool, nowMs)
    freeMs[worker] = Math.max(nowMs, freeMs[worker]!) + placed.uncachedTokens * 0.03125
    ends.push({ atMs: freeMs[worker], worker, placed })
    holders.add(worker)
  }
  const serviceSeconds = (suffixTokens * 0.03125) / 1000
  // The rate that is measured from the requests before never exceeds the true one.
  const limit = Math.max(1, Math.ceil((perSecond * serviceSeconds) / 0.7))
  return {
    copies: holders.size,
    limit,
    needed: Math.min(16, Math.max(1, Math.floor((perSecond * serviceSeconds) / 1.5)))
  }
}

const wrapped =
  (change: (options: Options) => Options): Subject =>
  (given) =>
    real(change(given))

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "is patient for no copy more than for a first one",
    "locality-least",
    wrapped((each) => ({ ...each, copyPatience: each.patience }))
  ],
  ["makes no copies", "locality-copies", wrapped((each) => ({ ...each, patience: each.copyPatience }))],
  [
    "leaves as soon as it is sooner elsewhere",
    "locality-holder",
    wrapped((each) => ({ ...each, patience: 0, copyPatience: 0 }))
  ],
  ["forgets rates", "locality-least", (given) => ({ pick: real(given).pick })],
  [
    "counts attempts that were never placed",
    "locality-least",
    (given) => {
      const placement = real(given)
      return {
        pick: (one, pool, nowMs) => {
          const picked = placement.pick(one, pool, nowMs)
          placement.placed?.(one, picked, pool, nowMs)
          return placement.pick(one, pool, nowMs)
        },
        placed: placement.placed!
      }
    }
  ],
  [
    "rates last for ever",
    "locality-least",
    (given) => {
      const placement = real(given)
      return {
        pick: (one, pool) => placement.pick(one, pool, 0),
        placed: (one, worker, pool) => placement.placed?.(one, worker, pool, 0)
      }
    }
  ]
]

describe("prefix-locality", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

describe("a holder and an idle worker", () => {
  // 4096 of the 5096 tokens are held: computing them takes 128 ms.
  const one = {
    ...oneRequest,
    promptTokens: 5096,
    chain: chainOf(Array.from({ length: 16 }, (_, i) => i + 1))
  }
  const [first, second] = equalWorkers(2, { inFlight: 0, baseMs: 2 ** -20 })
  const pick = (waitingMs: number, chosen: Partial<Options> = {}): number =>
    real({ ...defaults, ...chosen }).pick(
      one,
      poolOf([{ ...first!, cachedTokens: 4096, pendingPrefillTokens: waitingMs * 32 }, second!]),
      0
    )

  test.each([
    ["nothing waits", 0, {}, 0],
    ["what waits is less than what is held", 127, {}, 0],
    ["the gap is below the patience for a copy", 128 + 1990, {}, 0],
    ["the gap is above it", 128 + 2010, {}, 1],
    ["there is no patience and the holder is sooner", 127, { copyPatience: 0 }, 0],
    ["there is no patience and the holder is later", 129, { copyPatience: 0 }, 1]
  ])("%s", (_, waitingMs, chosen, worker) => {
    expect(pick(waitingMs, chosen)).toBe(worker)
  })
})
