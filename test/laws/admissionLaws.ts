import { expect } from "bun:test"
import * as fc from "fast-check"
import { isRetryable, type Reason } from "../../src/domain/Outcome.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Admission, AdmissionEntry, QueueView, Rejection } from "../../src/policies/Admission.ts"
import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { candidates, request } from "../support/arbitraries.ts"
import { emptyQueue, poolOf } from "../support/pools.ts"
import { AdmissionLife, type Life, life } from "./admissionLife.ts"

export interface AdmissionSubject {
  readonly make: (options: Readonly<Record<string, OptionValue>>, rng: Rng) => Admission
}

/** An entry with every option at its minimum, where bounds are reached soon. */
export const tightest = ({ options: specs, make }: AdmissionEntry): AdmissionSubject => {
  const options = Object.fromEntries(
    Object.entries(specs).flatMap(([name, spec]) =>
      "minimum" in spec && spec.minimum !== undefined ? [[name, spec.minimum]] : []
    )
  )
  return { make: (_, rng) => make(options, rng) }
}

/** A statement about every admission policy. `check` throws where it does not hold. */
export interface AdmissionLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: AdmissionSubject) => void
}

const queue: fc.Arbitrary<QueueView> = fc.record({
  queuedCount: fc.oneof(fc.nat(10), fc.integer({ min: 4090, max: 4100 }), fc.nat(65_536)),
  queuedPromptTokens: fc.nat(10_000_000),
  expectedWaitMs: fc.oneof(
    fc.constantFrom(0, Number.POSITIVE_INFINITY, Number.MAX_VALUE, 30_000),
    fc.double({ min: 0, max: 100_000, noNaN: true })
  ),
  ceiling: fc.constant(emptyQueue.ceiling)
})

/** Checks a property of whole lives in 400 cases: a defect that shows in 5 % of them escapes once in 10⁹ runs. */
const lives = <Inputs>(property: fc.IProperty<Inputs>): void => fc.assert(property, { numRuns: 400 })

/** A policy that has lived, and what it is asked then. */
const situation = fc.record({ seed: fc.nat(), life, which: fc.nat(), pauseMs: fc.nat(5_000), queue })

type Situation = typeof situation extends fc.Arbitrary<infer A> ? A : never

/** The decision on one more request after a life, in a queue of which nothing is known but what is said. */
const decide = (
  { make }: AdmissionSubject,
  { seed, life: before, which, pauseMs, queue: view }: Situation,
  change: (request: RequestView) => RequestView = (one) => one
): Rejection | null => {
  const lived = new AdmissionLife(make({}, makeRng(seed)), before)
  lived.nowMs += pauseMs
  return lived.admission.decide(change(lived.arriving(which)), lived.pool, view, lived.nowMs)
}

const expectRefusal = ({ reason, retryAfterMs }: Rejection): void => {
  expect(isRetryable(reason)).toBe(true)
  expect(Number.isInteger(retryAfterMs)).toBe(true)
  expect(retryAfterMs).toBeGreaterThanOrEqual(1)
  expect(retryAfterMs).toBeLessThanOrEqual(86_400_000)
}

/** Time in which everything a policy holds against a tenant or a pool has passed. */
const YEAR_MS = 365 * 86_400_000

