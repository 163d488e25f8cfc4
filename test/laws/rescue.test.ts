import { describe } from "bun:test"
import type { PoolView } from "../../src/domain/PoolView.ts"
import { rescues } from "../../src/policies/registry.ts"
import { ACTIONS_MAX, type Rescue, type RescueEntry } from "../../src/policies/Rescue.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { rescueLaws, type RescueSubject } from "./rescueLaws.ts"

const subjectOf = ({ action, make, options }: RescueEntry): RescueSubject => ({
  make,
  action,
  options: Object.fromEntries(Object.entries(options).map(([name, spec]) => [name, spec.default]))
})

describe.each(rescues.map((entry) => [entry.name, entry] as const))("rescue %s", (_, entry) => {
  keepsAll(rescueLaws, subjectOf(entry))
})

const planted = (make: () => Rescue, options: RescueSubject["options"] = {}): RescueSubject => ({
  make,
  options,
  isPlanted: true
})

/** A rescue without a memory. */
const review = (each: Rescue["review"], options?: RescueSubject["options"]): RescueSubject =>
  planted(() => ({ review: each }), options)

const others = ({ eligible, eligibleCount }: PoolView, worker: number): ReadonlyArray<number> =>
  [...eligible.subarray(0, eligibleCount)].filter((other) => other !== worker)

/** Acts on each request once, and on some of a review at most. */
const careful = (
  act: (...seen: Parameters<Rescue["review"]>) => (slot: number, worker: number, sinceMs: number) => boolean,
  count = ACTIONS_MAX
): Rescue => {
  const done = new Set<number>()
  return {
    admitted: ({ slot }) => void done.delete(slot),
    review: (pool, placed, actions, nowMs) => {
      const carryOut = act(pool, placed, actions, nowMs)
      let left = count
      placed.unstarted(({ slot }, worker, sinceMs) => {
        if (left === 0 || done.has(slot) || !carryOut(slot, worker, sinceMs)) return
        done.add(slot)
        left--
      })
    }
  }
}

const copies =
  (pool: PoolView, { hedge }: Parameters<Rescue["review"]>[2]) =>
  (slot: number, worker: number) => {
    const [to] = others(pool, worker)
    return to !== undefined && hedge(slot, to)
  }

/** Outlives a policy, as a counter of its module does. */
let shared = 0

