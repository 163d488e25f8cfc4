import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { sharedBlocks } from "../../../src/structures/RadixOrder.ts"
import { makeRng, type Rng } from "../../../src/structures/Rng.ts"
import { candidates, holds, request } from "../../support/arbitraries.ts"
import { evennessRatio } from "../../support/chiSquare.ts"
import { cachedOf, tieScore } from "../../support/naiveCosts.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import {
  BLOCK_TOKENS,
  type Candidate,
  chainOf,
  equalWorkers,
  oneRequest,
  poolOf
} from "../../support/pools.ts"

type Form = "plain" | "lpt" | "radix"

interface Options {
  readonly form: Form
  readonly headShare: number
}

type Subject = (options: Options, rng: Rng) => Pick<Placement, "pick" | "pickBatch">

const entry = findPlacement("prefix-scan")
const real: Subject = (options, rng) => entry.make({ ...options }, rng)

const options: fc.Arbitrary<Options> = fc.record({
  form: fc.constantFrom<Form>("plain", "lpt", "radix"),
  headShare: fc.constantFrom(0, 0.25, 1)
})

const eligible = candidates({ minLength: 1, maxLength: 6 }).map((rows) =>
  rows.map((row) => ({ ...row, eligible: true }))
)

/** Slots of the workers of a batch. */
const placedBy = (
  subject: Subject,
  chosen: Options,
  requests: ReadonlyArray<RequestView>,
  pool: PoolView,
  seed = 1
): ReadonlyArray<number> => {
  const picked = new Int32Array(requests.length).fill(-2)
  subject(chosen, makeRng(seed)).pickBatch!(requests, pool, 0, picked)
  return [...picked]
}

/** Requests of so many tokens that share nothing. */
const unlike = (tokens: ReadonlyArray<number>): ReadonlyArray<RequestView> =>
  tokens.map((promptTokens, i) => ({ ...oneRequest, idLow: i, slot: i, promptTokens }))

const tokens = fc.array(fc.oneof(fc.nat(20), fc.nat(3000)), { minLength: 2, maxLength: 24 })

/** Requests whose chains fork where others end: paths in a tree of few blocks. */
const forks = fc.array(fc.array(fc.nat(2), { maxLength: 6 }), { minLength: 2, maxLength: 24 }).map((paths) =>
  paths.map((path, i) => {
    const blocks = path.map((_, depth) =>
      path.slice(0, depth + 1).reduce((sum, edge) => sum * 4 + edge + 1, 0)
    )
    return {
      ...oneRequest,
      idLow: i,
      slot: i,
      chain: chainOf(blocks),
      promptTokens: blocks.length * BLOCK_TOKENS + 1 + (i % 7) * 30
    }
  })
)

const sum = (values: ReadonlyArray<number>): number => values.reduce((total, each) => total + each, 0)

/** Tokens each of `count` workers computes when every prefix is computed once on each. */
const computed = (
  requests: ReadonlyArray<RequestView>,
  placed: ReadonlyArray<number>,
  count: number
): ReadonlyArray<number> =>
  Array.from({ length: count }, (_, slot) => {
    const own = requests.filter((_one, i) => placed[i] === slot)
    return sum(
      own.map((one, i) => {
        const shared = Math.max(0, ...own.slice(0, i).map((before) => sharedBlocks(before.chain, one.chain)))
        return one.promptTokens - shared * BLOCK_TOKENS
      })
    )
  })

/** The level to which `total` more tokens fill workers, in ms, by bisection. */
const levelOf = (rows: ReadonlyArray<Candidate>, total: number): number => {
  let low = 0
  let high = 2 ** 40
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2
    const poured = sum(rows.map((row) => Math.max(0, middle / row.prefillTokenMs - row.pendingPrefillTokens)))
    if (poured < total) low = middle
    else high = middle
  }
  return high
}

