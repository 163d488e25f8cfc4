import { describe, expect, test } from "bun:test"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { affinityState, weightedScore } from "../../../src/policies/affinity.ts"
import type { OptionValue } from "../../../src/domain/config/pipeline.ts"
import { findPlacement } from "../../../src/policies/registry.ts"
import { hash64, mix } from "../../../src/structures/hash.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { chiSquareRatio } from "../../support/chiSquare.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { chainOf, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

const KEYS = 20_000

/** The score of a worker of some speed for a key, from the hash of both. */
type Subject = (hash: number, speed: number) => number

/** The home of each of many sessions among workers of these speeds, by the policy itself or by the best of such scores. */
const homes = (speeds: ReadonlyArray<number>, subject?: Subject): ReadonlyArray<number> => {
  const pool = poolOf(equalWorkers(speeds.length).map((row, i) => ({ ...row, speed: speeds[i]! })))
  const placement = findPlacement("rendezvous").make({}, makeRng(1))
  const { keyHigh, keyLow, speed } = pool.workers
  return Array.from({ length: KEYS }, (_, i) => {
    const { high, low } = hash64(`session ${i}`)
    if (subject === undefined)
      return placement.pick({ ...oneRequest, sessionHigh: high, sessionLow: low }, pool, 0)
    const scores = Array.from(speed, (each, slot) =>
      subject(mix(mix(0, high, low), keyHigh[slot]!, keyLow[slot]!), each)
    )
    return scores.indexOf(Math.max(...scores))
  })
}

const counted = (found: ReadonlyArray<number>, count: number): Array<number> => {
  const counts = Array.from({ length: count }, () => 0)
  for (const home of found) counts[home]!++
  return counts
}

const laws = [
  {
    id: "rendezvous-proportional",
    check: (subject: Subject | undefined) => {
      for (const speeds of [
        [1, 1],
        [1, 2],
        [0.5, 1, 1, 2, 4],
        [1, 100]
      ]) {
        const sum = speeds.reduce((total, each) => total + each)
        const expected = speeds.map((each) => (KEYS * each) / sum)
        expect(chiSquareRatio(counted(homes(speeds, subject), speeds.length), expected)).toBeLessThan(1)
      }
    }
  },
  {
    id: "rendezvous-disruption",
    check: (subject: Subject | undefined) => {
      const before = homes([1, 2, 1, 0.5], subject)
      const slower = homes([1, 1, 1, 0.5], subject)
      for (const [i, home] of slower.entries()) if (home !== before[i]) expect(before[i]).toBe(1)
      const joined = homes([1, 2, 1, 0.5, 1.5], subject)
      for (const [i, home] of joined.entries()) if (home !== before[i]) expect(home).toBe(4)
      const share = (KEYS * 1.5) / 6
      const moved = joined.filter((home) => home === 4).length
      expect(chiSquareRatio([moved, KEYS - moved], [share, KEYS - share])).toBeLessThan(1)
    }
  }
]

const defects: ReadonlyArray<Planted<Subject | undefined>> = [
  ["multiplies the hash by the speed", "rendezvous-proportional", (hash, speed) => hash * speed],
  ["looks at no speed", "rendezvous-proportional", (hash) => hash],
  [
    "takes the bits of the speed into the hash",
    "rendezvous-disruption",
    (hash, speed) => weightedScore(mix(hash, 0, speed * 1024), speed)
  ]
]

describe("rendezvous", () => keepsAll(laws, undefined))
describe("planted defects", () => findsAll(laws, defects))

// Sessions stay with their workers across versions of Parallax too.
test("golden homes of twelve sessions among four workers of unequal speed", () => {
  expect(homes([1, 2, 1, 0.5]).slice(0, 12).join(" ")).toBe("1 0 1 0 1 2 0 2 1 1 0 1")
})

describe("what counts as the same key", () => {
  const placement = (options: Readonly<Record<string, OptionValue>>) =>
    findPlacement("rendezvous").make(options, makeRng(1))
  const pool = poolOf(equalWorkers(64))
  const session = { sessionHigh: 7, sessionLow: 9 }
  const other = { sessionHigh: 7, sessionLow: 10 }
  const long = { chain: chainOf([1, 2, 3, 4, 5]) }
  const sameStart = { chain: chainOf([1, 2, 3, 4, 6]) }
  const otherStart = { chain: chainOf([1, 2, 3, 9, 5]) }
  const short = { chain: chainOf([1, 2]) }

  test.each<
    [string, Readonly<Record<string, OptionValue>>, Partial<RequestView>, Partial<RequestView>, boolean]
  >([
    ["a session", {}, { ...session, ...long }, { ...session, ...otherStart, tenant: 3 }, true],
    ["another session", {}, { ...session, ...long }, { ...other, ...long }, false],
    ["no session, one prefix", {}, long, sameStart, true],
    ["no session, another prefix", {}, long, otherStart, false],
    ["neither", {}, {}, {}, false],
    ["a tenant", { key: "tenant" }, { ...session, ...long }, other, true],
    ["another tenant", { key: "tenant" }, session, { ...session, tenant: 3 }, false],
    ["a prefix", { key: "prefix" }, { ...session, ...long }, { ...other, ...sameStart }, true],
    ["a prefix of five blocks", { key: "prefix", prefixBlocks: 5 }, long, sameStart, false],
    ["short prompts", { key: "prefix" }, short, short, true],
    ["no prefix, a session", { key: "prefix" }, session, session, true]
  ])("%s", (_, options, one, two, same) => {
    // Ids differ, so that they do not make a pair of requests alike.
    const picks = (request: Partial<RequestView>, id: number) =>
      placement(options).pick({ ...oneRequest, ...request, idLow: id }, pool, 0)
    expect(picks(one, 1) === picks(two, 2)).toBe(same)
  })

  test("a session is not taken for the tenant or the prefix of the same number", () => {
    const states = [
      affinityState({ ...oneRequest, sessionLow: 5 }, "session", 4),
      affinityState({ ...oneRequest, tenant: 5 }, "tenant", 4),
      affinityState(
        { ...oneRequest, chain: { count: 1, high: new Uint32Array([0]), low: new Uint32Array([5]) } },
        "prefix",
        4
      )
    ]
    expect(new Set(states).size).toBe(3)
  })
})
