import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import type { WorkerColumns } from "../../src/domain/PoolView.ts"
import * as costs from "../../src/policies/costs.ts"
import { candidates, holds, request } from "../support/arbitraries.ts"
import { answerOf, cachedOf, naiveCosts as naive } from "../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { equalWorkers, poolOf } from "../support/pools.ts"

/** Those of the costs that defects are planted in. */
type Costs = Pick<typeof costs, "roomMs" | "waitMs">

const oneRow = candidates({ minLength: 1, maxLength: 1 }).map(([row]) => row!)

const laws = [
  {
    id: "costs-formula",
    check: ({ roomMs, waitMs }: Costs) =>
      holds(
        fc.property(
          oneRow,
          request,
          fc.integer({ min: 16, max: 8192 }),
          fc.constantFrom(0, 0.5, 1),
          fc.integer({ min: 0, max: 200_000 }),
          (row, one, chunk, share, afterMs) => {
            const nowMs = row.prefillSinceMs + afterMs
            const { workers } = poolOf([row])
            const { promptTokens: prompt } = one
            const cached = cachedOf(row, one)
            const answer = answerOf(one)
            const close = (ms: number, expected: number): void =>
              expect(Math.abs(ms - expected)).toBeLessThanOrEqual(1e-12 * expected)
            close(
              costs.ttftMs(workers, 0, prompt, cached, answer, nowMs, chunk),
              naive.ttftMs(row, prompt, cached, answer, chunk, nowMs)
            )
            close(waitMs(workers, 0, nowMs, chunk), naive.waitMs(row, chunk, nowMs))
            close(
              costs.occupancyMs(workers, 0, prompt, cached, answer),
              naive.occupancyMs(row, prompt, cached, answer)
            )
            const most = cached + Math.floor(share * (prompt - cached))
            const expected = naive.externalityMs(row, prompt, cached, most, share)
            const whole = row.inFlight * naive.ownMs(row, prompt, cached)
            expect(
              Math.abs(costs.externalityMs(workers, 0, prompt, cached, most, share, 12_000) - expected)
            ).toBeLessThanOrEqual(1e-12 * whole)
            close(roomMs(workers, 0, prompt, cached, answer), naive.roomMs(row, prompt, cached, answer))
            const stepMs = costs.decodeStepMs(workers, 0)
            const expectedMs = naive.spacedMs(row, answer, chunk)
            expect(costs.spacedMs(stepMs, row.baseMs, answer, chunk)).toBeCloseTo(expectedMs, 6)
          }
        )
      )
  },
  {
    // Sequences of one size whose ends lie evenly apart: the n-th end is waited for, where room for n of them is missing.
    id: "costs-kv-renewal",
    check: ({ roomMs }: Costs) =>
      holds(
        fc.property(
          fc.integer({ min: 1, max: 40 }),
          fc.integer({ min: 1, max: 5000 }),
          fc.integer({ min: 1, max: 500 }),
          fc.integer({ min: 0, max: 200_000 }),
          (sequences, prompt, answer, capacity) => {
            const held = sequences * (prompt + answer)
            const rows = equalWorkers(1, {
              inFlight: sequences,
              contextTokens: held,
              kvUsedTokens: held,
              kvCapacityTokens: Math.max(prompt + answer, capacity)
            })
            const { workers } = poolOf(rows)
            const missing = held + prompt + answer - workers.kvCapacityTokens[0]!
            const gapMs = (answer / sequences) * costs.decodeStepMs(workers, 0)
            const waitMs = Math.max(0, Math.ceil(missing / (prompt + answer))) * gapMs
            const predictedMs = roomMs(workers, 0, prompt, 0, answer)
            expect(predictedMs).toBeLessThanOrEqual(waitMs * (1 + 1e-12))
            expect(predictedMs).toBeGreaterThanOrEqual((waitMs - gapMs) * (1 - 1e-12))
          }
        )
      )
  },
  {
    id: "costs-kv-bounds",
    check: ({ roomMs }: Costs) =>
      holds(
        fc.property(
          oneRow,
          request,
          fc.constantFrom(0, 1000, 100_000),
          fc.nat(100_000),
          (found, { promptTokens }, kvCapacityTokens, more) => {
            const row = { ...found, kvCapacityTokens }
            const wait = (of: typeof row): number => roomMs(poolOf([of]).workers, 0, promptTokens, 0, 64)
            const fuller = [
              { ...row, contextTokens: row.contextTokens + more },
              { ...row, kvUsedTokens: row.kvUsedTokens + more },
              { ...row, answerTokens: row.answerTokens + more }
            ]
            expect(wait(row)).toBeGreaterThanOrEqual(0)
            for (const one of fuller) expect(wait(one)).toBeGreaterThanOrEqual(wait(row))
            expect(wait(row)).toBeLessThanOrEqual(64 * naive.stepMs(row))
            const { contextTokens, inFlight, maxSequences } = row
            if (contextTokens + promptTokens + 64 <= kvCapacityTokens && inFlight < maxSequences)
              expect(wait(row)).toBe(0)
          }
        )
      )
  },
  {
    id: "costs-wait-elapsed",
    check: ({ waitMs }: Costs) =>
      holds(
        fc.property(
          oneRow,
          fc.nat(100_000),
          fc.constantFrom(0, 100, 1_000_000),
          fc.nat(100_000),
          (found, afterMs, moreMs, moreTokens) => {
            const { workers } = poolOf([found])
            workers.prefillDueMs[0] = found.prefillSinceMs + costs.pendingStepsMs(workers, 0)
            const nowMs = found.prefillSinceMs + afterMs
            const before = waitMs(workers, 0, nowMs)
            const worked = before - waitMs(workers, 0, nowMs + moreMs)
            expect(worked).toBeGreaterThanOrEqual(0)
            expect(worked).toBeCloseTo(Math.min(before, moreMs), 6)
            workers.pendingPrefillTokens[0]! += moreTokens
            const more = costs.pendingStepsMs(workers, 0) - (workers.prefillDueMs[0] - found.prefillSinceMs)
            expect(waitMs(workers, 0, nowMs + moreMs)).toBeGreaterThanOrEqual(more - 1e-6)
          }
        )
      )
  }
]

