import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../../src/domain/PoolView.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { weightedScore } from "../../../src/policies/affinity.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { mix } from "../../../src/structures/hash.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { candidates, holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { equalWorkers, oneRequest, poolOf, setEligible } from "../../support/pools.ts"

interface Options {
  readonly factor: number
  readonly returnAfter: number
  readonly sessionsMax: number
}

type Subject = (options: Options) => Pick<Placement, "pick">

const entry = findPlacement("sticky-rehoming")
const real: Subject = (options) => entry.make({ ...options }, makeRng(1))

const sessionOf = (number: number): RequestView => ({ ...oneRequest, sessionLow: number + 1, idLow: number })

const eligibleOf = ({ eligible, eligibleCount }: PoolView): ReadonlyArray<number> => [
  ...eligible.subarray(0, eligibleCount)
]

/** Whether a worker may have one more request. */
const hasRoom = (pool: PoolView, factor: number, slot: number): boolean => {
  const { inFlight, speed } = pool.workers
  const sum = (column: Int32Array | Float64Array): number =>
    eligibleOf(pool).reduce((total, each) => total + column[each]!, 0)
  return inFlight[slot]! + 1 <= Math.ceil((factor * (sum(inFlight) + 1) * speed[slot]!) / sum(speed))
}

/** The eligible worker of highest score; scores do not tie. */
const highest = (pool: PoolView, score: (slot: number) => number): number =>
  eligibleOf(pool).reduce((best, slot) => (best < 0 || score(slot) > score(best) ? slot : best), -1)

const hashOf = ({ workers }: PoolView, { sessionHigh, sessionLow }: RequestView, slot: number): number =>
  mix(mix(0, sessionHigh, sessionLow), workers.keyHigh[slot]!, workers.keyLow[slot]!)

const firstChoice = (pool: PoolView, one: RequestView): number =>
  highest(pool, (slot) => weightedScore(hashOf(pool, one, slot), pool.workers.speed[slot]!))

interface Steps {
  readonly staysAway?: (homeHasRoom: boolean) => boolean
  readonly target?: (pool: PoolView, one: RequestView, factor: number) => number
  readonly expires?: (silentMs: number, limitMs: number) => boolean
  readonly refresh?: boolean
  readonly forgets?: boolean
}

/** Where sessions that do not stay at home go, as the rule says it, in a map from the least recently seen on; a defect changes a step. */
const model =
  ({
    staysAway = () => true,
    target = leastLoaded,
    expires = (silentMs, limitMs) => silentMs > limitMs,
    refresh = true,
    forgets = true
  }: Steps = {}): Subject =>
  ({ factor, returnAfter, sessionsMax }) => {
    const moves = new Map<number, { worker: number; seenMs: number }>()
    return {
      pick: (one, pool, nowMs) => {
        const session = one.sessionLow
        const move = moves.get(session)
        const home = firstChoice(pool, one)
        if (home < 0) return -1
        const stays =
          move !== undefined &&
          !expires(nowMs - move.seenMs, returnAfter) &&
          eligibleOf(pool).includes(move.worker) &&
          hasRoom(pool, factor, move.worker) &&
          staysAway(hasRoom(pool, factor, home))
        if (stays && !refresh) return move.worker
        if (forgets || stays) moves.delete(session)
        if (stays) {
          moves.set(session, { worker: move.worker, seenMs: nowMs })
          return move.worker
        }
        if (hasRoom(pool, factor, home)) return home
        if (moves.size === sessionsMax) moves.delete(moves.keys().next().value!)
        const worker = target(pool, one, factor)
        moves.set(session, { worker, seenMs: nowMs })
        return worker
      }
    }
  }

const leastLoaded = (pool: PoolView, one: RequestView, factor: number): number => {
  const { inFlight, speed } = pool.workers
  const load = (slot: number): number =>
    hasRoom(pool, factor, slot) ? (inFlight[slot]! + 1) / speed[slot]! : Number.POSITIVE_INFINITY
  const least = Math.min(...eligibleOf(pool).map(load))
  return highest(pool, (slot) => (load(slot) === least ? hashOf(pool, one, slot) : -1))
}

/** Requests of a few sessions, some time apart, while workers get loaded and others come and go. */
const steps = fc.array(
  fc.record({
    session: fc.nat(2),
    pauseMs: fc.constantFrom(0, 0, 600, 600, 1001),
    present: fc.nat(63),
    loaded: fc.nat(63)
  }),
  { maxLength: 40 }
)

const rows = candidates({ minLength: 1, maxLength: 6 })

/** Lives through steps, and calls `look` with what each of some policies picks and the worker of the session before, or -1. */
const live = (
  subjects: ReadonlyArray<Subject>,
  options: Options,
  look: (picks: ReadonlyArray<number>, pool: PoolView, one: RequestView, before: number) => void,
  comeAndGo = true
): void =>
  holds(
    fc.property(rows, steps, (workers, each) => {
      const pool = poolOf(workers.map((row) => ({ ...row, inFlight: 0, capacity: 1000 })))
      const placements = subjects.map((subject) => subject(options))
      const before = new Map<number, number>()
      let nowMs = 0
      for (const { session, pauseMs, present, loaded } of each) {
        nowMs += pauseMs
        setEligible(pool, (slot) => !comeAndGo || slot === 0 || ((present >> slot) & 1) === 1)
        for (const slot of workers.keys()) pool.workers.inFlight[slot] = ((loaded >> slot) & 1) * 4
        const one = sessionOf(session)
        const picks = placements.map((placement) => placement.pick(one, pool, nowMs))
        look(picks, pool, one, before.get(session) ?? -1)
        before.set(session, picks[0]!)
      }
    })
  )

const tight: Options = { factor: 1.25, returnAfter: 1000, sessionsMax: 2 }
const ample: Options = { factor: 1.25, returnAfter: 86_400_000, sessionsMax: 100 }

const laws = [
  {
    id: "rehoming-model",
    check: (subject: Subject) =>
      live([subject, model()], tight, ([picked, expected]) => expect(picked).toBe(expected))
  },
  {
    id: "rehoming-bounded",
    check: (subject: Subject) =>
      live([subject], ample, ([picked], pool) => expect(hasRoom(pool, ample.factor, picked!)).toBe(true))
  },
  {
    id: "rehoming-stays",
    check: (subject: Subject) =>
      live(
        [subject],
        ample,
        ([picked], pool, _, before) => {
          if (before >= 0 && hasRoom(pool, ample.factor, before)) expect(picked).toBe(before)
        },
        false
      )
  },
  {
    id: "rehoming-home",
    check: (subject: Subject) =>
      live([subject], { ...ample, factor: 100 }, ([picked], pool, one) =>
        expect(picked).toBe(firstChoice(pool, one))
      )
  }
]

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "returns as soon as the home has room",
    "rehoming-stays",
    model({ staysAway: (homeHasRoom) => !homeHasRoom })
  ],
  ["never returns", "rehoming-model", model({ expires: () => false })],
  ["returns a while after the move, seen or not", "rehoming-model", model({ refresh: false })],
  ["keeps the place of a session that came back", "rehoming-model", model({ forgets: false })],
  [
    "moves to the next in the session's order, loaded or not",
    "rehoming-bounded",
    model({
      target: (pool, one) =>
        highest(pool, (slot) => (slot === firstChoice(pool, one) ? -1 : hashOf(pool, one, slot)))
    })
  ],
  [
    "hashes without speeds",
    "rehoming-home",
    () => ({ pick: (one, pool) => highest(pool, (slot) => hashOf(pool, one, slot)) })
  ]
]

