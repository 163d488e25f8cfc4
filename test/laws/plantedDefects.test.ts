import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { Admission } from "../../src/policies/Admission.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import type { Placement } from "../../src/policies/Placement.ts"
import { mix } from "../../src/structures/hash.ts"
import type { Rng } from "../../src/structures/Rng.ts"
import { admissionLaws } from "./admissionLaws.ts"
import { arrivalOrder, orderingLaws } from "./orderingLaws.ts"
import { placementLaws, type Subject } from "./placementLaws.ts"
import { sampleLaw } from "./sampleLaw.ts"

/** Each planted defect is a plausible slip in a policy, beside the law that must find it: so no law passes for want of trying. */
type Planted<Subject> = readonly [defect: string, law: string, subject: Subject]

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
  make: (_, rng) => ({ pick: pick(rng) })
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
    "placement-monotone",
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

const admission = (decide: Admission["decide"]) => ({ make: () => ({ decide }) })

const admissionDefects: ReadonlyArray<
  Planted<{ readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Admission }>
> = [
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
    "rejects at the bound of an empty queue",
    "admission-idle",
    admission((_, __, { expectedWaitMs }) =>
      expectedWaitMs >= 0 ? { reason: Reason.waitTooLong, retryAfterMs: 1000 } : null
    )
  ]
]

/** An ordering over a plain array; a defect replaces one of its operations. */
const ordering = (defect: (queue: Array<{ slot: number; arrivedMs: number }>) => Partial<Ordering>) => ({
  make: (): Ordering => {
    const queue: Array<{ slot: number; arrivedMs: number }> = []
    const add = ({ slot, arrivedMs }: { slot: number; arrivedMs: number }): void => {
      queue.push({ slot, arrivedMs })
      queue.sort((a, b) => a.arrivedMs - b.arrivedMs)
    }
    return {
      enqueue: add,
      requeue: add,
      next: () => queue.shift()?.slot ?? -1,
      remove: (slot) => {
        const at = queue.findIndex((queued) => queued.slot === slot)
        if (at >= 0) queue.splice(at, 1)
        return at >= 0
      },
      size: () => queue.length,
      ...defect(queue)
    }
  }
})

const orderingDefects: ReadonlyArray<Planted<{ readonly make: () => Ordering }>> = [
  ["forgets a requeued request", "ordering-conserves", ordering(() => ({ requeue: () => {} }))],
  [
    "gives a request out without taking it",
    "ordering-conserves",
    ordering((queue) => ({ next: () => queue[0]?.slot ?? -1 }))
  ],
  ["says it removed what it does not hold", "ordering-conserves", ordering(() => ({ remove: () => true }))],
  [
    "gives out slot 0 when it is empty",
    "ordering-conserves",
    ordering((queue) => ({ next: () => queue.shift()?.slot ?? 0 }))
  ],
  [
    "keeps the request object, which the balancer fills again",
    "ordering-conserves",
    ordering((queue) => ({ enqueue: (one) => void queue.push(one) }))
  ],
  [
    "picks by a variable of the module",
    "ordering-deterministic",
    ordering((queue) => ({
      next: () => queue.splice(shared++ % Math.max(1, queue.length), 1)[0]?.slot ?? -1
    }))
  ],
  [
    "serves the newest first",
    "ordering-arrival",
    ordering((queue) => ({ next: () => queue.pop()?.slot ?? -1 }))
  ],
  [
    "puts a requeued request at the end",
    "ordering-arrival",
    ordering((queue) => ({ requeue: ({ slot, arrivedMs }) => void queue.push({ slot, arrivedMs }) }))
  ]
]

/** What broke, beneath the report of the property: an expectation, or an accident of the planted policy itself. */
const violation = (check: () => void): string => {
  try {
    check()
    return "nothing"
  } catch (error) {
    if (!(error instanceof Error)) return String(error)
    return error.cause instanceof Error ? error.cause.message : error.message
  }
}

const findsAll = <Subject>(
  laws: ReadonlyArray<{ readonly id: string; readonly check: (subject: Subject) => void }>,
  defects: ReadonlyArray<Planted<Subject>>
): void => {
  test.each(defects)("%s: %s finds it", (_, id, subject) => {
    const law = laws.find((each) => each.id === id)!
    expect(violation(() => law.check(subject))).toStartWith("expect(")
  })

  test("every law finds some defect", () => {
    expect(laws.map((law) => law.id).filter((id) => !defects.some(([, finds]) => finds === id))).toEqual([])
  })
}

describe("planted placement defects", () => findsAll([...placementLaws, sampleLaw(2)], placementDefects))
describe("planted admission defects", () => findsAll(admissionLaws, admissionDefects))
describe("planted ordering defects", () => findsAll([...orderingLaws, arrivalOrder], orderingDefects))

test("the ordering that defects are planted in is right", () => {
  for (const law of [...orderingLaws, arrivalOrder]) law.check(ordering(() => ({})))
})