const defects: ReadonlyArray<Planted<RescueSubject>> = [
  [
    "takes back what it says it copies",
    "rescue-legal",
    { ...planted(() => careful((_pool, _placed, { requeue }) => requeue)), action: "hedge" }
  ],
  [
    "takes back what streams",
    "rescue-legal",
    review((_, { streaming }, { requeue }) => streaming(({ slot }) => void requeue(slot)))
  ],
  [
    "moves a request to where it is",
    "rescue-legal",
    review((_, { unstarted }, { move }) => unstarted(({ slot }, worker) => void move(slot, worker)))
  ],
  [
    "copies to a worker that is full",
    "rescue-legal",
    review(({ workers }, { unstarted }, { hedge }) =>
      unstarted(({ slot }, worker) => void hedge(slot, (worker + 1) % workers.inFlight.length))
    )
  ],
  [
    "copies what it has copied",
    "rescue-legal",
    review((pool, { unstarted }, { hedge }) =>
      unstarted(({ slot }, worker) => {
        for (const to of others(pool, worker)) hedge(slot, to)
      })
    )
  ],
  [
    "charges a worker itself",
    "rescue-legal",
    review(({ workers }) => {
      workers.inFlight[0]!++
    })
  ],
  [
    "takes back all there is",
    "rescue-bounded",
    review((_, { unstarted }, { requeue }) => unstarted(({ slot }) => void requeue(slot)))
  ],
  [
    "takes back what nobody could do sooner",
    "rescue-alone",
    planted(() =>
      careful(
        (_pool, _placed, { requeue }, nowMs) =>
          (slot, _worker, sinceMs) =>
            nowMs - sinceMs > 2000 && requeue(slot)
      )
    )
  ],
  [
    "takes back the same request again and again",
    "rescue-once",
    review((_, { unstarted }, { requeue }) => {
      let left = ACTIONS_MAX
      unstarted(({ slot }) => void (left-- > 0 && requeue(slot)))
    })
  ],
  [
    "copies without counting",
    "rescue-budget",
    planted(() => careful((pool, _placed, actions) => copies(pool, actions)), { budget: 0.02 })
  ],
  [
    "saves its budget up for ever",
    "rescue-budget",
    planted(
      () => {
        let saved = 3
        const rescue = careful((pool, _placed, actions) => {
          const copy = copies(pool, actions)
          return (slot, worker) => {
            if (saved < 1 || !copy(slot, worker)) return false
            saved--
            return true
          }
        })
        return {
          ...rescue,
          placed: () => {
            saved += 0.02
          }
        }
      },
      { budget: 0.02 }
    )
  ],
  [
    "counts copies, and not what they compute",
    "rescue-budget",
    planted(() => careful((pool, _placed, actions) => copies(pool, actions), 10), { tokenBudget: 0.05 })
  ],
  [
    "is impatient",
    "rescue-late",
    planted(() => careful((_pool, _placed, { requeue }) => requeue), { after: 2000 })
  ],
  [
    "takes back what is late, wherever it could go",
    "rescue-late",
    planted(
      () =>
        careful(
          (_pool, _placed, { requeue }, nowMs) =>
            (slot, _worker, sinceMs) =>
              nowMs - sinceMs > 2000 && requeue(slot)
        ),
      { after: 2000 }
    )
  ],
  [
    "copies while everyone is busy",
    "rescue-saturated",
    planted(() => careful((pool, _placed, actions) => copies(pool, actions)), { saturation: 0.8 })
  ],
  [
    "looks at the places of eligible workers alone",
    "rescue-saturated",
    planted(
      () =>
        careful((pool, _placed, actions) => {
          const eligible = others(pool, -1)
          const sumOf = (column: Int32Array) => eligible.reduce((sum, slot) => sum + column[slot]!, 0)
          const used = sumOf(pool.workers.inFlight) / sumOf(pool.workers.capacity)
          const copy = copies(pool, actions)
          return (slot, worker) => used <= 0.8 && copy(slot, worker)
        }),
      { saturation: 0.8 }
    )
  ],
  [
    "gives to a worker that has enough to do",
    "rescue-steal",
    planted(() =>
      careful(
        (pool, _placed, { move }) =>
          (slot, worker) =>
            others(pool, worker).some((to) => move(slot, to)),
        1
      )
    )
  ],
  [
    "takes the one request that a worker has",
    "rescue-steal",
    planted(() =>
      careful((pool, _placed, { move }) => {
        const { pendingPrefillTokens } = pool.workers
        return (slot, worker) =>
          others(pool, worker).some((to) => pendingPrefillTokens[to] === 0 && move(slot, to))
      }, 1)
    )
  ],
  [
    "takes back a request of the same class",
    "rescue-preempt",
    planted(() =>
      careful(
        (pool, _placed, { requeue }) =>
          (slot) =>
            pool.eligibleCount === 0 && requeue(slot)
      )
    )
  ],
  [
    "takes back while there is room",
    "rescue-preempt",
    planted(() => careful((_pool, _placed, { requeue }) => requeue))
  ],
  [
    "takes one request back, where more are waited for",
    "rescue-preempt",
    planted(() => {
      const preempt = rescues.find(({ name }) => name === "preempt")!.make({}, makeRng(1))
      return {
        ...preempt,
        review: (pool, placed, actions, nowMs) => {
          let left = 1
          preempt.review(
            pool,
            { ...placed, unstarted: (visit) => left > 0 && placed.unstarted(visit) },
            { ...actions, requeue: (slot) => left-- > 0 && actions.requeue(slot) },
            nowMs
          )
        }
      }
    })
  ],
  [
    "turns the difference around",
    "rescue-migrate",
    review(
      (pool, { streaming }, { migrate }) => {
        let left = 1
        streaming(({ slot }, worker) => {
          const [to] = others(pool, worker)
          if (left > 0 && to !== undefined && migrate(slot, to)) left--
        })
      },
      { above: 0 }
    )
  ],
  [
    "goes on where another one stopped",
    "rescue-deterministic",
    planted(() =>
      careful(
        (_pool, _placed, { requeue }) =>
          (slot) =>
            shared++ % 3 === 0 && requeue(slot)
      )
    )
  ],
  [
    "takes a request for the one that was in its slot before",
    "rescue-deterministic",
    planted(() => ({ ...careful((_pool, _placed, { requeue }) => requeue), admitted: () => undefined }))
  ],
  [
    "prefers low slots",
    "rescue-deterministic",
    planted(() =>
      careful((pool, _placed, { move }) => (slot, worker) => {
        const to = others(pool, worker).toSorted((one, other) => one - other)[0]
        return to !== undefined && move(slot, to)
      })
    )
  ]
]

describe("planted defects", () => findsAll(rescueLaws, defects))
