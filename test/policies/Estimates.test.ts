import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { Estimates } from "../../src/policies/estimators/Estimates.ts"
import { OutputLengths } from "../../src/policies/estimators/OutputLengths.ts"
import { holds } from "../support/arbitraries.ts"
import { oneRequest, poolOf } from "../support/pools.ts"

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