const laws = [
  {
    // The first of a batch are placed, as many as there is room for, and no worker gets more than it has room for.
    id: "scan-room",
    check: (subject: Subject) =>
      holds(
        fc.property(
          candidates({ maxLength: 6 }),
          fc.array(request, { minLength: 2, maxLength: 24 }),
          options,
          fc.nat(),
          (found, requests, chosen, seed) => {
            const rows = found.map((row, i) => ({ ...row, capacity: row.inFlight + 1 + (i % 3) }))
            const placed = placedBy(subject, chosen, requests, poolOf(rows), seed)
            const room = sum(rows.map((row) => (row.eligible ? row.capacity - row.inFlight : 0)))
            for (const [i, slot] of placed.entries()) expect(rows[slot]?.eligible ?? false).toBe(i < room)
            for (const [slot, row] of rows.entries()) {
              const got = placed.filter((each) => each === slot).length
              expect(got).toBeLessThanOrEqual(row.capacity - row.inFlight)
            }
            for (const slot of placed.slice(room)) expect(slot).toBe(-1)
          }
        )
      )
  },
  {
    id: "scan-level",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, tokens, fc.constantFrom<Form>("plain", "radix"), (found, sizes, form) => {
          const rows = found.map((row, i) => ({
            ...row,
            capacity: 1000,
            pendingPrefillTokens: row.pendingPrefillTokens % 4000,
            prefillTokenMs: 2 ** -(i % 3)
          }))
          const placed = placedBy(subject, { form, headShare: 0 }, unlike(sizes), poolOf(rows))
          const level = levelOf(rows, sum(sizes))
          for (const [slot, row] of rows.entries()) {
            const load = sum(sizes.filter((_, i) => placed[i] === slot))
            if (load === 0) continue
            const finish = (row.pendingPrefillTokens + load) * row.prefillTokenMs
            expect(finish).toBeLessThanOrEqual(level + Math.max(...sizes) * row.prefillTokenMs + 1e-6)
          }
        })
      )
  },
  {
    id: "scan-lpt",
    check: (subject: Subject) =>
      holds(
        fc.property(tokens, fc.integer({ min: 1, max: 6 }), (sizes, count) => {
          const pool = poolOf(equalWorkers(count, { capacity: 1000 }))
          const placed = placedBy(subject, { form: "lpt", headShare: 0 }, unlike(sizes), pool)
          const loads = Array.from({ length: count }, (_, slot) =>
            sum(sizes.filter((_size, i) => placed[i] === slot))
          )
          const naive = Array.from({ length: count }, () => 0)
          for (const size of sizes.toSorted((a, b) => b - a))
            naive[naive.indexOf(Math.min(...naive))]! += size
          expect(loads.toSorted((a, b) => a - b)).toEqual(naive.toSorted((a, b) => a - b))
        })
      )
  },
  {
    // Only where one segment ends and the next begins is a prefix computed once more.
    id: "scan-distinct",
    check: (subject: Subject) =>
      holds(
        fc.property(forks, fc.integer({ min: 1, max: 6 }), fc.nat(), (requests, count, seed) => {
          const pool = poolOf(equalWorkers(count, { capacity: 1000 }))
          const placed = placedBy(subject, { form: "radix", headShare: 0 }, requests, pool, seed)
          const distinct = sum(
            computed(
              requests,
              requests.map(() => 0),
              1
            )
          )
          const longest = Math.max(...requests.map((one) => one.chain.count)) * BLOCK_TOKENS
          expect(sum(computed(requests, placed, count))).toBeLessThanOrEqual(distinct + (count - 1) * longest)
        })
      )
  },
  {
    // As many requests of each of some prefixes as workers, each of which holds one of these.
    id: "scan-exchange",
    check: (subject: Subject) =>
      holds(
        fc.property(
          fc.integer({ min: 1, max: 6 }),
          fc.integer({ min: 2, max: 5 }),
          fc.constantFrom<Form>("plain", "radix"),
          fc.nat(),
          (count, each, form, seed) => {
            const requests = Array.from({ length: count * each }, (_, i) => {
              const group = Math.floor(i / each)
              const chain = chainOf([group * 10 + 1, group * 10 + 2])
              return { ...oneRequest, idLow: i, slot: i, chain, promptTokens: 600 }
            })
            const holding = (one: RequestView, slot: number): boolean =>
              sharedBlocks(one.chain, chainOf([slot * 10 + 1])) > 0
            const pool: PoolView = {
              ...poolOf(equalWorkers(count)),
              match: (one) => ({
                count: 1,
                workers: Int32Array.from([[...Array(count).keys()].findIndex((slot) => holding(one, slot))]),
                blocks: Int32Array.from([2])
              })
            }
            const placed = placedBy(subject, { form, headShare: 0 }, requests, pool, seed)
            for (const [i, slot] of placed.entries()) expect(holding(requests[i]!, slot)).toBe(true)
          }
        )
      )
  },
  {
    id: "scan-single",
    check: (subject: Subject) =>
      holds(
        fc.property(eligible, request, options, (rows, one, chosen) => {
          const pool = poolOf(rows)
          const finish = (row: Candidate): number =>
            (row.pendingPrefillTokens + one.promptTokens - cachedOf(row, one)) * row.prefillTokenMs
          const least = Math.min(...rows.map(finish))
          const tied = rows.filter((row) => finish(row) === least).map((row) => tieScore(row, one))
          const [slot] = placedBy(subject, chosen, [one], pool)
          expect(subject(chosen, makeRng(9)).pick(one, pool, 0)).toBe(slot!)
          expect(finish(rows[slot!]!)).toBe(least)
          expect(tieScore(rows[slot!]!, one)).toBe(Math.max(...tied))
        })
      )
  },
  {
    id: "scan-slots",
    check: (subject: Subject) =>
      holds(
        fc.property(
          eligible.chain((rows) =>
            fc.tuple(fc.constant(rows), fc.shuffledSubarray([...rows.keys()], { minLength: rows.length }))
          ),
          fc.array(request, { minLength: 2, maxLength: 12 }),
          options,
          ([rows, slots], requests, chosen) => {
            const moved = placedBy(subject, chosen, requests, poolOf(rows, slots))
            const expected = placedBy(subject, chosen, requests, poolOf(rows))
            expect(moved).toEqual(expected.map((row) => slots[row] ?? -1))
          }
        )
      )
  },
  {
    id: "scan-even",
    check: (subject: Subject) => {
      const pool = poolOf(equalWorkers(5))
      for (const form of ["plain", "lpt", "radix"] as const) {
        const placement = subject({ form, headShare: 0.25 }, makeRng(3))
        const counts = Array.from({ length: 5 }, () => 0)
        const picked = new Int32Array(2)
        for (let i = 0; i < 2500; i++) {
          placement.pickBatch!(unlike([100, 300]), pool, 0, picked)
          // The longer one is counted; both together would even out a preference.
          counts[picked[1]!]!++
        }
        expect(evennessRatio(counts)).toBeLessThan(1)
      }
    }
  }
]

