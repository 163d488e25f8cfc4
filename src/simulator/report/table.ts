import type { Estimate } from "./bootstrap.ts"
import type { Comparison, Result } from "./compare.ts"
import { measureNames, type MeasureName, measures } from "./measures.ts"

/** What is known of a policy, or of a bound: not every measure. */
type Known = Partial<Readonly<Record<MeasureName, Estimate>>>
type Row = ReadonlyArray<string>

/**
 * A comparison for people: a line for each policy, the best of each column with a star; where there are several seeds, below it by how
 * much its interval goes beyond the mean on its farther side. Then the bounds.
 */
export const comparisonTable = ({ bounds, results }: Comparison): string => {
  const { alone, capacity, sharedCache } = bounds
  const best = new Map(measureNames.map((name) => [name, bestOf(results, name)]))
  const policies = results.flatMap(({ estimates, policy }) => rowsOf(policy, estimates, best))
  const limits = [
    rowsOf("bound: each alone", exactly(alone)),
    rowsOf(`bound: time (${capacity.workersNeeded.toFixed(2)} workers busy)`, exactly(capacity)),
    rowsOf(`one infinite cache: ${sharedCache.policy}`, sharedCache.estimates)
  ]
  const head = ["policy", ...measureNames.map((name) => `${measures[name].heading} `)]
  const [first, ...lines] = aligned([head, ...policies, ...limits.flat()])
  return [first, ...lines.slice(0, policies.length), "", ...lines.slice(policies.length)].join("\n")
}

/** A comparison for programs: a line for each policy and bound, mean and interval of each measure; empty where there is none. */
export const comparisonCsv = ({ bounds, results }: Comparison): string => {
  const line = (kind: string, policy: string, known: Known): string =>
    [kind, policy, ...measureNames.flatMap((name) => ends.map((end) => numeral(known[name]?.[end])))].join(
      ","
    )
  const { alone, capacity, sharedCache } = bounds
  return [
    ["kind", "policy", ...measureNames.flatMap((name) => ends.map((end) => `${name}.${end}`))].join(","),
    ...results.map(({ estimates, policy }) => line("policy", policy, estimates)),
    line("sharedCache", sharedCache.policy, sharedCache.estimates),
    line("alone", "", exactly(alone)),
    line("capacity", "", exactly(capacity)),
    ""
  ].join("\n")
}

const ends = ["mean", "low", "high"] as const

/** Figures without an interval. */
const exactly = (values: Partial<Record<MeasureName, number>>): Known =>
  Object.fromEntries(
    Object.entries(values).map(([name, mean]) => [name, { mean, low: Number.NaN, high: Number.NaN }])
  )

const rowsOf = (
  title: string,
  known: Known,
  best: ReadonlyMap<MeasureName, string | undefined> = new Map()
): ReadonlyArray<Row> => {
  const means = measureNames.map((name) => {
    const shown = show(name, known[name]?.mean)
    return `${shown}${best.get(name) === shown ? "*" : " "}`
  })
  const spreads = measureNames.map((name) => `${spreadOf(name, known[name])} `)
  return spreads.some((spread) => spread !== " ")
    ? [
        [title, ...means],
        ["", ...spreads]
      ]
    : [[title, ...means]]
}

const show = (name: MeasureName, value: number | undefined): string =>
  value === undefined ? "" : Number.isNaN(value) ? "-" : measures[name].show(value)

const spreadOf = (name: MeasureName, estimate: Estimate | undefined): string => {
  if (estimate === undefined || Number.isNaN(estimate.low)) return ""
  const { high, low, mean } = estimate
  const shown = measures[name].show(Math.max(high - mean, mean - low))
  return /\d/.test(shown) ? `±${shown}` : ""
}

/** As it is shown, so that what looks equal is marked alike; undefined where all look equal. */
const bestOf = (results: ReadonlyArray<Result>, name: MeasureName): string | undefined => {
  const means = results.map(({ estimates }) => estimates[name].mean).filter((mean) => !Number.isNaN(mean))
  const best = measures[name].better === "more" ? Math.max(...means) : Math.min(...means)
  return new Set(means.map((mean) => show(name, mean))).size > 1 ? show(name, best) : undefined
}

/** The first column to the left, the others to the right. */
export const aligned = (rows: ReadonlyArray<Row>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join(" ")
      .trimEnd()
  )
}

const numeral = (value = Number.NaN): string =>
  Number.isFinite(value) ? `${Number(value.toPrecision(6))}` : ""
