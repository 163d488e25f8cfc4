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
  equalWorkers,
  oneRequest,
  poolOf
} from "../../support/pools.ts"

interface Options {
  readonly threshold: number
  readonly kvBytesPerToken: number
  readonly bandwidth: number
  readonly externality: number
}

type Subject = (options: Options) => Pick<Placement, "pick" | "decodeOn">

const entry = findPlacement("disaggregated")
const real: Subject = (options) => entry.make({ ...options }, makeRng(1))

type RoleName = "both" | "prefill" | "decode"

/** Workers that do both, workers that only read and workers that only answer, of any number each. */
const workers = candidates({ maxLength: 9 }).chain((rows) =>
  fc
    .array(fc.constantFrom<RoleName>("both", "prefill", "decode"), {
      minLength: rows.length,
      maxLength: rows.length
    })
    .map((roles) => rows.map((row, i) => ({ row, role: roles[i]! })))
)

type Workers = ReadonlyArray<{ readonly row: Candidate; readonly role: RoleName }>

/** A pool of workers with roles; a row's `eligible` says whether its worker takes work. */
const rolesPool = (all: Workers): PoolView => {
  const pool = poolOf(all.map(({ row, role }) => ({ ...row, eligible: row.eligible && role === "both" })))
  const slotsOf = (role: RoleName): Int32Array =>
    Int32Array.from([...all.keys()].filter((slot) => all[slot]!.role === role && all[slot]!.row.eligible))
  const prefill = slotsOf("prefill")
  const decode = slotsOf("decode")
  return { ...pool, prefill, prefillCount: prefill.length, decode, decodeCount: decode.length }
}

const options: fc.Arbitrary<Options> = fc.record({
  threshold: fc.constantFrom(1, 2048, 50_000),
  kvBytesPerToken: fc.constantFrom(1, 131_072, 1_048_576),
  bandwidth: fc.constantFrom(1, 100, 1600),
  externality: fc.constantFrom(0, 0.25, 1)
})

/** What a request costs in ms where it is read and answered, where it is only read, and where it is only answered. */
const costsOf = (one: RequestView, { kvBytesPerToken, bandwidth, externality }: Options) => {
  const { promptTokens: prompt } = one
  const answer = answerOf(one)
  return {
    both: (row: Candidate): number =>
      naive.ttftMs(row, prompt, cachedOf(row, one), answer, 2048, 0) +
      externality * row.inFlight * naive.occupancyMs(row, prompt, cachedOf(row, one), answer),
    prefill: (row: Candidate): number => naive.ttftMs(row, prompt, cachedOf(row, one), 1, 2048, 0),
    decode: (row: Candidate): number =>
      ((prompt - cachedOf(row, one)) * kvBytesPerToken * 8) / (bandwidth * 1e6) +
      naive.roomMs(row, prompt, cachedOf(row, one), answer) +
      externality * row.inFlight * naive.longerMs(row, prompt, answer)
  }
}

/** Half of them are cached almost whole where they are cached at all. */
const prompt = fc.oneof(
  request,
  request.map((one) => ({ ...one, promptTokens: one.chain.count * BLOCK_TOKENS + (one.promptTokens % 512) }))
)

/** Calls `look` with the second of two decisions. */
const deciding = (
  subject: Subject,
  look: (decision: {
    readonly all: Workers
    readonly one: RequestView
    readonly chosen: Options
    readonly pool: PoolView
    readonly picked: number
    readonly decodeOn: number
  }) => void
): void =>
  holds(
    fc.property(workers, fc.tuple(prompt, prompt), options, (all, [before, one], chosen) => {
      const placement = subject(chosen)
      const pool = rolesPool(all)
      placement.pick(before, pool, 0)
      placement.decodeOn!()
      const picked = placement.pick(one, pool, 0)
      look({ all, one, chosen, pool, picked, decodeOn: placement.decodeOn!() })
    })
  )

