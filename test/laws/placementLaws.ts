import * as fc from "fast-check"
import { expect } from "bun:test"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Placement, PlacementFacts } from "../../src/policies/Placement.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { candidates, holds, request, type Scenario, scenario } from "../support/arbitraries.ts"
import { evennessRatio } from "../support/chiSquare.ts"
import { type Candidate, equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

/** What a law needs to know of a policy: its registry entry, or a planted defect that claims the same. */
export interface Subject extends Pick<PlacementFacts, "family" | "cost"> {
  readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Placement
}

/** A statement about every placement policy, or about those of some families. `check` throws where it does not hold. */
export interface PlacementLaw {
  readonly id: string
  readonly statement: string
  readonly families?: ReadonlyArray<PlacementFacts["family"]>
  readonly check: (subject: Subject) => void
}

/** Starts a policy with a seed and returns its picks for the requests in turn, each at its arrival. */
const picksOf = (
  { make }: Subject,
  seed: number,
  pool: PoolView,
  requests: ReadonlyArray<RequestView>
): Array<number> => {
  const placement = make({}, makeRng(seed))
  return requests.map((one) => placement.pick(one, pool, one.arrivedMs))
}

/** The worker picked for the last request of a scenario, as an index into `workers`. */
const lastPick = (
  subject: Subject,
  { seed, requests }: Scenario,
  workers: ReadonlyArray<Candidate>
): number => picksOf(subject, seed, poolOf(workers), requests).at(-1)!

const numbered = (one: RequestView, number: number): RequestView => ({
  ...one,
  idHigh: 0,
  idLow: number
})

const withSession = fc
  .tuple(request, fc.integer({ min: 1, max: 0xffffffff }))
  .map(([one, sessionLow]) => ({ ...one, sessionLow }))

/** Values at the ends of their ranges; ratios of them overflow and underflow. */
const extreme = fc
  .tuple(
    candidates({ minLength: 1 }),
    fc.array(
      fc.record({
        inFlight: fc.constantFrom(0, 1, 2 ** 31 - 1),
        capacity: fc.constantFrom(0, 1, 2 ** 31 - 1),
        speed: fc.constantFrom(Number.MIN_VALUE, 1e-9, 1, 1e9, Number.MAX_VALUE),
        pendingPromptTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        running: fc.constantFrom(0, 2 ** 31 - 1),
        waiting: fc.constantFrom(0, 2 ** 31 - 1),
        kvUsedTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        kvCapacityTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER)
      }),
      { minLength: 12, maxLength: 12 }
    )
  )
  .map(([rows, ends]) => rows.map((row, i) => ({ ...row, ...ends[i]! })))

const expectEligible = (pool: PoolView, picked: number): void =>
  expect(pool.eligibleCount === 0 ? [-1] : [...pool.eligible.subarray(0, pool.eligibleCount)]).toContain(
    picked
  )

/** Array elements that a policy reads to decide on `count` workers, the most of 200 decisions. A method reads them all. */
const readsMax = ({ make }: Subject, count: number): number => {
  let reads = 0
  const counted = <A extends object & { readonly length: number }>(array: A): A =>
    new Proxy(array, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name)
        reads += typeof value === "function" ? target.length : 1
        return typeof value === "function" ? (value.bind(target) as unknown) : value
      }
    })
  const pool = poolOf(equalWorkers(count))
  const columns = Object.entries(pool.workers).map(([name, column]) => [name, counted(column)])
  const view = {
    ...pool,
    workers: Object.fromEntries(columns) as PoolView["workers"],
    eligible: counted(pool.eligible)
  }
  const placement = make({}, makeRng(1))
  let most = 0
  for (let number = 0; number < 200; number++) {
    reads = 0
    placement.pick({ ...numbered(oneRequest, number), sessionLow: number % 2 }, view, number)
    most = Math.max(most, reads)
  }
  return most
}

