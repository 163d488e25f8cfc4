import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { answerOf, naiveCosts as naive } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { type Candidate, poolOf } from "../../support/pools.ts"

interface Weights {
  readonly gpu: number
  readonly kv: number
  readonly queue: number
  readonly latency: number
  readonly barrier: number
}

type Subject = (weights: Weights) => Placement

const entry = findPlacement("composite")
const real: Subject = (weights) => entry.make({ ...weights }, makeRng(1))

const rows = candidates({ minLength: 1 }).map((found) => found.map((row) => ({ ...row, eligible: true })))

const weight = fc.constantFrom(0, 0, 0.5, 1, 8)
const anyWeights: fc.Arbitrary<Weights> = fc.record({
  gpu: weight,
  kv: weight,
  queue: weight,
  latency: weight,
  barrier: fc.constantFrom(0, 150, 60_000)
})

const fullness = (use: number): number => 1 / (1 - Math.min(use, 0.99)) - 1

/** The four costs in s, written down again. */
const termsOf = (row: Candidate, one: RequestView, { gpu, kv, queue, latency, barrier }: Weights) => {
  const batch = Math.max(row.inFlight, row.running + row.waiting) / row.capacity
  const held = Math.max(row.kvUsedTokens, row.contextTokens) + one.promptTokens
  const cache = row.kvCapacityTokens === 0 ? 0 : held / row.kvCapacityTokens
  return {
    gpu: (gpu * barrier * fullness(batch)) / 1000,
    kv: (kv * barrier * fullness(cache)) / 1000,
    queue: (queue * naive.waitingMs(row)) / 1000,
    latency: (latency * (naive.ownMs(row, one.promptTokens, 0) + answerOf(one) * naive.stepMs(row))) / 1000
  }
}

const near = (value: number, expected: number): void =>
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-9 * (1 + expected))

const laws = [
  {
    id: "composite-terms",
    check: (subject: Subject) =>
      holds(
        fc.property(rows, request, anyWeights, (found, one, weights) => {
          const pool = poolOf(found)
          for (const [worker, row] of found.entries()) {
            const terms = subject(weights).terms!(one, worker, pool, 0)
            const expected = termsOf(row, one, weights)
            expect(Object.keys(terms)).toEqual(Object.keys(expected))
            for (const [name, seconds] of Object.entries(expected)) near(terms[name]!, seconds)
          }
        })
      )
  },
  {
    id: "composite-least",
    check: (subject: Subject) =>
      holds(
        fc.property(rows, request, anyWeights, (found, one, weights) => {
          const sums = found.map((row) =>
            Object.values(termsOf(row, one, weights)).reduce((sum, term) => sum + term, 0)
          )
          near(sums[subject(weights).pick(one, poolOf(found), 0)]!, Math.min(...sums))
        })
      )
  }
]

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "takes the range of the workers for the unit",
    "composite-least",
    (weights) => ({
      pick: (one, { workers, eligible, eligibleCount }) => {
        const all = [...eligible.subarray(0, eligibleCount)]
        const share = (column: Float64Array | Int32Array, worker: number): number => {
          const values = all.map((each) => column[each]!)
          return (column[worker]! - Math.min(...values)) / (Math.max(...values) - Math.min(...values) || 1)
        }
        const cost = (worker: number): number =>
          weights.gpu * share(workers.running, worker) +
          weights.kv * share(workers.kvUsedTokens, worker) +
          weights.queue * share(workers.pendingPrefillTokens, worker) +
          weights.latency * share(workers.baseMs, worker) * one.promptTokens
        return all.toSorted((a, b) => cost(a) - cost(b))[0]!
      }
    })
  ],
  [
    "forgets to weigh a term",
    "composite-terms",
    (weights) => real({ ...weights, queue: Math.min(weights.queue, 1) })
  ]
]

describe("composite", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))
