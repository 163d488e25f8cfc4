import { afterAll, beforeAll, describe, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { Admission } from "../../src/policies/Admission.ts"
import { LeastEligible } from "../../src/policies/LeastEligible.ts"
import type { Placement } from "../../src/policies/Placement.ts"
import type { PolicyEvents } from "../../src/policies/Policy.ts"
import { mix } from "../../src/structures/hash.ts"
import type { Rng } from "../../src/structures/Rng.ts"
import { admissionLaws, type AdmissionSubject } from "./admissionLaws.ts"
import { fairnessLaws } from "./fairnessLaws.ts"
import { ledgerExact } from "./ledgerLaws.ts"
import { fairnessDefects, ledgerDefects, orderingDefects, sequencingDefects } from "./orderingDefects.ts"
import { arrivalOrder, orderingLaws } from "./orderingLaws.ts"
import { placementLaws } from "./placementLaws.ts"
import type { Subject } from "./placementLife.ts"
import { plainArrival } from "./plainOrderings.ts"
import { sampleLaw } from "./sampleLaw.ts"
import { sequencingLaws } from "./sequencingLaws.ts"
import { findsAll, type Planted } from "../support/planted.ts"

const eligibleOf = ({ eligible, eligibleCount }: PoolView): ReadonlyArray<number> => [
  ...eligible.subarray(0, eligibleCount)
]

const loadOf = ({ workers }: PoolView, slot: number): number => workers.inFlight[slot]! / workers.speed[slot]!

/** The first slot of least cost, or -1. */
const least = (slots: ReadonlyArray<number>, cost: (slot: number) => number): number =>
  slots.reduce((best, slot) => (best < 0 || cost(slot) < cost(best) ? slot : best), -1)

const placement = (
  family: Subject["family"],
  pick: (rng: Rng) => Placement["pick"],
  cost: Subject["cost"] = "O(N)"
): Subject => ({
  family,
  cost,
  options: {},
  make: (_, rng) => ({ pick: pick(rng) })
})

/** A policy that hears of events, or tells its terms: `make` has the parts that a plain `pick` lacks. */
const attentive = (family: Subject["family"], make: () => Placement): Subject => ({
  family,
  cost: "O(N)",
  options: {},
  make
})

/** State that outlives a policy, as a module-level counter does. */
let shared = 0

const placementDefects: ReadonlyArray<Planted<Subject>> = [
  [
    "looks at every worker of the table",
    "placement-eligible",
    placement(
      "argmin",
      () => (_, pool) => least([...pool.workers.inFlight.keys()], (slot) => loadOf(pool, slot))
    )
  ],
  [
    "reads one element too far",
    "placement-eligible",
    placement(
      "sampling",
      (rng) =>
        (_, { eligible, eligibleCount }) =>
          eligible[rng.int(eligibleCount + 1)] ?? -1
    )
  ],
  [
    "picks nobody while everyone is busy",
    "placement-eligible",
    placement(
      "argmin",
      () => (_, pool) =>
        least(
          eligibleOf(pool).filter((slot) => loadOf(pool, slot) < 4),
          (slot) => loadOf(pool, slot)
        )
    )
  ],
  [
    "takes an infinite cost for no worker",
    "placement-finite",
    placement("argmin", () => (_, pool) => {
      let best = -1
      let bestLoad = Number.POSITIVE_INFINITY
      for (const slot of eligibleOf(pool))
        if (loadOf(pool, slot) < bestLoad) bestLoad = loadOf(pool, (best = slot))
      return best
    })
  ],
  [
    "charges the worker itself",
    "placement-reads-only",
    placement("argmin", () => (_, pool) => {
      const slot = least(eligibleOf(pool), (each) => loadOf(pool, each))
      if (slot >= 0) pool.workers.inFlight[slot]!++
      return slot
    })
  ],
  [
    "keeps its turn in a variable of the module",
    "placement-deterministic",
    placement(
      "rotating",
      () =>
        (_, { eligible, eligibleCount }) =>
          eligibleCount === 0 ? -1 : eligible[shared++ % eligibleCount]!
    )
  ],
  [
    "remembers the workers that were ready, whether they are full or not",
    "placement-events",
    attentive("argmin", () => {
      const ready = new Set<number>()
      return {
        pick: (_, pool) => least([...ready], (slot) => loadOf(pool, slot)),
        changed: (worker, isReady) => void (isReady ? ready.add(worker) : ready.delete(worker))
      }
    })
  ],
  [
    "forgets to take back what it counted when an attempt fails",
    "placement-memory",
    attentive("argmin", () => {
      const counts: Array<number> = []
      return {
        pick: (_, pool) => least(eligibleOf(pool), (slot) => counts[slot] ?? 0),
        placed: (_, worker) => void (counts[worker] = (counts[worker] ?? 0) + 1),
        released: (_, worker, reason) => {
          if (reason !== Reason.workerFailed) counts[worker]!--
        }
      }
    })
  ],
  [
    "takes off twice what it counted when an attempt is cancelled",
    "placement-memory",
    attentive("argmin", () => {
      const counts: Array<number> = []
      return {
        pick: (_, pool) => least(eligibleOf(pool), (slot) => counts[slot] ?? 0),
        placed: (_, worker) => void (counts[worker] = (counts[worker] ?? 0) + 1),
        released: (_, worker, reason) => void (counts[worker]! -= reason === Reason.cancelled ? 2 : 1)
      }
    })
  ],
  [
    "leaves out the queue that its terms tell of",
    "placement-terms",
    attentive("argmin", () => ({
      pick: (_, pool) => least(eligibleOf(pool), (slot) => pool.workers.inFlight[slot]!),
      terms: (_, worker, { workers }) => ({
        inFlight: workers.inFlight[worker]!,
        queue: workers.pendingPrefillTokens[worker]!
      })
    }))
  ],
  [
    "keeps its workers in an index that does not follow what ends",
    "placement-terms",
    attentive("argmin", () => {
      const index = new LeastEligible(({ inFlight }, worker) => inFlight[worker]!)
      const before: Array<number> = []
      return {
        pick: ({ idLow }, pool) => index.pick(pool, mix(0, 0, idLow)),
        touched: (worker, eligible, pool) => {
          const inFlight = pool.workers.inFlight[worker]!
          if (inFlight >= (before[worker] ?? 0)) index.touched(worker, eligible, pool)
          before[worker] = inFlight
        },
        terms: (_, worker, { workers }) => ({ inFlight: workers.inFlight[worker]! })
      }
    })
  ],
  [
    "divides by the size of a KV cache that is not known",
    "placement-terms",
    attentive("argmin", () => ({
      pick: (_, pool) => least(eligibleOf(pool), () => 0),
      terms: (_, worker, { workers }) => ({
        kv: workers.kvUsedTokens[worker]! / workers.kvCapacityTokens[worker]!
      })
    }))
  ],
  [
    "counts tokens in place of a share where the size of the KV cache is unknown",
    "placement-unknown",
    placement(
      "argmin",
      () => (_, pool) =>
        least(
          eligibleOf(pool),
          (slot) => pool.workers.kvUsedTokens[slot]! / Math.max(1, pool.workers.kvCapacityTokens[slot]!)
        )
    )
  ],
  [
    "breaks ties by slot",
    "placement-equivariant",
    placement(
      "argmin",
      () => (_, pool) =>
        least(
          eligibleOf(pool).toSorted((a, b) => a - b),
          (slot) => loadOf(pool, slot)
        )
    )
  ],
  [
    "hashes the slot in place of the key",
    "placement-equivariant",
    placement("sticky", () => (one, pool) => least(eligibleOf(pool), (slot) => mix(one.sessionLow, 0, slot)))
  ],
  [
    "breaks ties by position",
    "placement-even",
    placement("argmin", () => (_, pool) => least(eligibleOf(pool), (slot) => loadOf(pool, slot)))
  ],
  [
    "never draws the last worker",
    "placement-even",
    placement(
      "sampling",
      (rng) =>
        (_, { eligible, eligibleCount }) =>
          eligibleCount === 0 ? -1 : eligible[rng.int(Math.max(1, eligibleCount - 1))]!
    )
  ],
  [
    "prefers the most loaded worker",
    "placement-monotone",
    placement("argmin", () => (_, pool) => least(eligibleOf(pool), (slot) => -loadOf(pool, slot)))
  ],
  [
    "scales the load by its range over the workers",
    "placement-independent",
    placement("argmin", () => (_, pool) => {
      const loads = eligibleOf(pool).map((slot) => loadOf(pool, slot))
      const range = Math.max(...loads) - Math.min(...loads) || 1
      return least(eligibleOf(pool), (slot) => loadOf(pool, slot) / range + pool.workers.running[slot]! / 64)
    })
  ],
  [
    "multiplies by speed in place of dividing",
    "placement-dominance",
    placement(
      "argmin",
      () => (_, pool) =>
        least(eligibleOf(pool), (slot) => pool.workers.inFlight[slot]! * pool.workers.speed[slot]! ** 3)
    )
  ],
  [
    "adds the age of the heartbeat to the load, whatever the unit",
    "placement-units",
    placement(
      "argmin",
      () => (_, pool, nowMs) =>
        least(
          eligibleOf(pool),
          (slot) => loadOf(pool, slot) + Math.abs(nowMs - pool.workers.observedAtMs[slot]!) / 20_000
        )
    )
  ],
  [
    "looks at all workers for a sample of two",
    "placement-bounded-work",
    placement("sampling", () => (_, pool) => least(eligibleOf(pool), (slot) => loadOf(pool, slot)), "O(1)")
  ],
  [
    "decides on the last heartbeat alone",
    "placement-no-herd",
    placement(
      "argmin",
      () => (one, pool) =>
        least(
          eligibleOf(pool),
          (slot) => pool.workers.running[slot]! + mix(one.idLow >> 3, 0, pool.workers.keyLow[slot]!) / 2 ** 32
        )
    )
  ],
  [
    "counts a request once its first token has come",
    "placement-no-herd",
    attentive("argmin", () => {
      const counts: Array<number> = []
      return {
        pick: (one, pool) =>
          least(
            eligibleOf(pool),
            (slot) => (counts[slot] ?? 0) + mix(one.idLow, 0, pool.workers.keyLow[slot]!) / 2 ** 32
          ),
        started: (_, worker) => void (counts[worker] = (counts[worker] ?? 0) + 1),
        released: (_, worker) => void counts[worker]!--
      }
    })
  ],
  [
    "counts positions, which shift when a worker comes or goes",
    "placement-turns",
    placement("rotating", () => {
      let turn = 0
      return (_, { eligible, eligibleCount }) =>
        eligibleCount === 0 ? -1 : eligible[turn++ % eligibleCount]!
    })
  ],
  [
    "leaves a session's worker when it is loaded",
    "placement-sticky",
    placement(
      "sticky",
      () =>
        ({ sessionLow }, pool) =>
          least(
            eligibleOf(pool),
            (slot) => mix(sessionLow, 0, pool.workers.keyLow[slot]!) * (loadOf(pool, slot) > 4 ? 2 : 1)
          )
    )
  ],
  [
    "takes the session modulo the number of workers",
    "placement-least-disruption",
    placement(
      "sticky",
      () =>
        ({ sessionLow }, { eligible, eligibleCount }) =>
          eligibleCount === 0 ? -1 : eligible[sessionLow % eligibleCount]!
    )
  ],
  [
    "draws the same worker twice",
    "placement-sample",
    placement("sampling", (rng) => (_, pool) => {
      const draw = (): number => pool.eligible[rng.int(pool.eligibleCount)]!
      return least([draw(), draw()], (slot) => loadOf(pool, slot))
    })
  ],
  [
    "draws neighbours",
    "placement-sample",
    placement("sampling", (rng) => (_, pool) => {
      const first = rng.int(pool.eligibleCount)
      return least(
        [first, (first + 1) % pool.eligibleCount].map((at) => pool.eligible[at]!),
        (slot) => loadOf(pool, slot)
      )
    })
  ]
]

const admission = (decide: Admission["decide"]): AdmissionSubject => ({ make: () => ({ decide }) })

/** Refuses while `held()` is over a bound, which the events that a defect listens to raise and lower. */
const holding = (
  make: () => PolicyEvents & { readonly held: () => number; readonly bound: number }
): AdmissionSubject => ({
  make: () => {
    const { held, bound, ...events } = make()
    const decide: Admission["decide"] = () =>
      held() >= bound ? { reason: Reason.concurrencyLimit, retryAfterMs: 1000 } : null
    return { ...events, decide }
  }
})

const admissionDefects: ReadonlyArray<Planted<AdmissionSubject>> = [
  [
    "says to come back at once",
    "admission-retry-after",
    admission((_, __, { expectedWaitMs, queuedCount }) =>
      queuedCount >= 4096 ? { reason: Reason.queueFull, retryAfterMs: Math.ceil(expectedWaitMs) } : null
    )
  ],
  [
    "says to come back after an unknown wait",
    "admission-retry-after",
    admission((_, __, { expectedWaitMs, queuedCount }) =>
      queuedCount >= 4096 ? { reason: Reason.queueFull, retryAfterMs: Math.ceil(expectedWaitMs) + 1 } : null
    )
  ],
  [
    "blames the request for a full queue",
    "admission-retry-after",
    admission((_, __, { queuedCount }) =>
      queuedCount >= 4096 ? { reason: Reason.badRequest, retryAfterMs: 1000 } : null
    )
  ],
  [
    "keeps its count of rejections in a variable of the module",
    "admission-deterministic",
    admission((_, __, { queuedCount }) =>
      queuedCount >= 4096 ? { reason: Reason.queueFull, retryAfterMs: 1000 + ++shared } : null
    )
  ],
  [
    "bounds the wait from the wrong side",
    "admission-monotone",
    admission((_, __, { expectedWaitMs }) =>
      expectedWaitMs < 20_000 ? { reason: Reason.waitTooLong, retryAfterMs: 1000 } : null
    )
  ],
  [
    "shortens the retry-after as the queue grows",
    "admission-monotone",
    admission((_, __, { queuedCount }) =>
      queuedCount >= 4096 ? { reason: Reason.queueFull, retryAfterMs: Math.ceil(1e9 / queuedCount) } : null
    )
  ],
  [
    "reserves before the request is let in",
    "admission-reads-only",
    {
      make: () => {
        let asked = 0
        return { decide: () => (++asked > 2 ? { reason: Reason.rateLimited, retryAfterMs: 1000 } : null) }
      }
    }
  ],
  [
    "charges the worker itself",
    "admission-reads-only",
    admission((_, { workers, eligible, eligibleCount }) => {
      if (eligibleCount > 0) workers.contextTokens[eligible[0]!]!++
      return null
    })
  ],
  [
    "takes the highest class for the most urgent",
    "admission-class",
    admission((one, _, { queuedCount }) =>
      queuedCount >= 1000 * (1 + one.class) ? { reason: Reason.queueFull, retryAfterMs: 1000 } : null
    )
  ],
  [
    "sends urgent requests away for longer",
    "admission-class",
    admission((one, _, { queuedCount }) =>
      queuedCount >= 1000 ? { reason: Reason.queueFull, retryAfterMs: 10_000 - one.class } : null
    )
  ],
  [
    "rejects at the bound of an empty queue",
    "admission-idle",
    admission((_, __, { expectedWaitMs }) =>
      expectedWaitMs >= 0 ? { reason: Reason.waitTooLong, retryAfterMs: 1000 } : null
    )
  ],
  [
    "does not let go of a request that was cancelled",
    "admission-idle",
    holding(() => {
      let inFlight = 0
      return {
        admitted: () => void inFlight++,
        ended: (_, reason) => void (reason !== Reason.cancelled && inFlight--),
        held: () => inFlight,
        bound: 1
      }
    })
  ],
  [
    "counts a request that is tried again twice",
    "admission-returns",
    holding(() => {
      let placed = 0
      return { placed: () => void placed++, ended: () => void placed--, held: () => placed, bound: 3 }
    })
  ],
  [
    "gives back with the attempt, and with the request again",
    "admission-returns",
    holding(() => {
      let inFlight = 0
      return {
        admitted: () => void inFlight++,
        released: () => void inFlight--,
        ended: () => void inFlight--,
        held: () => inFlight,
        bound: 3
      }
    })
  ]
]

// What a defect does is known: nobody needs the smallest example.
const usual = fc.readConfigureGlobal()
beforeAll(() => fc.configureGlobal({ ...usual, endOnFailure: true }))
afterAll(() => fc.configureGlobal(usual))

describe("planted placement defects", () => findsAll([...placementLaws, sampleLaw(2)], placementDefects))
describe("planted admission defects", () => findsAll(admissionLaws, admissionDefects))
describe("planted ordering defects", () => findsAll([...orderingLaws, arrivalOrder], orderingDefects))
describe("planted sequencing defects", () => findsAll(sequencingLaws, sequencingDefects))
describe("planted fairness defects", () => findsAll(fairnessLaws, fairnessDefects))
describe("planted ledger defects", () => findsAll([ledgerExact], ledgerDefects))

test("the ordering that defects are planted in is right", () => {
  for (const law of [...orderingLaws, arrivalOrder]) law.check({ make: () => plainArrival() })
})
