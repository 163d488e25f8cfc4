import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { cells, type Extent, extents, groups, heldOutCells, nameOf } from "../../bench/compare/cells.ts"
import { policyTable, withCells, withSummary } from "../../bench/compare/report.ts"
import { type Results, readResults } from "../../bench/compare/results.ts"
import { others, rivalry, type Row, runCell } from "../../bench/compare/runCell.ts"
import { windowOf } from "../../bench/compare/traffic.ts"
import { halfWidth, verdictsOf } from "../../bench/compare/verdicts.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { pipelines } from "../../src/policies/pipelines.ts"
import { placements, rivals } from "../../src/policies/registry.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { holds } from "../support/arbitraries.ts"

const trace: Trace = generateTraffic({
  requests: 120,
  requestsPerSecond: 20,
  dispersion: 1,
  promptTokens: { mean: 800, variation: 1 },
  outputTokens: { mean: 20, variation: 1 },
  seed: 1
})

test("a window has its requests in order, and every request of a trace is in as many copies as asked for", () => {
  holds(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 700 }),
      fc.integer({ min: 1, max: 9 }),
      (copies, requests, seed) => {
        const extent: Extent = { copies, requests }
        const arrivals = windowOf(trace, extent, seed).requests.map(({ arrivalMs }) => arrivalMs)
        expect(arrivals).toHaveLength(Math.min(requests, copies * trace.requests.length))
        expect(arrivals).toEqual(arrivals.toSorted((a, b) => a - b))
        const whole = windowOf(trace, { copies, requests: copies * trace.requests.length }, seed).requests
        const tokens = whole.reduce((sum, { promptTokens }) => sum + promptTokens, 0)
        expect(tokens).toBe(copies * trace.requests.reduce((sum, { promptTokens }) => sum + promptTokens, 0))
      }
    )
  )
})

test("everybody competes: rivals twice with each published set of parameters, every preset and placement of ours once", () => {
  const names = rivalry().map(({ name }) => name)
  for (const { name } of rivals) {
    const sets = names.filter((each) => each.split(/[: ]/)[0] === name)
    expect(sets.filter((each) => each.endsWith(" bare"))).toHaveLength(sets.length / 2)
    expect(sets.length).toBeGreaterThanOrEqual(2)
  }
  expect(others()).toHaveLength(Object.keys(pipelines).length - 1 + placements.length - 1)
})

test("a cell is replayed at its load, the others once and the first for each seed", () => {
  const [ours, ...theirs] = rivalry()
  const cell = { trace: "made-up", engine: "8b-h100", workers: 2, load: 0.5 } as const
  const { bound, rows, speed } = runCell(cell, trace, { extent: { copies: 1, requests: 60 }, seeds: 2 }, [
    [ours!],
    theirs.slice(0, 1)
  ])
  expect([speed.length, bound.length]).toEqual([2, 2])
  expect(rows["default"]!.goodput).toHaveLength(2)
  expect(rows[theirs[0]!.name]!.goodput).toHaveLength(1)
  const twice = runCell({ ...cell, load: 1 }, trace, { extent: { copies: 1, requests: 60 }, seeds: 1 }, [
    [ours!],
    []
  ])
  expect(twice.speed[0]! / speed[0]!).toBeCloseTo(2, 2)
})