const nobodyHolds = (pool: PoolView): PoolView => ({
  ...pool,
  match: () => ({ count: 0, workers: new Int32Array(0), blocks: new Int32Array(0) })
})

/** The policy with something else for a batch. */
const batched =
  (
    pickBatch: (given: Pick<Placement, "pick" | "pickBatch">) => NonNullable<Placement["pickBatch"]>
  ): Subject =>
  (chosen, rng) => {
    const placement = real(chosen, rng)
    return { ...placement, pickBatch: pickBatch(placement) }
  }

const inForm =
  (form: Form): Subject =>
  (chosen, rng) =>
    real({ ...chosen, form }, rng)

/** Always the first of those there are to draw from. */
const rigged: Rng = { next: () => 0, int: () => 0, split: () => rigged }

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "looks at no capacity",
    "scan-room",
    batched(
      ({ pickBatch }) =>
        (requests, pool, nowMs, picked) =>
          pickBatch!(
            requests,
            { ...pool, workers: { ...pool.workers, capacity: pool.workers.capacity.map(() => 1000) } },
            nowMs,
            picked
          )
    )
  ],
  [
    "leaves the first of a batch queued",
    "scan-room",
    batched(({ pickBatch }) => (requests, pool, nowMs, picked) => {
      pickBatch!(requests.toReversed(), pool, nowMs, picked)
      picked.reverse()
    })
  ],
  [
    "pours on what is pending already",
    "scan-level",
    batched(
      ({ pickBatch }) =>
        (requests, pool, nowMs, picked) =>
          pickBatch!(
            requests,
            {
              ...pool,
              workers: {
                ...pool.workers,
                pendingPrefillTokens: pool.workers.pendingPrefillTokens.map(() => 0)
              }
            },
            nowMs,
            picked
          )
    )
  ],
  [
    "takes all workers for equally fast",
    "scan-level",
    batched(
      ({ pickBatch }) =>
        (requests, pool, nowMs, picked) =>
          pickBatch!(
            requests,
            {
              ...pool,
              workers: { ...pool.workers, prefillTokenMs: pool.workers.prefillTokenMs.map(() => 1) }
            },
            nowMs,
            picked
          )
    )
  ],
  ["scans the long ones too", "scan-lpt", inForm("plain")],
  ["scans in the order of the queue", "scan-distinct", inForm("plain")],
  [
    "gives segments to whoever is next",
    "scan-exchange",
    batched(
      ({ pickBatch }) =>
        (requests, pool, nowMs, picked) =>
          pickBatch!(requests, nobodyHolds(pool), nowMs, picked)
    )
  ],
  [
    "scans a batch of one",
    "scan-single",
    batched(({ pickBatch }) => (requests, pool, nowMs, picked) => {
      const two = new Int32Array(2)
      pickBatch!([requests[0]!, { ...oneRequest, promptTokens: 0 }], pool, nowMs, two)
      picked[0] = two[0]!
    })
  ],
  [
    "deals out in the order of slots",
    "scan-slots",
    batched(
      ({ pickBatch }) =>
        (requests, pool, nowMs, picked) =>
          pickBatch!(requests, { ...pool, eligible: pool.eligible.toSorted((a, b) => a - b) }, nowMs, picked)
    )
  ],
  ["deals out in one order", "scan-even", (chosen) => real(chosen, rigged)]
]

