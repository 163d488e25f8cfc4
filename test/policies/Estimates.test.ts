import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { chargedTtftMs } from "../../src/policies/costs.ts"
import { Estimates } from "../../src/policies/estimators/Estimates.ts"
import { OutputLengths } from "../../src/policies/estimators/OutputLengths.ts"
import { holds } from "../support/arbitraries.ts"
import { charge, equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

test("what is expected of an answer is what the lengths say that ended so far, whoever asked before", () => {
  const asks = fc.record({ tenant: fc.nat(2), maxTokens: fc.constantFrom(20, 400) })
  const ends = fc.record({
    tenant: fc.nat(2),
    outputTokens: fc.nat(300),
    reason: fc.constantFrom(Reason.none, Reason.none, Reason.cancelled)
  })
  holds(
    fc.property(fc.array(fc.oneof(asks, ends), { size: "max", maxLength: 60 }), (steps) => {
      const estimates = new Estimates()
      const lengths = new OutputLengths()
      for (const [nowMs, step] of steps.entries()) {
        if ("reason" in step) {
          estimates.ended({ ...oneRequest, ...step }, step.reason, poolOf([]), nowMs)
          if (step.reason === Reason.none && step.outputTokens > 0)
            lengths.record(step.tenant, step.outputTokens, nowMs)
        } else
          for (const _ of [1, 2])
            expect(estimates.meanOutputTokens({ ...oneRequest, ...step })).toBe(
              lengths.mean(step.tenant, step.maxTokens)
            )
      }
    })
  )
})

test("of each slot the last placement stands, with what the columns said of it then", () => {
  const placements = fc.array(fc.tuple(fc.nat(200), fc.nat(1), fc.integer({ min: 1, max: 4000 })), {
    minLength: 1
  })
  holds(
    fc.property(placements, (all) => {
      const estimates = new Estimates()
      const pool = poolOf(equalWorkers(2, {}))
      const expected = new Map<number, readonly [number, number]>()
      for (const [nowMs, [slot, worker, promptTokens]] of all.entries()) {
        const request = charge(pool, worker, { ...oneRequest, slot, promptTokens }, nowMs)
        estimates.placed(request, worker, pool, nowMs)
        expected.set(slot, [nowMs, chargedTtftMs(pool.workers, worker, nowMs)])
      }
      for (const [slot, placement] of expected)
        expect([estimates.placedMs(slot), estimates.placedTtftMs(slot)]).toEqual([...placement])
    })
  )
})
