import { expect } from "bun:test"
import * as fc from "fast-check"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import { holds, request } from "../support/arbitraries.ts"
import { type Facts, OrderingLife } from "../support/OrderingLife.ts"
import { BLOCK_TOKENS, equalWorkers, poolOf } from "../support/pools.ts"

export interface SequencingSubject {
  readonly make: (options: Readonly<Record<string, OptionValue>>) => Ordering
}

/** A statement about an ordering that goes by a key of each request. `check` throws where it does not hold. */
export interface SequencingLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: SequencingSubject) => void
}

const HELD_TOKENS = 10 * BLOCK_TOKENS
const pool = poolOf(equalWorkers(2).map((row, i) => ({ ...row, cachedTokens: i * HELD_TOKENS })))

const arrivals = fc.array(
  fc.record({
    facts: request,
    later: fc.constantFrom(0, 0, 1, 100, 5_000),
    takes: fc.constantFrom(0, 0, 0, 1, 2)
  }),
  { maxLength: 40 }
)

type Arrivals = typeof arrivals extends fc.Arbitrary<infer Value> ? Value : never

/** Calls `check` with each request that is given out, and each other that waits then. */
const eachChoice = (
  ordering: Ordering,
  told: Arrivals,
  check: (given: RequestView, other: RequestView) => void
): void => {
  const life = new OrderingLife(ordering, pool)
  const take = (): void => {
    const waiting = [...life.queued]
    const slot = life.take()
    for (const other of waiting) check(life.at(slot), life.at(other))
  }
  for (const [slot, { facts, later, takes }] of told.entries()) {
    life.nowMs += later
    const { arrivedMs: _, ...rest } = facts
    life.arrive(slot, rest)
    for (let i = Math.min(takes, life.queued.size); i > 0; i--) take()
  }
  while (life.queued.size > 0) take()
}

const heldTokens = ({ chain, promptTokens }: RequestView): number =>
  Math.max(0, Math.min(HELD_TOKENS, chain.count * BLOCK_TOKENS, promptTokens - 1))

export const agingLaw: SequencingLaw = {
  id: "priority-aging",
  statement:
    "a request goes before another exactly if it arrived less than aging after it for each class that it is more urgent by",
  check: ({ make }) =>
    holds(
      fc.property(arrivals, fc.constantFrom(0, 1, 200, 30_000), (told, aging) =>
        eachChoice(make({ aging }), told, (given, other) =>
          expect(given.arrivedMs - other.arrivedMs).toBeLessThanOrEqual((other.class - given.class) * aging)
        )
      )
    )
}

export const shortestAgingLaw: SequencingLaw = {
  id: "shortest-aging",
  statement:
    "within a class a request is overtaken only by one that costs less and came no later than the difference ÷ aging after it; a class only by more urgent ones",
  check: ({ make }) =>
    holds(
      fc.property(
        arrivals,
        fc.constantFrom(0.5, 2000, 1e6),
        fc.constantFrom(0.25, 0.5, 1),
        fc.constantFrom(0, 2),
        (told, aging, outputQuantile, outputPrice) => {
          const costOf = (one: RequestView): number =>
            Math.max(
              1,
              one.promptTokens -
                heldTokens(one) +
                outputPrice * Math.max(1, Math.ceil(one.maxTokens * outputQuantile))
            )
          eachChoice(make({ aging, outputQuantile, outputPrice }), told, (given, other) => {
            expect(given.class).toBeLessThanOrEqual(other.class)
            if (given.class === other.class)
              expect(((given.arrivedMs - other.arrivedMs) / 1000) * aging).toBeLessThanOrEqual(
                costOf(other) - costOf(given) + 1e-6
              )
          })
        }
      )
    )
}

/** Sum of the times at which requests of these lengths end when they are served in this order. */
const totalFlow = (lengths: ReadonlyArray<number>): number => {
  let nowMs = 0
  return lengths.reduce((total, length) => total + (nowMs += length), 0)
}

/** The least value of `of` over all orders. */
const bestOrder = (values: ReadonlyArray<number>, of: (order: ReadonlyArray<number>) => number): number => {
  let best = Number.POSITIVE_INFINITY
  const visit = (order: ReadonlyArray<number>, left: ReadonlyArray<number>): void => {
    if (left.length === 0) best = Math.min(best, of(order))
    for (const [i, value] of left.entries()) visit([...order, value], left.toSpliced(i, 1))
  }
  visit([], values)
  return best
}

export const meanFlowLaw: SequencingLaw = {
  id: "shortest-mean-flow",
  statement: "requests that come together have the least mean time to their ends of all n! orders, n ≤ 8",
  check: ({ make }) => {
    const flowOf = (lengths: ReadonlyArray<number>): number => {
      const life = new OrderingLife(make({ outputPrice: 0 }), pool)
      for (const [slot, promptTokens] of lengths.entries()) life.arrive(slot, { promptTokens })
      return totalFlow(lengths.map(() => life.at(life.take()).promptTokens))
    }
    const length = fc.integer({ min: 1, max: 9 })
    holds(
      fc.property(fc.array(length, { maxLength: 5 }), (lengths) =>
        expect(flowOf(lengths)).toBe(bestOrder(lengths, totalFlow))
      )
    )
    const eight = [5, 3, 8, 1, 9, 2, 2, 7]
    expect(flowOf(eight)).toBe(bestOrder(eight, totalFlow))
  }
}