export const admissionLaws: ReadonlyArray<AdmissionLaw> = [
  {
    id: "admission-retry-after",
    statement: "a rejection has a reason worth a retry and a retry-after in whole ms from 1 to a day",
    check: (subject) =>
      lives(
        fc.property(situation, (one) => {
          const rejection = decide(subject, one)
          if (rejection !== null) expectRefusal(rejection)
        })
      )
  },
  {
    id: "admission-deterministic",
    statement: "the same seed, and the same that happened before, give the same decision",
    check: (subject) =>
      lives(fc.property(situation, (one) => expect(decide(subject, one)).toEqual(decide(subject, one))))
  },
  {
    id: "admission-reads-only",
    statement:
      "changes nothing in what it reads, and what it says of a request it does not hold against the next",
    check: ({ make }) =>
      lives(
        fc.property(fc.nat(), candidates(), request, queue, (seed, rows, one, view) => {
          const pool = poolOf(rows)
          const admission = make({}, makeRng(seed))
          const asked = Object.freeze({ ...one })
          const first = admission.decide(asked, pool, Object.freeze({ ...view }), one.arrivedMs)
          expect(pool.workers).toEqual(poolOf(rows).workers)
          expect(pool.eligible).toEqual(poolOf(rows).eligible)
          for (let again = 0; again < 3; again++)
            expect(admission.decide(asked, pool, view, one.arrivedMs)?.reason).toBe(first?.reason)
        })
      )
  },
  {
    id: "admission-monotone",
    statement:
      "a request let in is let in with a shorter queue too, and a longer queue never shortens the retry-after",
    check: (subject) =>
      lives(
        fc.property(situation, fc.double({ min: 0, max: 1, noNaN: true }), (longer, share) => {
          fc.pre(Number.isFinite(longer.queue.expectedWaitMs))
          const shorter = {
            ...longer,
            queue: {
              ...longer.queue,
              queuedCount: Math.floor(longer.queue.queuedCount * share),
              queuedPromptTokens: Math.floor(longer.queue.queuedPromptTokens * share),
              expectedWaitMs: longer.queue.expectedWaitMs * share
            }
          }
          const [first, second] = [decide(subject, shorter), decide(subject, longer)]
          if (first === null) return
          expect(second).not.toBeNull()
          expect(second!.retryAfterMs).toBeGreaterThanOrEqual(first.retryAfterMs)
        })
      )
  },
  {
    id: "admission-class",
    statement:
      "where a request is let in, a more urgent one is; where it is refused, a less urgent one comes back no sooner",
    check: (subject) =>
      lives(
        fc.property(situation, fc.nat(4), fc.nat(4), (one, a, b) => {
          const [urgent, other] = [Math.min(a, b), Math.max(a, b)].map((rank) =>
            decide(subject, one, (asked) => ({ ...asked, class: rank }))
          )
          if (urgent === null) return
          expect(other).not.toBeNull()
          expect(other!.retryAfterMs).toBeGreaterThanOrEqual(urgent!.retryAfterMs)
        })
      )
  },
  {
    id: "admission-idle",
    statement:
      "an empty queue and workers with nothing on them let a request in, whatever happened a year before",
    check: ({ make }) =>
      lives(
        fc.property(situation, ({ seed, life: before, which }) => {
          const lived = new AdmissionLife(make({}, makeRng(seed)), before)
          lived.finish()
          lived.nowMs += YEAR_MS
          const one = { ...lived.arriving(which), deadlineMs: lived.nowMs + YEAR_MS }
          expect(lived.admission.decide(one, lived.pool, emptyQueue, lived.nowMs)).toBeNull()
        })
      )
  },
  {
    id: "admission-returns",
    statement:
      "once everything has ended, nothing is held back: a year later a burst is decided on as at the start, whatever was cancelled, retried or lost",
    check: ({ make }) =>
      lives(
        fc.property(
          fc.nat(),
          life,
          fc.array(fc.nat(), { minLength: 1, maxLength: 12 }),
          (seed, before, burst) => {
            const decided = (steps: Life["steps"]): ReadonlyArray<Reason | undefined> => {
              const lived = new AdmissionLife(make({}, makeRng(seed)), { ...before, steps })
              lived.finish()
              lived.nowMs = YEAR_MS
              const { length } = lived.decisions
              for (const which of burst) lived.arrive(which)
              return lived.decisions.slice(length).map((decision) => decision?.reason)
            }
            expect(decided(before.steps)).toEqual(decided([]))
          }
        )
      )
  }
]
