import { expect, test } from "bun:test"
import { findPlacement } from "../../../src/policies/registry.ts"
import { hash64 } from "../../../src/structures/hash.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { sampleLaw } from "../../laws/sampleLaw.ts"
import { chiSquareRatio } from "../../support/chiSquare.ts"
import { equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

const sessionAffinity = findPlacement("session-affinity")
const sessions = 20_000

const homes = (count: number): Array<number> => {
  const placement = sessionAffinity.make({}, makeRng(1))
  const pool = poolOf(equalWorkers(count))
  return Array.from({ length: sessions }, (_, i) => {
    const { high, low } = hash64(`session ${i}`)
    return placement.pick({ ...oneRequest, sessionHigh: high, sessionLow: low }, pool, 0)
  })
}

test.each([1, 4, 16])(
  "a worker that joins %d others takes 1/(N+1) of the sessions, evenly, and nothing else moves",
  (count) => {
    const before = homes(count)
    const after = homes(count + 1)
    const taken = Array.from({ length: count }, () => 0)
    for (const [i, home] of after.entries()) {
      if (home === count) taken[before[i]!]!++
      else expect(home).toBe(before[i]!)
    }
    const share = sessions / (count * (count + 1))
    const moved = taken.reduce((sum, each) => sum + each, 0)
    expect(
      chiSquareRatio([...taken, sessions - moved], [...taken.map(() => share), sessions - share * count])
    ).toBeLessThan(1)
  }
)

// A session stays with its worker across versions of Parallax too: prefix caches outlive an upgrade of the balancer.
test("golden homes of ten sessions among five workers", () => {
  expect(homes(5).slice(0, 10).join(" ")).toBe("1 0 1 4 1 4 0 2 3 1")
})

test("requests without a session go to the less loaded of two", () => sampleLaw(2).check(sessionAffinity))