/** One worker that reads a token in a ms, and does nothing else. */
const unitPool: PoolView = poolOf(
  equalWorkers(1, { prefillTokenMs: 1, baseMs: 0, decodeSequenceMs: 0, inFlight: 0 })
)

interface Due {
  readonly atMs: number
  readonly lengthMs: number
  readonly slackMs: number
}

const due: fc.Arbitrary<Due> = fc.record({
  atMs: fc.nat(12),
  lengthMs: fc.integer({ min: 1, max: 6 }),
  slackMs: fc.nat(14)
})

const endOf = ({ atMs, lengthMs, slackMs }: Due): number => atMs + lengthMs + slackMs

/** Whether some preemptive order meets all deadlines: no span is asked for more work than it is long. */
const feasible = (all: ReadonlyArray<Due>): boolean =>
  all.every(({ atMs: fromMs }) =>
    all.every((last) => {
      const untilMs = endOf(last)
      const asked = all.filter((each) => each.atMs >= fromMs && endOf(each) <= untilMs)
      return asked.reduce((sum, { lengthMs }) => sum + lengthMs, 0) <= Math.max(0, untilMs - fromMs)
    })
  )

/** Requests that end in time on a worker that takes its work up anew every ms. */
const metPreemptively = (ordering: Ordering, all: ReadonlyArray<Due>): number => {
  const life = new OrderingLife(ordering, unitPool)
  const left = all.map(({ lengthMs }) => lengthMs)
  let met = 0
  for (; life.nowMs < 100; life.nowMs++) {
    for (const [slot, one] of all.entries())
      if (one.atMs === life.nowMs)
        life.arrive(slot, { promptTokens: one.lengthMs, maxTokens: 1, deadlineMs: endOf(one) })
    const slot = life.take()
    if (slot < 0) continue
    life.place(slot)
    left[slot]!--
    if (left[slot] === 0 && life.nowMs + 1 <= endOf(all[slot]!)) met++
    if (left[slot]! > 0) {
      const rest: { -readonly [Name in keyof RequestView]: RequestView[Name] } = life.at(slot)
      rest.promptTokens = left[slot]!
      life.lose(slot)
    }
  }
  return met
}

export const deadlinesLaw: SequencingLaw = {
  id: "deadline-feasible",
  statement: "when some order meets all deadlines, this one does (one worker, preemptive)",
  check: ({ make }) =>
    holds(
      fc.property(fc.array(due, { maxLength: 6 }), (all) => {
        fc.pre(feasible(all))
        expect(metPreemptively(make({}), all)).toBe(all.length)
      })
    )
}

/** Requests that end in time when each is served to its end. */
const metInTurn = (ordering: Ordering, all: ReadonlyArray<Due>): number => {
  const life = new OrderingLife(ordering, unitPool)
  for (const [slot, one] of all.entries())
    life.arrive(slot, { promptTokens: one.lengthMs, maxTokens: 1, deadlineMs: one.lengthMs + one.slackMs })
  return all.filter(() => {
    const slot = life.take()
    life.nowMs += all[slot]!.lengthMs
    return life.nowMs <= all[slot]!.lengthMs + all[slot]!.slackMs
  }).length
}

export const lateLaw: SequencingLaw = {
  id: "deadline-late-last",
  statement:
    "of requests that come together no fewer end in time than by deadlines alone, and one that cannot is given out after all that can",
  check: ({ make }) =>
    holds(
      fc.property(fc.array(due, { maxLength: 8 }), (all) => {
        const byDeadline = all.toSorted((a, b) => a.lengthMs + a.slackMs - b.lengthMs - b.slackMs)
        let endMs = 0
        const plainly = byDeadline.filter(
          (one) => (endMs += one.lengthMs) <= one.lengthMs + one.slackMs
        ).length
        expect(metInTurn(make({}), all)).toBeGreaterThanOrEqual(plainly)

        const life = new OrderingLife(make({}), unitPool)
        life.nowMs = 10
        const facts = (one: Due): Facts => ({
          arrivedMs: 0,
          promptTokens: one.lengthMs,
          maxTokens: 1,
          deadlineMs: one.lengthMs + one.slackMs
        })
        for (const [slot, one] of all.entries()) life.arrive(slot, facts(one))
        const late = all.map(() => all[life.take()]!.slackMs < 10)
        expect(late).toEqual(late.toSorted((a, b) => Number(a) - Number(b)))
      })
    )
}

export const sequencingLaws: ReadonlyArray<SequencingLaw> = [
  agingLaw,
  shortestAgingLaw,
  meanFlowLaw,
  deadlinesLaw,
  lateLaw
]
