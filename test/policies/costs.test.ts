import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import type { WorkerColumns } from "../../src/domain/PoolView.ts"
import * as costs from "../../src/policies/costs.ts"
import { candidates, holds, request } from "../support/arbitraries.ts"
import { answerOf, cachedOf, naiveCosts as naive } from "../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { equalWorkers, poolOf } from "../support/pools.ts"

type KvWait = typeof costs.kvWaitMs

const oneRow = candidates({ minLength: 1, maxLength: 1 }).map(([row]) => row!)

const laws = [
  {
    id: "costs-formula",
    check: (kvWaitMs: KvWait) =>
      holds(
        fc.property(
          oneRow,
          request,
          fc.integer({ min: 16, max: 8192 }),
          fc.constantFrom(0, 0.5, 1),
          (row, one, chunk, share) => {
            const { workers } = poolOf([row])
            const { promptTokens: prompt } = one
            const cached = cachedOf(row, one)
            const answer = answerOf(one)
            const close = (ms: number, expected: number): void =>
              expect(Math.abs(ms - expected)).toBeLessThanOrEqual(1e-12 * expected)
            close(
              costs.ttftMs(workers, 0, prompt, cached, answer, chunk),
              naive.ttftMs(row, prompt, cached, answer, chunk)
            )
            close(
              costs.occupancyMs(workers, 0, prompt, cached, answer),
              naive.occupancyMs(row, prompt, cached, answer)
            )
            const most = cached + Math.floor(share * (prompt - cached))
            const expected = naive.externalityMs(row, prompt, cached, most)
            const whole = row.inFlight * naive.ownMs(row, prompt, cached)
            expect(
              Math.abs(costs.externalityMs(workers, 0, prompt, cached, most, 300_000) - expected)
            ).toBeLessThanOrEqual(1e-12 * whole)
            close(kvWaitMs(workers, 0, prompt, answer), naive.kvWaitMs(row, prompt, answer))
          }
        )
      )
  },
  {
    // Sequences of one size whose ends lie evenly apart: the n-th end is waited for, where room for n of them is missing.
    id: "costs-kv-renewal",
    check: (kvWaitMs: KvWait) =>
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
              kvCapacityTokens: Math.max(prompt + answer, capacity)
            })
            const { workers } = poolOf(rows)
            const missing = held + prompt + answer - workers.kvCapacityTokens[0]!
            const gapMs = (answer / sequences) * costs.decodeStepMs(workers, 0)
            const waitMs = Math.max(0, Math.ceil(missing / (prompt + answer))) * gapMs
            const predictedMs = kvWaitMs(workers, 0, prompt, answer)
            expect(predictedMs).toBeLessThanOrEqual(waitMs * (1 + 1e-12))
            expect(predictedMs).toBeGreaterThanOrEqual((waitMs - gapMs) * (1 - 1e-12))
          }
        )
      )
  },
  {
    id: "costs-kv-bounds",
    check: (kvWaitMs: KvWait) =>
      holds(
        fc.property(
          oneRow,
          request,
          fc.constantFrom(0, 1000, 100_000),
          fc.nat(100_000),
          (found, { promptTokens }, kvCapacityTokens, more) => {
            const row = { ...found, kvCapacityTokens }
            const fuller = { ...row, contextTokens: row.contextTokens + more }
            const wait = (of: typeof row): number => kvWaitMs(poolOf([of]).workers, 0, promptTokens, 64)
            expect(wait(row)).toBeGreaterThanOrEqual(0)
            expect(wait(fuller)).toBeGreaterThanOrEqual(wait(row))
            expect(wait(row)).toBeLessThanOrEqual(64 * naive.stepMs(row))
            if (row.contextTokens + promptTokens + 64 <= kvCapacityTokens) expect(wait(row)).toBe(0)
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

const defects: ReadonlyArray<Planted<KvWait>> = [
  [
    "waits for the missing room as if it all were produced",
    "costs-kv-renewal",
    (workers, worker, prompt, answer) =>
      (kvOf(workers, worker, prompt, answer).missing / Math.max(1, workers.inFlight[worker]!)) *
      costs.decodeStepMs(workers, worker)
  ],
  [
    "waits without end for what never fits",
    "costs-kv-bounds",
    (workers, worker, prompt, answer) => {
      const { held, missing } = kvOf(workers, worker, prompt, answer)
      return (missing / Math.max(1, held)) * answer * costs.decodeStepMs(workers, worker)
    }
  ],
  [
    "takes a cache of unknown size for a full one",
    "costs-formula",
    (workers, worker, prompt, answer) =>
      costs.kvWaitMs(
        { ...workers, kvCapacityTokens: workers.kvCapacityTokens.map((tokens) => Math.max(1, tokens)) },
        worker,
        prompt,
        answer
      )
  ]
]

describe("costs", () => keepsAll(laws, costs.kvWaitMs))
describe("planted defects", () => findsAll(laws, defects))
