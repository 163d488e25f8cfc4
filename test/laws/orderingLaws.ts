import { expect } from "bun:test"
import * as fc from "fast-check"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { holds, request } from "../support/arbitraries.ts"

export interface OrderingSubject {
  readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Ordering
}

/** A statement about every ordering policy. `check` throws where it does not hold. */
export interface OrderingLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: OrderingSubject) => void
}

/** One call on the queue, as it can happen in the life of a request. */
type Step = "arrive" | "place" | "lose" | "cancel"

const steps = fc.array(
  fc.record({
    step: fc.constantFrom<Step>("arrive", "arrive", "arrive", "place", "lose", "cancel"),
    which: fc.nat(),
    later: fc.constantFrom(0, 0, 1, 50),
    facts: request
  }),
  { maxLength: 80 }
)

/** What the queue must hold, kept by the rules of the interface and nothing else. */
interface Life {
  readonly queued: Set<number>
  readonly placed: Set<number>
}

/**
 * Drives an ordering through random lives of requests in 40 slots that are used again. The request object is one for all calls, as
 * the balancer's is. `seen` is told the answer of every `next`.
 */
const live = (
  { make }: OrderingSubject,
  calls: ReadonlyArray<{ step: Step; which: number; later: number; facts: { maxTokens: number } }>,
  seen: (slot: number, life: Life, arrivals: ReadonlyMap<number, number>) => void = () => {}
): void => {
  const ordering = make({}, makeRng(1))
  const arrivals = new Map<number, number>()
  const life: Life = { queued: new Set(), placed: new Set() }
  const free = Array.from({ length: 40 }, (_, slot) => slot)
  const view = fc.sample(request, { numRuns: 1, seed: 1 })[0]!
  let nowMs = 0
  const asRequest = (slot: number) => Object.assign(view, { slot, arrivedMs: arrivals.get(slot)! })
  const oneOf = (slots: ReadonlySet<number>, which: number): number | undefined =>
    [...slots][which % slots.size]
  const place = (): void => {
    const slot = ordering.next(nowMs)
    seen(slot, life, arrivals)
    if (life.queued.size === 0) expect(slot).toBe(-1)
    else expect([...life.queued]).toContain(slot)
    if (life.queued.delete(slot)) life.placed.add(slot)
  }
  for (const { step, which, later, facts } of calls) {
    nowMs += later
    if (step === "arrive" && free.length > 0) {
      const [slot = -1] = free.splice(which % free.length, 1)
      arrivals.set(slot, nowMs)
      ordering.enqueue(Object.assign(asRequest(slot), { maxTokens: facts.maxTokens }), nowMs)
      life.queued.add(slot)
    }
    if (step === "place") place()
    const slot = step === "lose" ? oneOf(life.placed, which) : oneOf(life.queued, which)
    if (step === "lose" && slot !== undefined) {
      ordering.requeue(asRequest(slot), nowMs)
      life.placed.delete(slot)
      life.queued.add(slot)
    }
    if (step === "cancel" && slot !== undefined) {
      expect(ordering.remove(slot)).toBe(true)
      expect(ordering.remove(slot)).toBe(false)
      life.queued.delete(slot)
      free.push(slot)
    }
    for (const idle of life.placed) expect(ordering.remove(idle)).toBe(false)
    expect(ordering.size()).toBe(life.queued.size)
  }
  while (life.queued.size > 0) place()
  expect(ordering.size()).toBe(0)
  expect(ordering.next(nowMs)).toBe(-1)
}

export const orderingLaws: ReadonlyArray<OrderingLaw> = [
  {
    id: "ordering-conserves",
    statement:
      "gives out each queued request once, whatever is enqueued, requeued and removed in between; a removed one never; its size is exact",
    check: (subject) => holds(fc.property(steps, (calls) => live(subject, calls)))
  },
  {
    id: "ordering-deterministic",
    statement: "the same calls give the same order",
    check: (subject) =>
      holds(
        fc.property(steps, (calls) => {
          const run = (): Array<number> => {
            const order: Array<number> = []
            live(subject, calls, (slot) => order.push(slot))
            return order
          }
          expect(run()).toEqual(run())
        })
      )
  }
]

/** First come, first served: true of the ordering by arrival, and of any other while it has nothing to prefer. */
export const arrivalOrder: OrderingLaw = {
  id: "ordering-arrival",
  statement:
    "the next request is one that arrived no later than any other in the queue, requeued ones included",
  check: (subject) =>
    holds(
      fc.property(steps, (calls) =>
        live(subject, calls, (slot, { queued }, arrivals) => {
          for (const other of queued) expect(arrivals.get(slot)!).toBeLessThanOrEqual(arrivals.get(other)!)
        })
      )
    )
}