describe("verdicts", () => {
  const row = (...goodput: ReadonlyArray<number>): Row => {
    const ms = goodput.map((share) => 1000 - share)
    return { goodput, ttftMs: ms, tpotMs: ms, refused: ms, hit: ms }
  }
  const results = (...ours: ReadonlyArray<Row>): Results => ({
    machine: { cpu: "", cores: 1, os: "", bun: "" },
    targets: { ttftMs: 5000, tpotMs: 100 },
    warmUp: 0,
    cells: Object.fromEntries(
      ours.map((each, i) => [
        nameOf(cells[i]!),
        {
          commit: "c",
          date: "d",
          extent: { copies: 1, requests: 1 },
          seeds: each.goodput.length,
          speed: [1],
          bound: [1],
          rows: {
            default: each,
            a: row(0.7, 0.7),
            "a bare": row(0.5, 0.5),
            b: row(0.2, 0.2),
            "b bare": row(0.6, 0.6)
          }
        }
      ])
    )
  })

  test("are against the best rival of each kind, worst losses first", () => {
    const [worst, second, third] = verdictsOf(results(row(0.9, 0.9), row(0.3, 0.4), row(0.65, 0.65)), cells)
    expect([worst!.cell, second!.cell, third!.cell]).toEqual([cells[1]!, cells[2]!, cells[0]!])
    expect([worst!.bare.rival, worst!.admitting.rival]).toEqual(["b", "a"])
    expect(worst!.bare.gain.mean).toBeCloseTo(-0.25)
    expect([second!.bare.holds, second!.admitting.holds]).toEqual([true, false])
    expect([third!.bare.isSooner, worst!.bare.isSooner]).toEqual([true, false])
  })

  test("hold where the interval of the gain reaches 0", () => {
    expect(verdictsOf(results(row(0.5, 0.71)), cells)[0]!.bare.holds).toBe(true)
    expect(verdictsOf(results(row(0.5, 0.59)), cells)[0]!.bare.holds).toBe(false)
  })

  test("say who is less also by intervals that are as wide as few windows ask for", () => {
    const lost = (...ours: ReadonlyArray<number>) => verdictsOf(results(row(...ours)), cells)[0]!.bare
    expect(lost(0.58, 0.59)).toMatchObject({ holds: false, isLess: false, isSooner: false, isLater: false })
    expect(lost(0.58, 0.581)).toMatchObject({ holds: false, isLess: true, isSooner: false, isLater: true })
    expect(lost(0.61, 0.62)).toMatchObject({ isLess: false, isLater: false })
  })

  test.each([2, 3, 5, 10])("cover the truth in 95 of 100 cases with %i normal values", (count) => {
    const rng = makeRng(5)
    const normal = (): number => Math.sqrt(-2 * Math.log(1 - rng.next())) * Math.cos(2 * Math.PI * rng.next())
    const runs = 4000
    const covered = Array.from({ length: runs }, () => Array.from({ length: count }, normal)).filter(
      (values) => Math.abs(values.reduce((sum, value) => sum + value, 0)) / count <= halfWidth(values)
    )
    expect(covered.length / runs).toBeWithin(0.94, 0.96)
  })

  test("a page keeps what is around the table, and the table is written once", () => {
    const page = "above\n<!-- comparison -->\nold\n<!-- end of comparison -->\nbelow\n"
    const filled = withSummary(page, results(row(0.9, 0.9)))
    expect(filled).toMatch(
      /^above\n<!-- comparison -->\n\n\| trace[^]*\*\*90.0\*\* \/ 60.0[^]*<!-- end of comparison -->\nbelow\n$/
    )
    expect(filled).not.toContain("old")
    expect(withSummary(filled, results(row(0.9, 0.9)))).toBe(filled)
  })

  test("of cells that are held out stay among themselves", () => {
    const won = results(row(0.9, 0.9))
    const lost = Object.values(results(row(0.3, 0.3)).cells)[0]!
    const both = { ...won, cells: { ...won.cells, [nameOf(heldOutCells[0]!)]: { ...lost, commit: "d" } } }
    const markers = ["policies", ...Object.keys(groups)].map(
      (name) => `<!-- ${name} -->\n<!-- end of ${name} -->\n`
    )
    const [first, second] = withCells(markers.join(""), both).split("<!-- end of cells -->")
    expect(first).toMatch(/commit c\.[^]*rival: 1 of 1 cells/)
    expect(first).not.toContain(heldOutCells[0]!.trace)
    expect(second).toMatch(/commit d\.[^]*rival: 0 of 1 cells/)
    expect(second).not.toContain(cells[0]!.trace)
    const page = "<!-- comparison --><!-- end of comparison -->"
    expect(withSummary(page, both)).toBe(withSummary(page, won))
  })
})

test("nothing that parameters are chosen on is held out", () => {
  for (const part of ["trace", "engine", "workers"] as const) {
    const [chosenOn, heldOut] = [cells, heldOutCells].map(
      (listed) => new Set(listed.map((cell) => cell[part]))
    )
    expect(chosenOn!.isDisjointFrom(heldOut!)).toBe(true)
  }
})

test("the results in the repository have every cell", () => {
  expect(Object.keys(readResults().cells).toSorted()).toEqual(
    Object.values(groups).flat().map(nameOf).toSorted()
  )
  for (const { extent } of Object.values(readResults().cells))
    expect(Object.values(extents)).toContainEqual(extent)
})

test("every policy has one line, the best of all traces first", () => {
  const results = readResults()
  const names = new Set(cells.flatMap((cell) => Object.keys(results.cells[nameOf(cell)]?.rows ?? {})))
  const [head, ...lines] = policyTable(results)
  expect(head).toEqual(["policy", ...new Set(cells.map(({ trace }) => trace)), "mean"])
  expect(new Set(lines.map(([title]) => title)).size).toBe(names.size)
  expect(lines).toHaveLength(names.size)
  const means = lines.map((line) => Number(line.at(-1)))
  expect(means).toEqual(means.toSorted((a, b) => b - a))
  const ours = lines.find(([title]) => title === "default")!
  const shares = cells.flatMap((cell) => results.cells[nameOf(cell)]!.rows["default"]!.goodput[0]!)
  // Each trace is in as many cells.
  expect(Number(ours.at(-1))).toBeCloseTo(
    (100 * shares.reduce((sum, share) => sum + share, 0)) / shares.length,
    0
  )
})
