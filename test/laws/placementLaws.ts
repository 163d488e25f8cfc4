import * as fc from "fast-check"
import { expect } from "bun:test"
import type { PoolView, WorkerColumns } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Placement, PlacementFacts } from "../../src/policies/Placement.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { candidates, holds, request, type Scenario, scenario, shared } from "../support/arbitraries.ts"
import { evennessRatio } from "../support/chiSquare.ts"
import { type Candidate, charge, equalWorkers, oneRequest, poolOf } from "../support/pools.ts"
import { life, optionsInUnits, PlacementLife, type Subject, told, touch } from "./placementLife.ts"

/** A statement about every placement policy, or about some of them. `check` throws where it does not hold. */
export interface PlacementLaw {
  readonly id: string
  readonly statement: string
  readonly families?: ReadonlyArray<PlacementFacts["family"]>
  /** Whether it speaks of policies with these parts; of all when left out. */
  readonly about?: (placement: Placement, subject: Subject) => boolean
  readonly check: (subject: Subject) => void
}

/** The laws that a policy has to keep. */
export const lawsOf = (subject: Subject): ReadonlyArray<PlacementLaw> => {
  const placement = subject.make({}, makeRng(1))
  return placementLaws.filter(
    ({ families, about }) =>
      (families?.includes(subject.family) ?? true) && (about?.(placement, subject) ?? true)
  )
}