export const placementLaws: ReadonlyArray<PlacementLaw> = [
  {
    id: "placement-eligible",
    statement: "picks an eligible worker, or -1 exactly when there is none",
    check: (subject) =>
      holds(
        fc.property(scenario, ({ seed, workers, requests }) => {
          const pool = poolOf(workers)
          for (const picked of picksOf(subject, seed, pool, requests)) expectEligible(pool, picked)
        })
      )
  },
  {
    id: "placement-finite",
    statement:
      "picks an eligible worker at the ends of every range too: no cost is NaN or beats all others by overflow",
    check: (subject) =>
      holds(
        fc.property(
          fc.nat(),
          extreme,
          fc.array(request, { minLength: 4, maxLength: 4 }),
          (seed, workers, requests) => {
            const pool = poolOf(workers)
            for (const picked of picksOf(subject, seed, pool, requests)) expectEligible(pool, picked)
          }
        )
      )
  },
  {
    id: "placement-reads-only",
    statement: "changes nothing in what it reads",
    check: (subject) =>
      holds(
        fc.property(scenario, ({ seed, workers, requests }) => {
          const pool = poolOf(workers)
          picksOf(
            subject,
            seed,
            pool,
            requests.map((one) => Object.freeze({ ...one }))
          )
          expect(pool).toEqual(poolOf(workers))
        })
      )
  },
  {
    id: "placement-deterministic",
    statement: "the same seed, requests and pool give the same picks",
    check: (subject) =>
      holds(
        fc.property(scenario, ({ seed, workers, requests }) => {
          const pool = poolOf(workers)
          expect(picksOf(subject, seed, pool, requests)).toEqual(picksOf(subject, seed, pool, requests))
        })
      )
  },
  {
    id: "placement-equivariant",
    statement: "giving the workers other slots gives the same workers: slots mean nothing",
    check: (subject) =>
      holds(
        fc.property(
          scenario.chain((one) =>
            fc.tuple(
              fc.constant(one),
              fc.shuffledSubarray([...one.workers.keys()], { minLength: one.workers.length })
            )
          ),
          ([{ seed, workers, requests }, slots]) => {
            const moved = picksOf(subject, seed, poolOf(workers, slots), requests)
            const expected = picksOf(subject, seed, poolOf(workers), requests).map(
              (index) => slots[index] ?? -1
            )
            expect(moved).toEqual(expected)
          }
        )
      )
  },
  {
    id: "placement-monotone",
    statement: "more load elsewhere, or less on the picked worker, leaves the pick as it is",
    check: (subject) =>
      holds(
        fc.property(scenario, fc.integer({ min: 1, max: 5 }), (one, change) => {
          const picked = lastPick(subject, one, one.workers)
          fc.pre(picked >= 0)
          const last = one.requests.at(-1)!
          const pool = poolOf(one.workers)
          for (const [i, { inFlight }] of one.workers.entries()) {
            // Only the last decision sees the change: the earlier ones make the memory it decides with.
            const placement = subject.make({}, makeRng(one.seed))
            for (const before of one.requests.slice(0, -1)) placement.pick(before, pool, before.arrivedMs)
            pool.workers.inFlight[i] = i === picked ? Math.max(0, inFlight - change) : inFlight + change
            expect(placement.pick(last, pool, last.arrivedMs)).toBe(picked)
            pool.workers.inFlight[i] = inFlight
          }
        })
      )
  },
  {
    id: "placement-dominance",
    statement: "never picks a worker that is worse in every signal than another eligible one",
    families: ["argmin"],
    check: (subject) =>
      holds(
        fc.property(scenario, (one) => {
          const picked = one.workers[lastPick(subject, one, one.workers)]
          fc.pre(picked !== undefined)
          const better = one.workers.filter(
            (worker) =>
              worker.eligible &&
              worker.inFlight < picked.inFlight &&
              worker.speed > picked.speed &&
              worker.pendingPromptTokens < picked.pendingPromptTokens &&
              worker.running < picked.running &&
              worker.waiting < picked.waiting
          )
          expect(better).toEqual([])
        })
      )
  },
  {
    id: "placement-units",
    statement: "scaling every time, or every speed, by one factor changes no pick",
    check: (subject) =>
      holds(
        fc.property(
          scenario,
          fc.constantFrom(1 / 1024, 0.25, 2, 1000),
          fc.constantFrom(0.25, 1, 8),
          (one, time, speed) => {
            const scaled = one.workers.map((worker) => ({
              ...worker,
              observedAtMs: worker.observedAtMs * time,
              speed: worker.speed * speed
            }))
            const requests = one.requests.map((each) => ({
              ...each,
              arrivedMs: each.arrivedMs * time,
              deadlineMs: each.deadlineMs * time
            }))
            expect(picksOf(subject, one.seed, poolOf(scaled), requests)).toEqual(
              picksOf(subject, one.seed, poolOf(one.workers), one.requests)
            )
          }
        )
      )
  },
  {
    id: "placement-even",
    statement: "workers that differ in their keys alone get equal shares (χ² at 10⁻⁶, seeds fixed)",
    check: (subject) => {
      for (const count of [2, 3, 5, 16]) {
        const pool = poolOf(equalWorkers(count))
        for (const sessions of [false, true]) {
          const counts = Array.from({ length: count }, () => 0)
          const requests = Array.from({ length: 1000 * count }, (_, number) => {
            const { high, low } = hash64(`session-${number}`)
            const session = sessions ? { sessionHigh: high, sessionLow: low } : {}
            return { ...numbered(oneRequest, number), ...session }
          })
          for (const picked of picksOf(subject, 7, pool, requests)) counts[picked]!++
          expect(evennessRatio(counts)).toBeLessThan(1)
        }
      }
    }
  },
  {
    id: "placement-bounded-work",
    statement: "the number of values it reads grows with the workers as its cost says",
    check: (subject) => {
      const few = readsMax(subject, 16)
      const many = readsMax(subject, 4096)
      const growth = { "O(1)": 1, "O(log N)": 12 / 4, "O(N)": 4096 / 16 }[subject.cost]
      // A binary search may read one element more than its logarithm.
      expect(many).toBeLessThanOrEqual(few * growth + (subject.cost === "O(log N)" ? few : 0))
    }
  },
  {
    id: "placement-no-herd",
    statement: "a burst that is charged as it is placed spreads over equal workers within one request",
    families: ["argmin", "rotating"],
    check: (subject) =>
      holds(
        fc.property(fc.nat(), fc.integer({ min: 1, max: 12 }), fc.nat(60), (seed, count, burst) => {
          const pool = poolOf(equalWorkers(count, { inFlight: 0 }))
          const placement = subject.make({}, makeRng(seed))
          for (let number = 0; number < burst; number++)
            pool.workers.inFlight[placement.pick(numbered(oneRequest, number), pool, 0)]!++
          expect(Math.max(...pool.workers.inFlight) - Math.min(...pool.workers.inFlight)).toBeLessThanOrEqual(
            1
          )
        })
      )
  },
  {
    id: "placement-turns",
    statement:
      "of two workers that stay eligible, each is picked once between two picks of the other, whoever comes and goes",
    families: ["rotating"],
    check: (subject) =>
      holds(
        fc.property(
          fc.nat(),
          candidates({ minLength: 2 }),
          fc.array(fc.nat(4095), { minLength: 1, maxLength: 60 }),
          (seed, workers, masks) => {
            const placement = subject.make({}, makeRng(seed))
            const picks = masks.map((mask) => {
              const present = workers.map((worker, i) => ({
                ...worker,
                eligible: i < 2 || ((mask >> i) & 1) === 1
              }))
              return placement.pick(oneRequest, poolOf(present), 0)
            })
            const ofTheTwo = picks.filter((picked) => picked < 2)
            for (const [i, picked] of ofTheTwo.entries()) expect(picked).not.toBe(ofTheTwo[i + 1])
          }
        )
      )
  },
  {
    id: "placement-sticky",
    statement:
      "a session's worker depends on its key and the eligible workers alone: not on load, seed, time or what came before",
    families: ["sticky"],
    check: (subject) =>
      holds(
        fc.property(scenario, scenario, withSession, (one, two, session) => {
          const other = one.workers.map(({ keyHigh, keyLow, eligible }, i) => ({
            ...(two.workers[i] ?? one.workers[i]!),
            keyHigh,
            keyLow,
            eligible
          }))
          const first = lastPick(subject, { ...one, requests: [...one.requests, session] }, one.workers)
          const second = lastPick(subject, { ...two, requests: [...two.requests, session] }, other)
          expect(second).toBe(first)
        })
      )
  },
  {
    id: "placement-least-disruption",
    statement:
      "a worker that leaves moves its own sessions only, and takes back the same ones when it returns",
    families: ["sticky"],
    check: (subject) =>
      holds(
        fc.property(
          fc.nat(),
          candidates({ minLength: 2 }),
          fc.nat(),
          fc.array(withSession, { minLength: 1 }),
          (seed, workers, which, sessions) => {
            const leaver = which % workers.length
            const all = workers.map((worker) => ({ ...worker, eligible: true }))
            const left = all.map((worker, i) => ({ ...worker, eligible: i !== leaver }))
            const before = picksOf(subject, seed, poolOf(all), sessions)
            const after = picksOf(subject, seed, poolOf(left), sessions)
            for (const [i, home] of before.entries()) if (home !== leaver) expect(after[i]).toBe(home)
          }
        )
      )
  }
]
