import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { findPlacement } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds, scenario } from "../../support/arbitraries.ts"
import { poolOf } from "../../support/pools.ts"

const leastConnections = findPlacement("least-connections")

test("no eligible worker has fewer requests in flight for its speed", () => {
  holds(
    fc.property(scenario, ({ seed, workers, requests }) => {
      const placement = leastConnections.make({}, makeRng(seed))
      const least = Math.min(...workers.filter((row) => row.eligible).map((row) => row.inFlight / row.speed))
      for (const request of requests) {
        const picked = workers[placement.pick(request, poolOf(workers), 0)]
        if (picked !== undefined) expect(picked.inFlight / picked.speed).toBe(least)
      }
    })
  )
})

test("a tie is settled by the request and the keys alone: the same in every process", () => {
  holds(
    fc.property(scenario, fc.nat(), ({ seed, workers, requests }, otherSeed) => {
      const [here, there] = [seed, otherSeed].map((each) => leastConnections.make({}, makeRng(each)))
      const pool = poolOf(workers)
      for (const request of requests) expect(here!.pick(request, pool, 0)).toBe(there!.pick(request, pool, 5))
    })
  )
})