/** Starts a policy with a seed and returns its picks for the requests in turn, each at its arrival. */
const picksOf = (
  { make }: Subject,
  seed: number,
  pool: PoolView,
  requests: ReadonlyArray<RequestView>
): Array<number> => {
  const placement = told(make({}, makeRng(seed)), pool)
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

const withoutSessions = Array.from({ length: 16_000 }, (_, number) => numbered(oneRequest, number))

/** The same, each with a session of its own. */
const withSessions = withoutSessions.map((one, number) => {
  const { high, low } = hash64(`session-${number}`)
  return { ...one, sessionHigh: high, sessionLow: low }
})

const withSession = fc
  .tuple(request, fc.integer({ min: 1, max: 0xffffffff }))
  .map(([one, sessionLow]) => ({ ...one, sessionLow }))

const scenarios = shared(scenario)
/** For what shows in most cases, or in each is looked at once for every worker. */
const fewScenarios = shared(scenario, 250)
/** Some twenty events in each. */
const lives = shared(life, 250)

/** Values at the ends of their ranges; ratios of them overflow and underflow. */
const extreme = fc
  .tuple(
    candidates({ minLength: 1 }),
    fc.array(
      fc.record({
        inFlight: fc.constantFrom(0, 1, 2 ** 31 - 1),
        prefilling: fc.constantFrom(0, 1),
        capacity: fc.constantFrom(0, 1, 2 ** 31 - 1),
        speed: fc.constantFrom(Number.MIN_VALUE, 1e-9, 1, 1e9, Number.MAX_VALUE),
        pendingPrefillTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        pendingPrefillAttention: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        contextTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        running: fc.constantFrom(0, 2 ** 31 - 1),
        waiting: fc.constantFrom(0, 2 ** 31 - 1),
        kvUsedTokens: fc.constantFrom(0, Number.MAX_SAFE_INTEGER),
        kvCapacityTokens: fc.constantFrom(0, 1, Number.MAX_SAFE_INTEGER),
        baseMs: fc.constantFrom(1e-9, 1e9),
        prefillTokenMs: fc.constantFrom(1e-9, 1e9),
        prefillAttentionMs: fc.constantFrom(0, 1e9),
        decodeSequenceMs: fc.constantFrom(0, 1e9),
        decodeContextMs: fc.constantFrom(0, 1e9)
      }),
      { minLength: 12, maxLength: 12 }
    )
  )
  .map(([rows, ends]) =>
    rows.map((row, i) => ({
      ...row,
      ...ends[i]!,
      prefilling: Math.min(ends[i]!.prefilling, ends[i]!.inFlight)
    }))
  )

const extremes = shared(
  fc.record({
    seed: fc.nat(),
    workers: extreme,
    requests: fc.array(request, { minLength: 4, maxLength: 4 })
  })
)

/** The numbers below `count` in an order that the seed draws. */
const shuffled = (count: number, seed: number): ReadonlyArray<number> => {
  const rng = makeRng(seed)
  const numbers = Array.from({ length: count }, (_, i) => i)
  for (let i = count - 1; i > 0; i--) {
    const other = rng.int(i + 1)
    ;[numbers[i], numbers[other]] = [numbers[other]!, numbers[i]!]
  }
  return numbers
}

/** Far cheaper than a deep comparison, which is made where it fails. */
const expectSame = (actual: ReadonlyArray<number>, expected: ReadonlyArray<number>): void => {
  if (!isSame(actual, expected)) expect(actual).toEqual(expected)
}

const isSame = (actual: ArrayLike<number>, expected: ArrayLike<number>): boolean => {
  for (let i = 0; i < expected.length; i++) if (!Object.is(actual[i], expected[i])) return false
  return actual.length === expected.length
}

const expectEligible = (pool: PoolView, picked: number): void =>
  expect(pool.eligibleCount === 0 ? [-1] : [...pool.eligible.subarray(0, pool.eligibleCount)]).toContain(
    picked
  )

/** The ways in which a worker has `by` more to do, or less when `by` is negative, as far as there is some. */
const loads: Readonly<Record<string, (workers: WorkerColumns, worker: number, by: number) => void>> = {
  streaming: ({ inFlight, prefilling }, worker, by) => {
    inFlight[worker] = Math.max(prefilling[worker]!, inFlight[worker]! + by)
  },
  unstarted: ({ inFlight, prefilling }, worker, by) => {
    const change = Math.max(by, -prefilling[worker]!)
    inFlight[worker]! += change
    prefilling[worker]! += change
  },
  pending: ({ pendingPrefillTokens, pendingPrefillAttention }, worker, by) => {
    add(pendingPrefillTokens, worker, by * 20_000)
    add(pendingPrefillAttention, worker, by * 2 ** 29)
  },
  context: ({ contextTokens }, worker, by) => add(contextTokens, worker, by * 20_000),
  reported: ({ running, waiting }, worker, by) => {
    add(running, worker, by * 8)
    add(waiting, worker, by * 8)
  },
  kvUsed: ({ kvUsedTokens }, worker, by) => add(kvUsedTokens, worker, by * 20_000)
}

const add = (column: Int32Array | Float64Array, worker: number, by: number): void => {
  column[worker] = Math.max(0, column[worker]! + by)
}

/** The row of a worker that is worse than this one whatever a policy looks at. */
const worse = (row: Candidate): Candidate => ({
  ...row,
  inFlight: row.inFlight + 1,
  prefilling: row.prefilling + 1,
  speed: row.speed / 2,
  pendingPrefillTokens: row.pendingPrefillTokens + 1000,
  pendingPrefillAttention: row.pendingPrefillAttention + 2 ** 20,
  contextTokens: row.contextTokens + 1000,
  running: row.running + 1,
  waiting: row.waiting + 1,
  kvUsedTokens: row.kvUsedTokens + 1000,
  baseMs: row.baseMs * 2,
  prefillTokenMs: row.prefillTokenMs * 2,
  prefillAttentionMs: row.prefillAttentionMs * 2,
  decodeSequenceMs: row.decodeSequenceMs * 2,
  decodeContextMs: row.decodeContextMs * 2,
  cachedTokens: row.cachedTokens / 2
})

/** What a policy picks last, and what it picks in its place once `worker` has more to do, or less if it was the one picked. */
interface UnderLoad {
  readonly picked: number
  readonly worker: number
  readonly after: number
}

/** Calls `look` for every worker of a scenario that one kind of load is put on, or taken from. */
const underLoad = (subject: Subject, cases: typeof scenarios, look: (outcome: UnderLoad) => void): void =>
  cases((one) => {
    const picked = lastPick(subject, one, one.workers)
    if (picked < 0) return
    const load = Object.values(loads)[one.seed % Object.keys(loads).length]!
    const by = 1 + (one.seed % 5)
    const last = one.requests.at(-1)!
    const pool = poolOf(one.workers)
    const columns = Object.values(pool.workers)
    for (const worker of one.workers.keys()) {
      // Only the last decision sees the change: the earlier ones make the memory it decides with.
      const placement = told(subject.make({}, makeRng(one.seed)), pool)
      for (const before of one.requests.slice(0, -1)) placement.pick(before, pool, before.arrivedMs)
      const row = columns.map((column) => column[worker]!)
      load(pool.workers, worker, worker === picked ? -by : by)
      touch(placement, pool, worker)
      look({ picked, worker, after: placement.pick(last, pool, last.arrivedMs) })
      for (const [i, column] of columns.entries()) column[worker] = row[i]!
    }
  })

/** Dice that fall the same way again after each `again`. */
const dice = (seed: number): { readonly rng: Rng; readonly again: () => void } => {
  let current = makeRng(seed)
  const rng: Rng = {
    next: () => current.next(),
    int: (bound) => current.int(bound),
    split: () => rng
  }
  return { rng, again: () => void (current = makeRng(seed)) }
}

const sumOf = (terms: Readonly<Record<string, number>>): number => {
  const sum = Object.values(terms).reduce((total, term) => total + term, 0)
  expect(sum).toBeFinite()
  expect(sum).toBeGreaterThanOrEqual(0)
  return sum
}

/** Decisions whose reads are counted. */
const DECISIONS = 50

/** Array elements that a policy reads to decide on `count` workers, the most of some decisions after the first. A method reads them all. */
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
  const placement = told(make({}, makeRng(1)), pool)
  let most = 0
  for (let number = 0; number <= DECISIONS; number++) {
    reads = 0
    placement.pick({ ...numbered(oneRequest, number), sessionLow: number % 2 }, view, number)
    if (number > 0) most = Math.max(most, reads)
  }
  return most
}