describe("sticky-rehoming", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

test("requests without a session go to the less loaded of two", () => sampleLaw(2).check(entry))

test("by tenant, all sessions of a tenant stay together", () => {
  const placement = entry.make({ key: "tenant" }, makeRng(1))
  const pool = poolOf(equalWorkers(64))
  const homes = Array.from({ length: 200 }, (_, i) =>
    placement.pick({ ...sessionOf(i), tenant: i % 8 }, pool, 0)
  )
  for (const [i, home] of homes.entries()) expect(home).toBe(homes[i % 8]!)
  expect(new Set(homes).size).toBeGreaterThan(4)
})

test("100 000 sessions that move take no more rows than the limit, and the last ones are remembered", () => {
  const pool = poolOf(equalWorkers(4, { inFlight: 0 }))
  const placement = entry.make({ sessionsMax: 1000 }, makeRng(1))
  const { inFlight } = pool.workers
  const pickOverloaded = (session: number): readonly [home: number, picked: number] => {
    const home = firstChoice(pool, sessionOf(session))
    inFlight[home] = 50
    const picked = placement.pick(sessionOf(session), pool, 0)
    inFlight[home] = 0
    return [home, picked]
  }
  const moved = Array.from({ length: 100_000 }, (_, session) => pickOverloaded(session))
  for (const [home, picked] of moved) expect(picked).not.toBe(home)
  const isAway = (session: number): boolean =>
    placement.pick(sessionOf(session), pool, 0) === moved[session]![1]
  const last = Array.from({ length: 1000 }, (_, i) => 99_000 + i)
  expect(last.every(isAway)).toBe(true)
  expect(Array.from({ length: 1000 }, (_, i) => i).some(isAway)).toBe(false)
})
