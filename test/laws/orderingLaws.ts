import { expect } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { request, shared } from "../support/arbitraries.ts"
import { type Facts, OrderingLife, rubbish } from "../support/OrderingLife.ts"
import { equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

export interface OrderingSubject {
  readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Ordering
}

/** A statement about every ordering policy. `check` throws where it does not hold. */
export interface OrderingLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: OrderingSubject) => void
}

/** What can happen in the life of a request. */
type Step =
  | "arrive"
  | "arriveAtOnce"
  | "take"
  | "place"
  | "putBack"
  | "drop"
  | "lose"
  | "hedge"
  | "start"
  | "produce"
  | "end"

const call = (...steps: ReadonlyArray<Step>) =>
  fc.record({
    step: fc.constantFrom(...steps),
    which: fc.nat(),
    later: fc.constantFrom(0, 0, 1, 50),
    tokens: fc.integer({ min: 1, max: 64 }),
    reason: fc.constantFrom(Reason.none, Reason.cancelled, Reason.expired, Reason.workerLost),
    facts: request
  })

/** Few requests wait, and much happens to those that are placed. */
export const swiftCalls = fc.array(
  call(
    ...([
      "arrive",
      "arriveAtOnce",
      "arriveAtOnce",
      "take",
      "place",
      "place",
      "putBack",
      "drop",
      "lose"
    ] as const),
    ...(["hedge", "hedge", "start", "produce", "produce", "end"] as const)
  ),
  { maxLength: 80, size: "max" }
)

/** Some come first, so that there is a choice. */
const crowdedCalls = fc
  .tuple(
    fc.array(call("arrive"), { maxLength: 20, size: "max" }),
    fc.array(
      call(
        ...(["arrive", "arrive", "arrive", "take", "take", "take", "place", "place"] as const),
        ...(["putBack", "drop", "lose", "hedge", "start", "produce", "end"] as const)
      ),
      { maxLength: 80, size: "max" }
    )
  )
  .map((parts) => parts.flat())

/** Things that happen to requests, one after the other. */
const calls = fc.oneof(crowdedCalls, swiftCalls)

/** Some forty calls in each, so that a tenth of the usual number of cases has more in it. */
const lives = shared(calls, 100)

type Calls = typeof calls extends fc.Arbitrary<infer Value> ? Value : never

/** Pools that hold different prefixes of any request; how much is matched depends on its number of blocks alone. */
const pools = [0, 2048, 65_536].map((cachedTokens): PoolView => {
  const pool = poolOf(equalWorkers(3).map((row, i) => ({ ...row, cachedTokens: cachedTokens * i })))
  const matches = new Map<number, ReturnType<PoolView["match"]>>()
  const match: PoolView["match"] = (one) => {
    const match = matches.get(one.chain.count) ?? pool.match(one)
    matches.set(one.chain.count, match)
    return match
  }
  return { ...pool, match }
})

const SLOTS = 40

/** What of a life may be told otherwise. */
interface Telling {
  /** The number of the i-th slot, and of the i-th tenant. */
  readonly slot?: (index: number) => number
  readonly tenant?: (index: number) => number
  readonly weight?: number
  /** What is left in the object of a request that has ended. */
  readonly left?: Facts
  /** Told of every answer of `next`, with what was queued before it. */
  readonly seen?: (slot: number, queued: ReadonlySet<number>, life: OrderingLife) => void
}

/**
 * Drives an ordering through random lives of requests in 40 slots that are used again, then empties it. Returns the answers of `next`.
 */
export const live = ({ make }: OrderingSubject, told: Calls, telling: Telling = {}): Array<number> => {
  const { left = rubbish, seen, slot: slotOf = (i) => i, tenant: tenantOf = (i) => i, weight = 1 } = telling
  const ordering = make({}, makeRng(1))
  const life = new OrderingLife(ordering, pools[0]!, left)
  const free = Array.from({ length: SLOTS }, (_, i) => slotOf(i))
  const order: Array<number> = []
  const oneOf = (which: number, ...places: ReadonlyArray<ReadonlySet<number>>): number | undefined => {
    const slots = places.flatMap((place) => [...place])
    return slots[which % slots.length]
  }
  const take = (): void => {
    const before = new Set(life.queued)
    const slot = life.take()
    order.push(slot)
    seen?.(slot, before, life)
  }
  for (const { facts, later, reason, step, tokens, which } of told) {
    life.nowMs += later
    life.pool = pools[which % pools.length]!
    const { arrivedMs: _, ...rest } = facts
    const brought = {
      ...rest,
      tenant: tenantOf(facts.tenant),
      weight: facts.weight * weight,
      deadlineMs: life.nowMs + (facts.idLow % 20_000)
    }
    const uncachedTokens = Math.floor(facts.promptTokens / 2)
    const queued = [...life.queued]
    if (step === "arrive" && free.length > 0) life.arrive(free.splice(which % free.length, 1)[0]!, brought)
    else if (step === "arriveAtOnce" && free.length > 0 && queued.length === 0)
      life.arriveAtOnce(free.splice(which % free.length, 1)[0]!, brought, uncachedTokens)
    else if (step === "take") take()
    const taken = oneOf(which, life.taken)
    const placed = oneOf(which, life.placed)
    const streaming = oneOf(which, life.streaming)
    if (step === "place" && taken !== undefined)
      life.place(taken, Math.min(uncachedTokens, life.at(taken).promptTokens))
    if (step === "putBack" && taken !== undefined) life.putBack(taken)
    if (step === "drop" && taken !== undefined) {
      life.drop(taken)
      free.push(taken)
    }
    if (step === "lose" && placed !== undefined) life.lose(placed)
    if (step === "hedge" && placed !== undefined) life.hedge(placed)
    if (step === "start" && placed !== undefined) life.start(placed)
    if (step === "produce" && streaming !== undefined) life.produce(streaming, tokens)
    const ending = oneOf(which, life.queued, life.placed, life.streaming)
    if (step === "end" && ending !== undefined) {
      expect(life.end(ending, reason)).toBe(true)
      expect(ordering.remove(ending)).toBe(false)
      free.push(ending)
    }
    expect(ordering.size()).toBe(life.queued.size)
  }
  for (let waiting = life.queued.size; waiting > 0; waiting--) take()
  expect(ordering.next(life.pool, life.nowMs)).toBe(-1)
  return order
}

