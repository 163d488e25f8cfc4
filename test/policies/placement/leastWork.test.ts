import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { naiveCosts as naive } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { type Candidate, charge, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"
import { responseMsMean, serve } from "../../support/queueing.ts"

type Subject = (kvBarrier: number) => Pick<Placement, "pick">

const entry = findPlacement("least-work")
const real: Subject = (kvBarrier) => entry.make({ kvBarrier }, makeRng(1))

const rows = candidates({ minLength: 1 }).map((found) => found.map((row) => ({ ...row, eligible: true })))

const barrierMs = (row: Candidate, prompt: number, scaleMs: number): number => {
  if (row.kvCapacityTokens === 0) return 0
  const filled = (Math.max(row.kvUsedTokens, row.contextTokens) + prompt) / row.kvCapacityTokens
  return filled > 0.99 ? 99 * scaleMs : (scaleMs * filled) / (1 - filled)
}

const laws = [
  {
    id: "least-work-formula",
    check: (subject: Subject) =>
      holds(
        fc.property(rows, request, fc.constantFrom(0, 150, 10_000), (found, one, kvBarrier) => {
          const costOf = (row: Candidate): number =>
            naive.waitingMs(row) +
            naive.ownMs(row, one.promptTokens, 0) +
            barrierMs(row, one.promptTokens, kvBarrier)
          const picked = found[subject(kvBarrier).pick(one, poolOf(found), 0)]!
          expect(costOf(picked)).toBeLessThanOrEqual(Math.min(...found.map(costOf)) * (1 + 1e-12))
        })
      )
  },
  {
    // Workers of different speeds that serve in order of arrival: the recursion of Lindley for each, what is pending worked off in between.
    id: "least-work-earliest",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.array(fc.constantFrom(0.25, 1, 2), { minLength: 1, maxLength: 6 }),
          fc.array(fc.tuple(fc.integer({ min: 1, max: 5000 }), fc.nat(2000)), { maxLength: 30 }),
          (costs, arrivals) => {
            const plain = { inFlight: 0, decodeSequenceMs: 0 }
            const pool = poolOf(
              equalWorkers(costs.length, plain).map((row, i) => ({ ...row, prefillTokenMs: costs[i]! }))
            )
            const { pendingPrefillTokens } = pool.workers
            const placement = subject(0)
            const freeMs = costs.map(() => 0)
            let nowMs = 0
            for (const [promptTokens, pauseMs] of arrivals) {
              nowMs += pauseMs
              for (const [worker, cost] of costs.entries())
                pendingPrefillTokens[worker] = Math.max(0, freeMs[worker]! - nowMs) / cost
              const one = { ...oneRequest, promptTokens }
              const endMs = (worker: number): number =>
                Math.max(nowMs, freeMs[worker]!) + promptTokens * costs[worker]!
              const worker = placement.pick(one, pool, nowMs)
              expect(endMs(worker)).toBe(Math.min(...costs.map((_, each) => endMs(each))))
              freeMs[worker] = endMs(worker)
              charge(pool, worker, one)
            }
          }
        )
      )
  }
]

/** The least of a cost over the eligible workers. */
const leastOf =
  (
    costOf: (row: (name: "inFlight" | "pendingPrefillTokens" | "prefillTokenMs") => number) => number
  ): Subject =>
  () => ({
    pick: (_, { workers, eligible, eligibleCount }) =>
      [...eligible.subarray(0, eligibleCount)].toSorted(
        (a, b) => costOf((name) => workers[name][a]!) - costOf((name) => workers[name][b]!)
      )[0] ?? -1
  })

const defects: ReadonlyArray<Planted<Subject>> = [
  ["counts requests", "least-work-formula", leastOf((of) => of("inFlight"))],
  ["leaves the KV cache out", "least-work-formula", () => entry.make({ kvBarrier: 0 }, makeRng(1))],
  ["compares tokens whatever they cost", "least-work-earliest", leastOf((of) => of("pendingPrefillTokens"))],
  [
    "leaves out the own prompt, which takes longer on a slow worker",
    "least-work-earliest",
    leastOf((of) => of("pendingPrefillTokens") * of("prefillTokenMs"))
  ]
]

describe("least work", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test.each([
  [0, 0],
  [0.5, 0.15],
  [0.9, 1.35],
  [0.99, 14.85],
  [1.5, 14.85]
])("a KV cache that is full to %d costs %d s", (filled, seconds) => {
  const pool = poolOf(equalWorkers(1, { kvCapacityTokens: 1000, kvUsedTokens: filled * 1000 }))
  const { kv } = entry.make({}, makeRng(1)).terms!({ ...oneRequest, promptTokens: 0 }, 0, pool, 0)
  expect(kv).toBeCloseTo(seconds, 9)
})

// Prompts of 1 to 100 000 tokens, bounded Pareto with exponent 1: a few make up most of the work.
test("where prompts differ widely, answers come at least 1.2 times sooner than by counting requests", () => {
  const meanOf = (name: string): number =>
    responseMsMean(
      serve(findPlacement(name), {
        workers: 16,
        load: 0.7,
        arrivals: 40_000,
        promptTokens: (rng) => Math.ceil(1 / (1 - rng.next() * (1 - 1e-5))),
        promptTokensMean: Math.log(1e5) + 0.5
      })
    )
  expect(meanOf("least-connections") / meanOf("least-work")).toBeGreaterThan(1.2)
})
