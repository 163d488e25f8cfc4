import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { DecisionTime } from "../../src/simulator/replay/DecisionTime.ts"
import { type Outcomes, replay, type ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { replays } from "../support/replays.ts"

const columnsOf = (outcomes: Outcomes) => Object.values(outcomes).map((column) => Array.from<number>(column))
const chosen = (policy: string) => ({ policy, options: {} })

/** Placements one by one and together, and an admission that drops what waited. */
const some: fc.Arbitrary<ReplayOptions> = fc
  .record({
    options: replays,
    admission: fc.constantFrom([], [chosen("slo-feasible")], [chosen("bounded-wait")]),
    placement: fc.constantFrom(chosen("least-work"), chosen("prefix-scan"), chosen("disaggregated"))
  })
  .map(({ admission, options, placement }) => ({
    ...options,
    pipeline: { ...options.pipeline, admission, placement, batching: chosen("same-turn") }
  }))

test("decisions under the clock are the same, and take some time", () => {
  fc.assert(
    fc.property(some, (options) => {
      const time = new DecisionTime()
      const timed = replay({ ...options, adapted: time.adapted })
      expect(columnsOf(timed.outcomes)).toEqual(columnsOf(replay(options).outcomes))
      expect(time.ns).toBeGreaterThan(0)
    }),
    { numRuns: 40 }
  )
})
