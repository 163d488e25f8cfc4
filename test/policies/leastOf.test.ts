import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { LeastCost } from "../../src/policies/LeastCost.ts"
import { leastOf } from "../../src/policies/leastOf.ts"
import { candidates, holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { poolOf } from "../support/pools.ts"

type LeastOf = typeof leastOf

const laws = [
  {
    // Few costs, so that some are tied; and now and then not all workers are asked about.
    id: "least-of-offers",
    check: (subject: LeastOf) =>
      holds(
        fc.property(
          candidates(),
          fc.array(fc.constantFrom(0, 1, 1, 2, Number.POSITIVE_INFINITY), { minLength: 12, maxLength: 12 }),
          fc.nat(12),
          fc.nat(),
          (rows, costs, left, keyState) => {
            const { eligible, workers } = poolOf(rows)
            const count = Math.max(0, rows.length - left)
            const least = new LeastCost()
            least.start(keyState)
            for (const worker of eligible.subarray(0, count)) least.offer(workers, worker, costs[worker]!)
            expect(subject(workers, eligible, count, Float64Array.from(costs), keyState)).toBe(least.worker)
          }
        )
      )
  }
]

describe("leastOf", () => {
  keepsAll(laws, leastOf)
})

const all: LeastOf = (workers, slots, _count, costs, state) =>
  leastOf(workers, slots, slots.length, costs, state)

/** Of several of least cost the first. */
const first: LeastOf = (_workers, slots, count, costs) =>
  slots
    .subarray(0, count)
    .reduce((least, worker) => (costs[worker]! < costs[least]! ? worker : least), slots[0] ?? -1)

const unkeyed: LeastOf = (workers, slots, count, costs) => leastOf(workers, slots, count, costs, 0)

const defects: ReadonlyArray<Planted<LeastOf>> = [
  ["workers beyond the count", "least-of-offers", all],
  ["the first of those tied", "least-of-offers", first],
  ["ties settled for all keys alike", "least-of-offers", unkeyed]
]

describe("planted defects", () => {
  findsAll(laws, defects)
})
