import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { equalWorkers, oneRequest, poolOf, setEligible } from "../../support/pools.ts"
import { serve, waitMsMean } from "../../support/queueing.ts"

type Subject = () => Placement

const LONG = 10_000
const SHORT = 500

const bucketed = findPlacement("bucketed")
const real: Subject = () => bucketed.make({ longTokens: LONG }, makeRng(1))

const prompt = (promptTokens: number) => ({ ...oneRequest, promptTokens, uncachedTokens: promptTokens })

/** A policy that has seen so much work in long and in short prompts. */
const after = (subject: Subject, pool: PoolView, long: number, short: number): Placement => {
  const placement = subject()
  for (let i = 0; i < long; i++) placement.placed?.(prompt(LONG), 0, pool, 0)
  for (let i = 0; i < short * (LONG / SHORT); i++) placement.placed?.(prompt(SHORT), 0, pool, 0)
  return placement
}

/** All workers that a request may go to, told by picking while whoever was picked is not there any more. */
const reached = (
  placement: Placement,
  pool: PoolView,
  tokens: number,
  count: number
): ReadonlyArray<number> => {
  const { pendingPrefillTokens } = pool.workers
  const found: Array<number> = []
  while (found.length < count) {
    const worker = placement.pick(prompt(tokens), pool, 0)
    if (found.includes(worker)) break
    found.push(worker)
    pendingPrefillTokens[worker]! += 1_000_000
  }
  for (const worker of found) pendingPrefillTokens[worker]! -= 1_000_000
  return found
}

const work = fc.tuple(fc.nat(20), fc.nat(20))

const laws = [
  {
    id: "lanes-equal-work",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.integer({ min: 1, max: 12 }), work, (count, [long, short]) => {
          // Something is pending everywhere, so that no short prompt leaves its lane.
          const pool = poolOf(equalWorkers(count, { pendingPrefillTokens: 10 }))
          const placement = after(subject, pool, long, short)
          const longLane = reached(placement, pool, LONG, count)
          const shortLane = reached(placement, pool, SHORT, count)
          const exact = long + short === 0 ? 0 : (count * long) / (long + short)
          // A sum of shares is not exact to the last bit, and half a worker is nobody's.
          fc.pre(exact % 1 !== 0.5)
          const rounded = Math.round(exact)
          const isOne = rounded === 0 || rounded === count
          expect(longLane).toHaveLength(isOne ? count : rounded)
          expect(shortLane).toHaveLength(isOne ? count : count - rounded)
          if (!isOne) expect(longLane.filter((worker) => shortLane.includes(worker))).toEqual([])
        })
      )
  },
  {
    // Lanes go by key: one that is full for a while moves one other worker at most.
    id: "lanes-stay",
    check: (subject: Subject) =>
      holds(
        fc.property(fc.integer({ min: 3, max: 12 }), fc.nat(11), (count, which) => {
          const pool = poolOf(equalWorkers(count, { pendingPrefillTokens: 10 }))
          const placement = after(subject, pool, 1, 1)
          const before = reached(placement, pool, LONG, count)
          setEligible(pool, (worker) => worker !== which % count)
          const now = reached(placement, pool, LONG, count)
          expect(now.filter((worker) => !before.includes(worker)).length).toBeLessThanOrEqual(1)
        })
      )
  },
  {
    id: "lanes-short-borrow",
    check: (subject: Subject) => {
      const pool = poolOf(equalWorkers(4, { pendingPrefillTokens: 10 }))
      const placement = after(subject, pool, 1, 1)
      const [idle] = reached(placement, pool, LONG, 4)
      pool.workers.pendingPrefillTokens[idle!] = 0
      expect(placement.pick(prompt(SHORT), pool, 0)).toBe(idle!)
      // The other way round a long prompt would stand before short ones.
      const other = reached(placement, pool, SHORT, 4).find((worker) => worker !== idle)
      pool.workers.pendingPrefillTokens[idle!] = 10
      pool.workers.pendingPrefillTokens[other!] = 0
      expect(placement.pick(prompt(LONG), pool, 0)).not.toBe(other!)
    }
  }
]