describe("prefix-scan", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

describe("128 prompts of 12 prefixes on 8 workers: tokens computed, over the least possible", () => {
  const rng = makeRng(4)
  const lengths = Array.from({ length: 12 }, () => 4 + rng.int(30))
  const prefixes = Array.from({ length: 128 }, () => rng.int(12))
  const requests = prefixes.map((prefix, i) => {
    const chain = chainOf(Array.from({ length: lengths[prefix]! }, (_, depth) => prefix * 100 + depth))
    const promptTokens = chain.count * BLOCK_TOKENS + 1 + rng.int(500)
    return { ...oneRequest, idLow: i, slot: i, chain, promptTokens }
  })

  /** By prefix, the workers that hold it: nobody, or one each. */
  const holdersOf = (held: boolean): ReadonlyArray<Set<number>> =>
    lengths.map((_, prefix) => new Set(held ? [prefix % 8] : []))

  /** Tokens that a request takes on a worker, which holds its prefix from then on. */
  const compute = (i: number, slot: number, holders: ReadonlyArray<Set<number>>): number => {
    const { chain, promptTokens } = requests[i]!
    const isHeld = holders[prefixes[i]!]!.has(slot)
    holders[prefixes[i]!]!.add(slot)
    return promptTokens - (isHeld ? chain.count * BLOCK_TOKENS : 0)
  }

  const poolWith = (holders: ReadonlyArray<Set<number>>): PoolView => {
    const slotsOf = ({ slot }: RequestView): ReadonlyArray<number> => [...holders[prefixes[slot]!]!]
    return {
      ...poolOf(equalWorkers(8, { inFlight: 0, capacity: 1000 })),
      match: (one) => ({
        count: slotsOf(one).length,
        workers: Int32Array.from(slotsOf(one)),
        blocks: Int32Array.from(slotsOf(one), () => one.chain.count)
      }),
      cachedTokens: (one) => {
        const column = new Float64Array(8)
        for (const slot of slotsOf(one)) column[slot] = one.chain.count * BLOCK_TOKENS
        return column
      }
    }
  }

  const least = (held: boolean): number => {
    const holders = holdersOf(held)
    return sum(requests.map((_, i) => compute(i, prefixes[i]! % 8, holders)))
  }

  const together = (form: Form, held: boolean): number => {
    const placed = placedBy(real, { form, headShare: 0.25 }, requests, poolWith(holdersOf(held)))
    const holders = holdersOf(held)
    return sum(placed.map((slot, i) => compute(i, slot, holders))) / least(held)
  }

  const oneByOne = (held: boolean): number => {
    const holders = holdersOf(held)
    const pool = poolWith(holders)
    const placement = real({ form: "plain", headShare: 0 }, makeRng(1))
    const tokens = requests.map((one, i) => {
      const slot = placement.pick(one, pool, 0)
      const uncached = compute(i, slot, holders)
      pool.workers.pendingPrefillTokens[slot]! += uncached
      return uncached
    })
    return sum(tokens) / least(held)
  }

  test("together in radix order is best where nobody holds a prefix", () => {
    expect(together("radix", false)).toBeLessThan(1.3)
    expect(oneByOne(false)).toBeGreaterThan(together("radix", false))
    expect(together("plain", false)).toBeGreaterThan(4)
  })

  test("one by one is best where each prefix is held", () => {
    expect(oneByOne(true)).toBeLessThan(1.1)
    expect(together("radix", true)).toBeGreaterThan(oneByOne(true))
    expect(together("plain", true)).toBeGreaterThan(2 * together("radix", true))
  })
})
