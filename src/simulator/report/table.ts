import { aligned } from "../../structures/aligned.ts"
import { percent } from "../../structures/percent.ts"
import type { Estimate } from "./bootstrap.ts"
import type { Comparison, Result } from "./compare.ts"
import { measuredIn, type MeasureName, measures } from "./measures.ts"
import type { Trial } from "./Study.ts"
import type { Sweep } from "./sweep.ts"

/** What is known of a policy, or of a bound: not every measure. */
type Known = Partial<Readonly<Record<MeasureName, Estimate>>>
type Row = ReadonlyArray<string>

/** A figure as it is shown. */
export interface Cell {
  readonly mean: string
  /** By how much its interval goes beyond the mean on its farther side; empty where there is none. */
  readonly spread: string
  /** Whether no policy is shown with a better one, and some with a worse. */
  readonly best: boolean
}

/** What is known of a policy or a bound, a cell for each measure. */
export interface TableRow {
  readonly title: string
  readonly cells: ReadonlyArray<Cell>
}

/** For people: policies, and below them what bounds them. Measures that no policy has are left out. */
export interface Table {
  readonly head: ReadonlyArray<string>
  readonly policies: ReadonlyArray<TableRow>
  readonly limits: ReadonlyArray<TableRow>
}

/** A title on lines of up to 40 characters, or as many as a part has that is longer: a line begins where `+` joins two parts of a name. */
export const titleLines = (title: string): ReadonlyArray<string> =>
  title.match(/.{1,40}(?=\+\D|$)|.+?(?=\+\D|$)/gs) ?? [title]

export const tableOf = ({ bounds, results }: Comparison): Table => {
  const { alone, capacity, sharedCache } = bounds
  const names = measuredIn(sharedCache.estimates).filter((name) =>
    results.some(({ estimates }) => !Number.isNaN(estimates[name]!.mean))
  )
  const best = new Map(names.map((name) => [name, bestOf(results, name)]))
  const rowOf = (title: string, known: Known, marked?: typeof best): TableRow => ({
    title,
    cells: names.map((name) => cellOf(name, known[name], marked?.get(name)))
  })
  return {
    head: ["policy", ...names.map((name) => measures[name].heading)],
    policies: results.map(({ estimates, policy }) => rowOf(policy, estimates, best)),
    limits: [
      rowOf("bound: each alone", exactly(alone)),
      rowOf(`bound: time${busyText(capacity)}`, exactly(capacity)),
      rowOf(`one infinite cache: ${sharedCache.policy}`, sharedCache.estimates)
    ]
  }
}

const busyText = ({ workersNeeded }: Comparison["bounds"]["capacity"]): string =>
  Number.isNaN(workersNeeded) ? "" : ` (${workersNeeded.toFixed(2)} workers busy)`

export const sweepTableOf = ({ bounds, results }: Sweep, workers: number): Table => {
  const shown = (value: number): string => value.toPrecision(3)
  const best = Math.max(...results.map(({ found }) => found.requestsPerSecond))
  const row = (title: string, { goodput, requestsPerSecond, spanMs, speed }: Trial): TableRow => ({
    title,
    cells: [
      { ...plain(shown(requestsPerSecond)), best: requestsPerSecond === best && best > 0 },
      plain(shown(requestsPerSecond / workers)),
      plain(String(speed)),
      plain(shown(spanMs / 1000)),
      plain(percent(goodput))
    ]
  })
  return {
    head: ["policy", "requests/s", "per worker", "speed", "lasts s", "goodput %"],
    policies: results.map(({ found }) => row(found.policy, found)),
    limits: [
      row("bound", bounds.bound.found),
      row(`one infinite cache: ${bounds.sharedCache.found.policy}`, bounds.sharedCache.found)
    ]
  }
}

/** A table as text: the best with a star; where there are several seeds, the spreads below the means. */
export const tableText = ({ head, limits, policies }: Table): string => {
  const above = policies.flatMap(linesOf)
  const [title = "", ...columns] = head
  const [first, ...lines] = aligned([
    [title, ...columns.map((column) => `${column} `)],
    ...above,
    ...limits.flatMap(linesOf)
  ])
  return [first, ...lines.slice(0, above.length), "", ...lines.slice(above.length)].join("\n")
}

/** A comparison for programs: a line for each policy and bound, mean and interval of each measure; empty where there is none. */
export const comparisonCsv = ({ bounds, results }: Comparison): string => {
  const { alone, capacity, sharedCache } = bounds
  const names = measuredIn(sharedCache.estimates)
  const line = (kind: string, policy: string, known: Known): string =>
    [kind, policy, ...names.flatMap((name) => ends.map((end) => numeral(known[name]?.[end])))].join(",")
  return [
    ["kind", "policy", ...names.flatMap((name) => ends.map((end) => `${name}.${end}`))].join(","),
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

const plain = (mean: string): Cell => ({ mean, spread: "", best: false })

const cellOf = (name: MeasureName, estimate: Estimate | undefined, best: string | undefined): Cell => {
  const mean = show(name, estimate?.mean)
  return { mean, spread: spreadOf(name, estimate), best: mean !== "" && best === mean }
}

const linesOf = ({ cells, title }: TableRow): ReadonlyArray<Row> => {
  const means = cells.map(({ best, mean }) => `${mean}${best ? "*" : " "}`)
  const spreads = cells.map(({ spread }) => `${spread} `)
  const figures = cells.some(({ spread }) => spread !== "") ? [means, spreads] : [means]
  const titles = titleLines(title)
  return Array.from({ length: Math.max(titles.length, figures.length) }, (_, line) => [
    titles[line] ?? "",
    ...(figures[line] ?? cells.map(() => ""))
  ])
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
  const means = results.map(({ estimates }) => estimates[name]!.mean).filter((mean) => !Number.isNaN(mean))
  const best = measures[name].better === "more" ? Math.max(...means) : Math.min(...means)
  return new Set(means.map((mean) => show(name, mean))).size > 1 ? show(name, best) : undefined
}

const numeral = (value = Number.NaN): string =>
  Number.isFinite(value) ? `${Number(value.toPrecision(6))}` : ""