/** Two lanes that lend nobody; a defect says how many workers the long one has, and in what order they come to it. */
const lanes =
  (
    longCount: (share: number, count: number) => number,
    order: (worker: number, count: number) => number = () => 0
  ): Subject =>
  () => {
    let long = 0
    let all = 0
    return {
      pick: ({ promptTokens }, { workers, eligible, eligibleCount }) => {
        const present = [...eligible.subarray(0, eligibleCount)].toSorted(
          (a, b) => order(a, eligibleCount) - order(b, eligibleCount)
        )
        const cut = longCount(all === 0 ? 0 : long / all, eligibleCount)
        const isOne = cut === 0 || cut === eligibleCount
        const lane = isOne ? present : promptTokens >= LONG ? present.slice(0, cut) : present.slice(cut)
        const pending = (worker: number): number => workers.pendingPrefillTokens[worker]!
        return lane.toSorted((a, b) => pending(a) - pending(b))[0] ?? -1
      },
      placed: ({ promptTokens, uncachedTokens }) => {
        long += promptTokens >= LONG ? uncachedTokens : 0
        all += uncachedTokens
      }
    }
  }

const byShare = (share: number, count: number): number => Math.round(share * count)

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "gives the long lane a quarter of the workers, whatever the work",
    "lanes-equal-work",
    lanes((_, count) => Math.floor(count / 4))
  ],
  [
    "fills the lanes in an order that depends on how many workers there are",
    "lanes-stay",
    lanes(byShare, (worker, count) => (worker * 7 + count * 3) % 13)
  ],
  ["never lends a worker", "lanes-short-borrow", lanes(byShare)]
]

describe("bucketed", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test("only what had to be computed is work", () => {
  const pool = poolOf(equalWorkers(4, { pendingPrefillTokens: 10 }))
  const placement = bucketed.make({ longTokens: LONG }, makeRng(1))
  for (let i = 0; i < 3; i++) placement.placed!({ ...prompt(LONG), uncachedTokens: SHORT }, 0, pool, 0)
  for (let i = 0; i < 3; i++) placement.placed!(prompt(SHORT), 0, pool, 0)
  expect(reached(placement, pool, LONG, 4)).toHaveLength(2)
})

test("lanes follow the work of the last while", () => {
  const pool = poolOf(equalWorkers(4, { pendingPrefillTokens: 10 }))
  const placement = bucketed.make({ longTokens: LONG, window: 1000 }, makeRng(1))
  placement.placed!(prompt(LONG), 0, pool, 0)
  placement.placed!(prompt(LONG), 0, pool, 5000)
  for (let i = 0; i < LONG / SHORT; i++) placement.placed!(prompt(SHORT), 0, pool, 5000)
  expect(reached(placement, pool, LONG, 4)).toHaveLength(2)
})

// One prompt in a hundred is a hundred times as long as the others, and half of all work.
test("short prompts wait a third of what they do without lanes, at 80 % load", () => {
  const shortWaitMs = (name: string): number => {
    const served = serve(findPlacement(name), {
      workers: 10,
      load: 0.8,
      arrivals: 40_000,
      promptTokens: (rng) => (rng.next() < 0.01 ? 50_000 : 500),
      promptTokensMean: 0.01 * 50_000 + 0.99 * 500
    })
    return waitMsMean(served.filter(({ promptTokens }) => promptTokens === 500))
  }
  expect(shortWaitMs("bucketed")).toBeLessThan(shortWaitMs("least-work") / 3)
})

test("a copy that is told of as of when it was sent leaves the lanes as they are", () => {
  const pool = poolOf(equalWorkers(4))
  const placement = bucketed.make({ window: 1 }, makeRng(1))
  placement.placed?.(prompt(SHORT), 0, pool, 10_000)
  placement.placed?.(prompt(SHORT), 1, pool, 5_000)
  for (const nowMs of [10_000, 20_000]) {
    placement.placed?.(prompt(SHORT), 2, pool, nowMs)
    expect(placement.pick(prompt(SHORT), pool, nowMs)).toBeGreaterThanOrEqual(0)
  }
})