export const placementLaws: ReadonlyArray<PlacementLaw> = [
  {
    id: "placement-eligible",
    statement: "picks an eligible worker, or -1 exactly when there is none",
    check: (subject) =>
      // Through whole lives too, by `placement-events`.
      fewScenarios(({ seed, workers, requests }) => {
        const pool = poolOf(workers)
        for (const picked of picksOf(subject, seed, pool, requests)) expectEligible(pool, picked)
      })
  },
  {
    id: "placement-finite",
    statement:
      "picks an eligible worker at the ends of every range too: no cost is NaN or beats all others by overflow",
    check: (subject) =>
      extremes(({ seed, workers, requests }) => {
        const pool = poolOf(workers)
        for (const picked of picksOf(subject, seed, pool, requests)) expectEligible(pool, picked)
      })
  },
  {
    id: "placement-reads-only",
    statement: "changes nothing in what it reads",
    check: (subject) =>
      fewScenarios(({ seed, workers, requests }) => {
        const pool = poolOf(workers)
        picksOf(
          subject,
          seed,
          pool,
          requests.map((one) => Object.freeze({ ...one }))
        )
        const before = poolOf(workers)
        for (const [name, column] of Object.entries(pool.workers))
          expect(isSame(column, before.workers[name as keyof WorkerColumns])).toBe(true)
        expect(isSame(pool.eligible, before.eligible)).toBe(true)
      })
  },
  {
    id: "placement-deterministic",
    statement: "the same seed, requests and events give the same picks",
    check: (subject) =>
      lives((one) => expectSame(new PlacementLife(subject, one).picks, new PlacementLife(subject, one).picks))
  },
  {
    id: "placement-equivariant",
    statement: "giving the workers other slots gives the same workers: slots mean nothing",
    check: (subject) =>
      lives((one) => {
        const slots = shuffled(one.workers.length, one.seed)
        expectSame(new PlacementLife(subject, one, { slots }).picks, new PlacementLife(subject, one).picks)
      })
  },
  {
    id: "placement-events",
    statement:
      "requests may come, start, fail and end and workers come and go in any order: it still picks an eligible worker, or -1 exactly when there is none",
    check: (subject) =>
      lives((one) =>
        new PlacementLife(subject, one, {}, (picked, _, { pool }) => expectEligible(pool, picked)).finish()
      )
  },
  {
    id: "placement-memory",
    statement:
      "where it hears of nothing but the beginning and the end of attempts, it remembers nothing once all have ended",
    families: ["argmin", "sampling"],
    about: ({ admitted, placed, timed, started, produced, released, ended, observed }) =>
      [admitted, timed, started, produced, ended, observed].every((hook) => hook === undefined) &&
      (placed === undefined) === (released === undefined),
    check: (subject) =>
      lives((one) => {
        const { rng, again } = dice(one.seed)
        const rigged = { ...subject, make: () => subject.make({}, rng) }
        const lived = new PlacementLife(rigged, one)
        lived.finish()
        const { placement: used, pool, nowMs } = lived
        const fresh = told(rigged.make(), pool)
        for (const which of one.requests.keys()) {
          const next = lived.requestAt(which)
          again()
          const expected = fresh.pick(next, pool, nowMs)
          again()
          expect(used.pick(next, pool, nowMs)).toBe(expected)
        }
      })
  },
  {
    id: "placement-monotone",
    statement:
      "more load on another worker does not make it the one picked, and less on the picked one leaves it so",
    // A rival keeps the faults of its rule: a threshold on the mean and spread of all loads lets a worker in because its load rises.
    about: (_, { family, rival }) => rival === undefined || family !== "filtered",
    check: (subject) =>
      underLoad(subject, fewScenarios, ({ picked, worker, after }) =>
        expect(after === worker).toBe(worker === picked)
      )
  },
  {
    id: "placement-independent",
    statement:
      "more load on a worker that is not picked changes nothing: no cost depends on that of another worker",
    families: ["argmin", "rotating", "sticky"],
    check: (subject) => underLoad(subject, scenarios, ({ picked, after }) => expect(after).toBe(picked))
  },
  {
    id: "placement-dominance",
    statement: "never picks a worker that is worse in every signal than another eligible one",
    families: ["argmin"],
    check: (subject) =>
      scenarios((one) => {
        const workers = one.workers.map((row) => ({ ...row, eligible: true }))
        const [worst, better] = shuffled(workers.length, one.seed)
        if (worst === undefined || better === undefined) return
        const { keyHigh, keyLow } = workers[worst]!
        workers[worst] = { ...worse(workers[better]!), keyHigh, keyLow }
        for (const picked of picksOf(subject, one.seed, poolOf(workers), one.requests))
          expect(picked).not.toBe(worst)
      })
  },
  {
    id: "placement-units",
    statement:
      "scaling every time, those of the options and the step costs with them, or every speed by one factor changes no pick",
    check: (subject) => {
      const times = [1 / 64, 0.25, 2, 32].filter((time) => optionsInUnits(subject.options, time) !== null)
      expect(times).not.toEqual([])
      lives((one) => {
        const time = times[one.seed % times.length]!
        const speed = [0.25, 1, 8][one.seed % 3]!
        expectSame(
          new PlacementLife(subject, one, { time, speed }).picks,
          new PlacementLife(subject, one).picks
        )
      })
    }
  },
  {
    id: "placement-unknown",
    statement: "how much is used of a KV cache of unknown size changes no pick",
    check: (subject) =>
      fewScenarios(({ seed, workers, requests }) => {
        const using = (kvUsedTokens: number): ReadonlyArray<number> => {
          const rows = workers.map((row) => (row.kvCapacityTokens === 0 ? { ...row, kvUsedTokens } : row))
          return picksOf(subject, seed, poolOf(rows), requests)
        }
        expectSame(using(0), using(200_000))
      })
  },
  {
    id: "placement-terms",
    statement: "picks a worker of least sum of terms, which is finite and not negative",
    about: ({ terms }) => terms !== undefined,
    check: (subject) => {
      lives((life) =>
        new PlacementLife(subject, life, {}, (picked, request, { placement, pool, nowMs }) => {
          if (picked < 0) return
          const sums = [...pool.eligible.subarray(0, pool.eligibleCount)].map((worker) =>
            sumOf(placement.terms!(request, worker, pool, nowMs))
          )
          const sum = sumOf(placement.terms!(request, picked, pool, nowMs))
          // The policy may add up in another order and in ms.
          expect(sum).toBeLessThanOrEqual(Math.min(...sums) * (1 + 1e-9))
        }).finish()
      )
      extremes(({ workers, requests: [one] }) => {
        // A load over a speed near 0 is more than a number can say.
        const pool = poolOf(workers.map((row) => ({ ...row, speed: Math.max(1e-9, row.speed) })))
        const placement = told(subject.make({}, makeRng(1)), pool)
        for (const worker of pool.eligible) sumOf(placement.terms!(one!, worker, pool, one!.arrivedMs))
      })
    }
  },
  {
    id: "placement-even",
    statement: "workers that differ in their keys alone get equal shares (χ² at 10⁻⁶, seeds fixed)",
    check: (subject) => {
      for (const count of [2, 3, 5, 16]) {
        const pool = poolOf(equalWorkers(count))
        for (const requests of [withoutSessions, withSessions]) {
          const counts = Array.from({ length: count }, () => 0)
          for (const picked of picksOf(subject, 7, pool, requests.slice(0, 1000 * count))) counts[picked]!++
          expect(evennessRatio(counts)).toBeLessThan(1)
        }
      }
    }
  },
  {
    id: "placement-bounded-work",
    statement:
      "the number of values it reads grows with the workers as its cost says, but for the first decision",
    check: (subject) => {
      const few = readsMax(subject, 16)
      const many = readsMax(subject, 512)
      const growth = {
        "O(1)": 1,
        "O(log N)": 9 / 4,
        "O(N)": 512 / 16,
        "O(N log N)": (512 * 9) / (16 * 4)
      }[subject.cost]
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
          const placement = told(subject.make({}, makeRng(seed)), pool)
          for (let number = 0; number < burst; number++) {
            const one = numbered(oneRequest, number)
            const worker = placement.pick(one, pool, 0)
            const placed = charge(pool, worker, one)
            touch(placement, pool, worker)
            placement.placed?.(placed, worker, pool, 0)
          }
          expect(Math.max(...pool.workers.inFlight) - Math.min(...pool.workers.inFlight)).toBeLessThanOrEqual(
            1
          )
        })
      )
  },
  {
    id: "placement-turns",
    statement:
      "of two workers of equal speed that stay eligible, each is picked once between two picks of the other, whoever comes and goes",
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
                speed: i < 2 ? 1 : worker.speed,
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
      "a session's worker depends on its key and the keys and speeds of the eligible workers alone: not on load, seed, time or what came before",
    families: ["sticky"],
    check: (subject) =>
      holds(
        fc.property(scenario, scenario, withSession, (one, two, session) => {
          const other = one.workers.map(({ keyHigh, keyLow, speed, eligible }, i) => ({
            ...(two.workers[i] ?? one.workers[i]!),
            keyHigh,
            keyLow,
            speed,
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