const shuffled = (count: number): fc.Arbitrary<ReadonlyArray<number>> => {
  const numbers = Array.from({ length: count }, (_, i) => i)
  return fc.shuffledSubarray(numbers, { minLength: count })
}

const renumbered = shared(fc.record({ told: calls, slots: shuffled(SLOTS), tenants: shuffled(4) }), 100)
const reweighted = shared(fc.record({ told: calls, weight: fc.constantFrom(0.25, 4, 1024) }), 100)
const returning = shared(
  fc.record({
    requests: fc.array(request, { maxLength: 24 }),
    returns: fc.array(fc.array(fc.boolean(), { maxLength: 4 }), { maxLength: 4 })
  })
)

export const orderingLaws: ReadonlyArray<OrderingLaw> = [
  {
    id: "ordering-conserves",
    statement:
      "gives out each queued request once, whatever happens in between and in whatever order it is told; a removed one never; its size is exact",
    check: (subject) =>
      lives((told) => {
        live(subject, told, {
          seen: (slot, queued) => expect(slot === -1 || queued.has(slot)).toBe(true)
        })
      })
  },
  {
    id: "ordering-work-conserving",
    statement: "gives out a request whenever one is queued, so that n calls of next give out n",
    check: (subject) =>
      lives((told) => {
        live(subject, told, { seen: (slot, queued) => expect(slot >= 0).toBe(queued.size > 0) })
      })
  },
  {
    id: "ordering-deterministic",
    statement: "the same calls give the same order",
    check: (subject) => lives((told) => expect(live(subject, told)).toEqual(live(subject, told)))
  },
  {
    id: "ordering-forgets",
    statement: "what becomes of a request's object after its end changes nothing",
    check: (subject) =>
      lives((told) => {
        const left = { tenant: 1, class: 0, weight: 0.01, promptTokens: 0 }
        expect(live(subject, told, { left })).toEqual(live(subject, told))
      })
  },
  {
    id: "ordering-equivariant",
    statement: "other numbers for slots and tenants give the same requests: numbers mean nothing",
    check: (subject) =>
      renumbered(({ told, slots, tenants }) => {
        const other = live(subject, told, { slot: (i) => slots[i]!, tenant: (i) => tenants[i]! })
        expect(other).toEqual(live(subject, told).map((slot) => slots[slot] ?? -1))
      })
  },
  {
    id: "ordering-weights",
    statement: "the weights of all tenants times one factor give the same order",
    check: (subject) =>
      reweighted(({ told, weight }) => expect(live(subject, told, { weight })).toEqual(live(subject, told)))
  },
  {
    id: "ordering-requeue",
    statement:
      "a request that comes back, placed meanwhile or not, keeps its place among those of its tenant",
    check: (subject) =>
      returning(({ requests, returns }) =>
        expect(orderWithin(subject, requests, returns)).toEqual(orderWithin(subject, requests, []))
      )
  },
  {
    id: "ordering-bounds",
    statement: "takes the largest slot and tenant there can be, and no larger slot; a slot is queued once",
    check: ({ make }) => {
      const ordering = make({}, makeRng(1))
      const [pool] = pools
      const last = { ...oneRequest, slot: 65_535, tenant: 16_383 }
      ordering.enqueue(last, pool!, 0)
      expect(() => ordering.enqueue(last, pool!, 0)).toThrow("queued once")
      expect(() => ordering.enqueue({ ...last, slot: 65_536 }, pool!, 0)).toThrow("65 536")
      expect(ordering.size()).toBe(1)
      expect(ordering.next(pool!, 0)).toBe(65_535)
    }
  }
]

/** By tenant, the order in which requests that came 1 ms apart are given out, after some were taken and came back. */
const orderWithin = (
  { make }: OrderingSubject,
  requests: ReadonlyArray<Facts>,
  returns: ReadonlyArray<ReadonlyArray<boolean>>
): ReadonlyMap<number | undefined, Array<number>> => {
  const life = new OrderingLife(make({}, makeRng(1)), pools[1]!)
  for (const [slot, { arrivedMs: _, ...facts }] of requests.entries()) {
    life.nowMs++
    life.arrive(slot, facts)
  }
  for (const ways of returns) {
    const taken = ways.map(() => life.take()).filter((slot) => slot >= 0)
    for (const [i, slot] of taken.entries()) {
      if (ways[i] === true) life.place(slot)
    }
    for (const [i, slot] of taken.entries()) {
      if (ways[i] === true) life.lose(slot)
      else life.putBack(slot)
    }
  }
  const order = requests.map(() => life.take())
  return Map.groupBy(order, (slot) => requests[slot]?.tenant)
}

/** First come, first served: true of the ordering by arrival, and of any other while it has nothing to prefer. */
export const arrivalOrder: OrderingLaw = {
  id: "ordering-arrival",
  statement:
    "the next request is one that arrived no later than any other in the queue, requeued ones included",
  check: (subject) =>
    lives((told) => {
      live(subject, told, {
        seen: (slot, queued, life) => {
          for (const other of queued)
            expect(life.at(slot).arrivedMs).toBeLessThanOrEqual(life.at(other).arrivedMs)
        }
      })
    })
}