const laws = [
  {
    id: "split-roles",
    check: (subject: Subject) =>
      deciding(subject, ({ pool, picked, decodeOn }) => {
        const { eligible, eligibleCount, prefill, decode } = pool
        const canSplit = prefill.length > 0 && decode.length > 0
        if (decodeOn >= 0) {
          expect([...prefill]).toContain(picked)
          expect([...decode]).toContain(decodeOn)
        } else if (eligibleCount > 0) expect([...eligible.subarray(0, eligibleCount)]).toContain(picked)
        else {
          expect(picked).toBe(-1)
          expect(canSplit).toBe(false)
        }
      })
  },
  {
    id: "split-short",
    check: (subject: Subject) =>
      deciding(subject, ({ all, one, chosen, pool, decodeOn }) => {
        const local = [...pool.eligible.subarray(0, pool.eligibleCount)].map((slot) => all[slot]!.row)
        if (local.length === 0) return
        const missing = Math.max(...local.map((row) => one.promptTokens - cachedOf(row, one)))
        if (missing < chosen.threshold) expect(decodeOn).toBe(-1)
      })
  },
  {
    id: "split-sooner",
    check: (subject: Subject) =>
      deciding(subject, ({ all, one, chosen, picked, decodeOn }) => {
        const costs = costsOf(one, chosen)
        const rows = (role: RoleName): ReadonlyArray<Candidate> =>
          all.flatMap((each) => (each.role === role && each.row.eligible ? [each.row] : []))
        const least = (role: RoleName): number => Math.min(...rows(role).map(costs[role]))
        const split = least("prefill") + least("decode")
        if (decodeOn >= 0) {
          expect(split).toBeLessThanOrEqual(least("both") * (1 + 1e-9))
          const found = costs.prefill(all[picked]!.row) + costs.decode(all[decodeOn]!.row)
          expect(found).toBeLessThanOrEqual(split * (1 + 1e-9))
        } else if (picked >= 0) {
          const found = costs.both(all[picked]!.row)
          expect(found).toBeLessThanOrEqual(least("both") * (1 + 1e-9))
          const missing = one.promptTokens - cachedOf(all[picked]!.row, one)
          if (missing >= chosen.threshold) expect(found).toBeLessThanOrEqual(split * (1 + 1e-9))
        }
      })
  },
  {
    id: "split-link",
    check: (subject: Subject) =>
      deciding(subject, ({ one, chosen, pool, decodeOn }) => {
        if (decodeOn >= 0 || pool.eligibleCount === 0) return
        const slower = subject({ ...chosen, bandwidth: chosen.bandwidth / 4 })
        slower.pick(one, pool, 0)
        expect(slower.decodeOn!()).toBe(-1)
      })
  }
]

const wrapped =
  (change: (options: Options) => Options): Subject =>
  (given) =>
    real(change(given))

/** Splits whatever there are workers for. */
const eager = (given: Options): Options => ({
  ...given,
  threshold: 1,
  kvBytesPerToken: 1,
  bandwidth: 1_000_000
})

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "asks nobody how much is cached",
    "split-short",
    (given) => {
      const placement = real({ ...given, threshold: 1 })
      let split = false
      return {
        pick: (one, pool, nowMs) => {
          const isLong = one.promptTokens >= given.threshold
          split = isLong || pool.eligibleCount === 0
          return placement.pick(one, split ? pool : { ...pool, prefillCount: 0 }, nowMs)
        },
        decodeOn: () => placement.decodeOn!()
      }
    }
  ],
  [
    "hands over for nothing",
    "split-sooner",
    wrapped((given) => ({ ...eager(given), threshold: given.threshold }))
  ],
  [
    "takes bits for bytes",
    "split-sooner",
    wrapped((given) => ({ ...given, bandwidth: given.bandwidth / 8 }))
  ],
  [
    "stays with the decode worker of the request before",
    "split-roles",
    (given) => {
      const placement = real(given)
      let last = -1
      return {
        pick: placement.pick,
        decodeOn: () => {
          const found = placement.decodeOn!()
          if (found >= 0) last = found
          return last
        }
      }
    }
  ],
  [
    "splits where nobody answers",
    "split-roles",
    (given) => {
      const placement = real(given)
      return {
        pick: (one, pool, nowMs) => {
          const picked = placement.pick(one, pool, nowMs)
          return picked < 0 && pool.prefillCount > 0 ? pool.prefill[0]! : picked
        },
        decodeOn: () => placement.decodeOn!()
      }
    }
  ],
  [
    "answers on any decode worker",
    "split-sooner",
    (given) => {
      const placement = real(given)
      let pool: PoolView
      return {
        pick: (one, view, nowMs) => placement.pick(one, (pool = view), nowMs),
        decodeOn: () => (placement.decodeOn!() < 0 ? -1 : pool.decode[0]!)
      }
    }
  ],
  [
    "splits more over a slower link",
    "split-link",
    wrapped((given) => ({ ...given, bandwidth: 1600 / given.bandwidth }))
  ]
]

describe("disaggregated", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

describe("8192 tokens of 256 KiB over 100 Gbit/s", () => {
  const chosen: Options = { threshold: 2048, kvBytesPerToken: 262_144, bandwidth: 100, externality: 0 }
  const one = {
    ...oneRequest,
    promptTokens: 8192,
    chain: chainOf(Array.from({ length: 32 }, (_, i) => i + 1))
  }
  const [both, reader, writer] = equalWorkers(3, { inFlight: 0, baseMs: 2 ** -20 })
  const pool = (waitingMs: number, cachedTokens = 0): PoolView =>
    rolesPool([
      { row: { ...both!, pendingPrefillTokens: waitingMs * 32, cachedTokens }, role: "both" },
      { row: reader!, role: "prefill" },
      { row: writer!, role: "decode" }
    ])

  test("take 172 ms", () => {
    const terms = entry.make({ ...chosen }, makeRng(1)).terms!(one, 1, pool(0), 0)
    expect(terms["handOver"]).toBeCloseTo(0.1718, 4)
  })

  test.each([
    [171, 0, -1],
    [173, 0, 2],
    [10_000, 6144, 2],
    [10_000, 6400, -1]
  ])("behind %d ms of others, %d tokens cached: decodes on worker %d", (waitingMs, cachedTokens, worker) => {
    const placement = real(chosen)
    placement.pick(one, pool(waitingMs, cachedTokens), 0)
    expect(placement.decodeOn!()).toBe(worker)
  })
})
