import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { erlangB, erlangC, leastGroups, meanWait, waitingLonger } from "../../src/structures/ErlangC.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

const functions = { erlangB, erlangC, meanWait, waitingLonger, leastGroups }

type Erlang = typeof functions

/** The loads of 0 to `servers` busy servers, each relative to all: what the closed forms are made of. */
const termsOf = (servers: number, load: number): ReadonlyArray<number> => {
  const terms = [1]
  for (let n = 1; n <= servers; n++) terms.push((terms[n - 1]! * load) / n)
  return terms
}

const sum = (terms: ReadonlyArray<number>): number => terms.reduce((total, term) => total + term, 0)

const closedB = (servers: number, load: number): number => {
  const terms = termsOf(servers, load)
  return terms[servers]! / sum(terms)
}

const closedC = (servers: number, load: number): number => {
  const terms = termsOf(servers, load)
  const waits = (terms[servers]! * servers) / (servers - load)
  return waits / (sum(terms.slice(0, servers)) + waits)
}

const near = (value: number, expected: number): void =>
  expect(Math.abs(value - expected)).toBeLessThanOrEqual(1e-9 * Math.max(1, Math.abs(expected)))

const servers = fc.integer({ min: 1, max: 100 })
const share = fc.double({ min: 0.001, max: 0.999, noNaN: true })
const stable = fc.tuple(servers, share).map(([count, use]) => ({ count, load: count * use }))
const goal = fc.record({
  size: fc.integer({ min: 1, max: 16 }),
  time: fc.double({ min: 0, max: 5, noNaN: true }),
  share: fc.double({ min: 0.001, max: 0.5, noNaN: true })
})

const laws = [
  {
    id: "erlang-closed-form",
    check: (of: Erlang) =>
      holds(
        fc.property(stable, fc.double({ min: 0, max: 5, noNaN: true }), ({ count, load }, time) => {
          near(of.erlangB(count, load), closedB(count, load))
          near(of.erlangC(count, load), closedC(count, load))
          near(of.meanWait(count, load), closedC(count, load) / (count - load))
          near(of.waitingLonger(count, load, time), closedC(count, load) * Math.exp(-(count - load) * time))
        })
      )
  },
  {
    id: "erlang-overload",
    check: (of: Erlang) =>
      holds(
        fc.property(servers, fc.double({ min: 1, max: 100, noNaN: true }), (count, factor) => {
          expect(of.erlangC(count, count * factor)).toBe(1)
          expect(of.waitingLonger(count, count * factor, 3)).toBe(1)
          expect(of.meanWait(count, count * factor)).toBe(Number.POSITIVE_INFINITY)
        })
      )
  },
  {
    id: "erlang-least",
    check: (of: Erlang) =>
      holds(
        fc.property(fc.double({ min: 0, max: 60, noNaN: true }), goal, (load, wanted) => {
          const found = of.leastGroups(load, wanted, 64)
          const enough = (groups: number): boolean =>
            load === 0 || waitingLonger(groups * wanted.size, load, wanted.time) <= wanted.share
          if (found < 64) expect(enough(found)).toBe(true)
          if (found > 0) expect(enough(found - 1)).toBe(false)
        })
      )
  }
]

describe("Erlang's formulas", () => {
  keepsAll(laws, functions)

  test("8 servers at 0.8 each: a wait of 0.28603, and 0.45764 of the arrivals wait", () => {
    expect(meanWait(8, 6.4)).toBeCloseTo(0.28603, 5)
    expect(erlangC(8, 6.4)).toBeCloseTo(0.45764, 5)
  })

  test("10 servers and a load of 8: 0.12166 of the arrivals are lost", () =>
    expect(erlangB(10, 8)).toBeCloseTo(0.12166, 5))

  test("a load of thousands neither overflows nor cancels", () => {
    expect(erlangB(10_000, 10_000)).toBeCloseTo(Math.sqrt(2 / (Math.PI * 10_000)), 4)
    expect(leastGroups(10_000, { size: 1, time: 0, share: 0.5 }, 20_000)).toBe(10_051)
  })

  test("is as many as the square-root rule says: the load, and one to two roots of it", () => {
    for (const load of [4, 16, 64, 256, 1024]) {
      const found = leastGroups(load, { size: 1, time: 0, share: 0.1 }, 10_000)
      expect(found).toBeGreaterThanOrEqual(Math.ceil(load + Math.sqrt(load)))
      expect(found).toBeLessThanOrEqual(Math.ceil(load + 2 * Math.sqrt(load)))
    }
  })

  test.each([
    ["no load", 0, 0],
    ["more than all can do", 64, 8],
    ["a load without end", Number.POSITIVE_INFINITY, 8],
    ["a load that is not known", Number.NaN, 8]
  ])("%s", (_, load, groups) => expect(leastGroups(load, { size: 8, time: 1, share: 0.05 }, 8)).toBe(groups))
})

describe("planted defects of Erlang's formulas", () => {
  const defects: ReadonlyArray<Planted<Erlang>> = [
    [
      "starts the recursion at one server",
      "erlang-closed-form",
      { ...functions, erlangB: (count, load) => erlangB(count - 1, load) }
    ],
    [
      "takes those who find all busy for those who wait",
      "erlang-closed-form",
      { ...functions, erlangC: erlangB }
    ],
    [
      "has the mean wait of those who wait",
      "erlang-closed-form",
      { ...functions, meanWait: (count, load) => 1 / (count - load) }
    ],
    [
      "goes on with the formula in overload",
      "erlang-overload",
      { ...functions, meanWait: (count, load) => erlangC(count, load) / (count - load) }
    ],
    [
      "stops one too late",
      "erlang-least",
      { ...functions, leastGroups: (load, wanted, max) => Math.min(max, leastGroups(load, wanted, max) + 1) }
    ],
    [
      "takes groups for servers",
      "erlang-least",
      { ...functions, leastGroups: (load, wanted, max) => leastGroups(load, { ...wanted, size: 1 }, max) }
    ]
  ]
  findsAll(laws, defects)
})
