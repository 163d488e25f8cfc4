import { expect } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { findOrdering } from "../../src/policies/registry.ts"
import type { LedgerOptions, TokenLedger } from "../../src/policies/TokenLedger.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { holds } from "../support/arbitraries.ts"
import { live, swiftCalls } from "./orderingLaws.ts"

export interface LedgerSubject {
  readonly make: (
    options: LedgerOptions,
    pay: (request: RequestView, cost: number) => void
  ) => Pick<TokenLedger, "take" | "place" | "start" | "produce" | "putBack" | "end">
}

/** A statement about what requests pay. `check` throws where it does not hold. */
export interface LedgerLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: LedgerSubject) => void
}

/** What one request has had. */
interface Had {
  promptTokens: number
  placed: boolean
  started: boolean
  outputTokens: number
  paid: number
}

const options: fc.Arbitrary<LedgerOptions> = fc.record({
  inputPrice: fc.nat(3),
  outputPrice: fc.nat(3),
  charge: fc.constantFrom("uncached", "all"),
  predict: fc.boolean()
})

/** An ordering by arrival that keeps the ledger, and tells `ended` what each request has had at its end. */
const keeping = (
  { make }: LedgerSubject,
  made: LedgerOptions,
  ended: (had: Had, reason: Reason) => void
): Ordering => {
  const arrival = findOrdering("arrival").make({}, makeRng(1))
  const requests = new Map<number, RequestView>()
  const had = new Map<number, Had>()
  const of = ({ slot }: RequestView): Had => had.get(slot)!
  const ledger = make(made, (request, cost) => {
    of(request).paid += cost
    expect(of(request).paid).toBeGreaterThanOrEqual(0)
  })
  return {
    ...arrival,
    admitted: (request) => {
      requests.set(request.slot, request)
      had.set(request.slot, { promptTokens: 0, placed: false, started: false, outputTokens: 0, paid: 0 })
    },
    requeue: (request, pool, nowMs) => {
      ledger.putBack(request)
      expect(of(request).paid).toBe(0)
      arrival.requeue(request, pool, nowMs)
      of(request).placed = false
    },
    next: (pool, nowMs) => {
      const slot = arrival.next(pool, nowMs)
      const request = requests.get(slot)
      if (request !== undefined) ledger.take(request, pool)
      return slot
    },
    placed: (request, _worker, pool) => {
      ledger.place(request, pool)
      of(request).placed = true
      of(request).promptTokens = made.charge === "all" ? request.promptTokens : request.uncachedTokens
    },
    started: (request) => {
      ledger.start(request)
      of(request).started = true
    },
    produced: (request, tokens) => {
      ledger.produce(request, tokens)
      of(request).outputTokens += tokens
    },
    ended: (request, reason) => {
      ledger.end(request, reason)
      ended(of(request), reason)
      requests.delete(request.slot)
    }
  }
}

export const ledgerExact: LedgerLaw = {
  id: "ledger-exact",
  statement:
    "at its end a request has paid for its prompt once, unless it was not served by no fault of its own, and for the tokens it was given, whatever happened; never less than 0 before, and nothing while it is queued",
  check: (subject) =>
    holds(
      fc.property(swiftCalls, options, (told, made) => {
        const make = (): Ordering =>
          keeping(subject, made, ({ outputTokens, paid, placed, promptTokens, started }, reason) => {
            const own = reason === Reason.none || reason === Reason.cancelled || reason === Reason.expired
            const prompt = started || (placed && own) ? promptTokens : 0
            expect(paid).toBe(made.inputPrice * prompt + made.outputPrice * outputTokens)
          })
        live({ make }, told)
      })
    )
}
