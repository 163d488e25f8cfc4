import { expect } from "bun:test"
import * as fc from "fast-check"
import { isRetryable } from "../../src/domain/Outcome.ts"
import type { Admission, QueueView, Rejection } from "../../src/policies/Admission.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { candidates, holds, request } from "../support/arbitraries.ts"
import { poolOf } from "../support/pools.ts"

export interface AdmissionSubject {
  readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Admission
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
  )
})

const situation = fc.record({ seed: fc.nat(), rows: candidates(), request, queue })

const decide = (
  { make }: AdmissionSubject,
  { seed, rows, request: one, queue: view }: typeof situation extends fc.Arbitrary<infer A> ? A : never
): Rejection | null => make({}, makeRng(seed)).decide(one, poolOf(rows), view, one.arrivedMs)

export const admissionLaws: ReadonlyArray<AdmissionLaw> = [
  {
    id: "admission-retry-after",
    statement: "a rejection has a reason worth a retry and a retry-after in whole ms from 1 to a day",
    check: (subject) =>
      holds(
        fc.property(situation, (one) => {
          const rejection = decide(subject, one)
          if (rejection === null) return
          expect(isRetryable(rejection.reason)).toBe(true)
          expect(Number.isInteger(rejection.retryAfterMs)).toBe(true)
          expect(rejection.retryAfterMs).toBeGreaterThanOrEqual(1)
          expect(rejection.retryAfterMs).toBeLessThanOrEqual(86_400_000)
        })
      )
  },
  {
    id: "admission-deterministic",
    statement: "the same seed and situation give the same decision",
    check: (subject) =>
      holds(fc.property(situation, (one) => expect(decide(subject, one)).toEqual(decide(subject, one))))
  },
  {
    id: "admission-monotone",
    statement:
      "a request let in is let in with a shorter queue too, and a longer queue never shortens the retry-after",
    check: (subject) =>
      holds(
        fc.property(situation, fc.double({ min: 0, max: 1, noNaN: true }), (longer, share) => {
          fc.pre(Number.isFinite(longer.queue.expectedWaitMs))
          const shorter = {
            ...longer,
            queue: {
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
    id: "admission-idle",
    statement: "an empty queue with room at a worker admits the request",
    check: (subject) =>
      holds(
        fc.property(situation, (one) => {
          const rows = one.rows.map((row) => ({ ...row, eligible: true }))
          fc.pre(rows.length > 0)
          const idle = { queuedCount: 0, queuedPromptTokens: 0, expectedWaitMs: 0 }
          expect(decide(subject, { ...one, rows, queue: idle })).toBeNull()
        })
      )
  }
]