/** What is held, and what is missing for a request. */
const kvOf = (workers: WorkerColumns, worker: number, prompt: number, answer: number) => {
  const held = workers.contextTokens[worker]!
  const capacity = workers.kvCapacityTokens[worker]!
  return { held, missing: capacity === 0 ? 0 : Math.max(0, held + prompt + answer - capacity) }
}

const defects: ReadonlyArray<Planted<Costs>> = [
  [
    "waits for the missing room as if it all were produced",
    "costs-kv-renewal",
    {
      ...costs,
      roomMs: (workers, worker, prompt, _cached, answer) =>
        (kvOf(workers, worker, prompt, answer).missing / Math.max(1, workers.inFlight[worker]!)) *
        costs.decodeStepMs(workers, worker)
    }
  ],
  [
    "waits without end for what never fits",
    "costs-kv-bounds",
    {
      ...costs,
      roomMs: (workers, worker, prompt, _cached, answer) => {
        const { held, missing } = kvOf(workers, worker, prompt, answer)
        return (missing / Math.max(1, held)) * answer * costs.decodeStepMs(workers, worker)
      }
    }
  ],
  [
    "takes a cache of unknown size for a full one",
    "costs-formula",
    {
      ...costs,
      roomMs: (workers, ...request) =>
        costs.roomMs(
          { ...workers, kvCapacityTokens: workers.kvCapacityTokens.map((tokens) => Math.max(1, tokens)) },
          ...request
        )
    }
  ],
  [
    "counts a prefix that many share for each of them",
    "costs-formula",
    {
      ...costs,
      roomMs: (workers, ...request) =>
        costs.roomMs({ ...workers, kvUsedTokens: workers.kvCapacityTokens }, ...request)
    }
  ],
  [
    "waits for no place among the sequences",
    "costs-formula",
    {
      ...costs,
      roomMs: (workers, ...request) =>
        costs.roomMs({ ...workers, maxSequences: workers.capacity.map(() => 65_536) }, ...request)
    }
  ],
  [
    "takes what waits for work that is not begun",
    "costs-wait-elapsed",
    { ...costs, waitMs: (workers, worker) => costs.pendingStepsMs(workers, worker) }
  ],
  [
    "takes all time that passed for work done",
    "costs-wait-elapsed",
    {
      ...costs,
      waitMs: (workers, worker, nowMs) =>
        costs.waitMs({ ...workers, prefillDueMs: workers.prefillDueMs.map(() => nowMs) }, worker, nowMs)
    }
  ]
]

describe("costs", () => keepsAll(laws, costs))
describe("planted defects", () => findsAll(laws, defects))
