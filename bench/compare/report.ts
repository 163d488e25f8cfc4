import { assert } from "../../src/structures/assert.ts"
import { mean } from "../../src/structures/mean.ts"
import { percent } from "../../src/structures/percent.ts"
import { markdown, type Table } from "../table.ts"
import { type Cell, cells, groups, nameOf } from "./cells.ts"
import type { Results } from "./results.ts"
import { BARE } from "./runCell.ts"
import { type Against, type Verdict, verdictsOf } from "./verdicts.ts"

/** Every cell of a list, those that were lost first. */
export const cellTable = (results: Results, listed: ReadonlyArray<Cell>): Table => [
  [
    "trace, workers, engine, load",
    "lost",
    "best rival as it is",
    "best with our admission",
    "goodput %",
    "bound",
    "refused %",
    "TTFT ms",
    "rival: goodput",
    "gain",
    "TTFT",
    "admitting: goodput",
    "gain",
    "TTFT"
  ],
  ...verdictsOf(results, listed).map((verdict) => {
    const { admitting, bare, bound, cell, ours } = verdict
    const { high, low, mean } = ours.goodput
    const interval = Number.isNaN(low) ? "" : ` (${percent(low)}–${percent(high)})`
    return [
      nameOf(cell),
      lostIn(verdict),
      bare.rival,
      admitting.rival,
      percent(mean) + interval,
      percent(bound),
      percent(ours.refused),
      ours.ttftMs.toFixed(0),
      ...columnsOf(bare),
      ...columnsOf(admitting)
    ]
  })
]

const columnsOf = ({ gain, goodput, ttftMs }: Against): ReadonlyArray<string> => [
  percent(goodput),
  `${gain.mean >= 0 ? "+" : "−"}${percent(Math.abs(gain.mean))}`,
  ttftMs.toFixed(0)
]

/** In which respects a cell is lost: against rivals as they are (g goodput, t TTFT), and with our admission (G, T). */
const lostIn = ({ admitting, bare }: Verdict): string =>
  [
    bare.holds ? "" : "g",
    bare.isSooner ? "" : "t",
    admitting.holds ? "" : "G",
    admitting.isSooner ? "" : "T"
  ].join("")

/** One line for each trace, engine and number of workers: the goodput of the default and of the best rival as it is, at each load. */
export const summaryTable = (results: Results): Table => {
  const verdicts = new Map(verdictsOf(results, cells).map((verdict) => [nameOf(verdict.cell), verdict]))
  const rows = Map.groupBy(cells, ({ engine, trace, workers }) => `${trace} | ${workers} × ${engine}`)
  return [
    ["trace", "workers", ...[...new Set(cells.map(({ load }) => load))].map((load) => `load ${load}`)],
    ...[...rows].flatMap(([title, group]) => {
      const shown = group.map((cell) => {
        const verdict = verdicts.get(nameOf(cell))
        if (verdict === undefined) return ""
        const [ours, theirs] = [percent(verdict.ours.goodput.mean), percent(verdict.bare.goodput)]
        return verdict.bare.holds ? `**${ours}** / ${theirs}` : `${ours} / **${theirs}**`
      })
      return shown.every((text) => text === "") ? [] : [[...title.split(" | "), ...shown]]
    })
  ]
}

/**
 * Every policy there is: on each trace its goodput, mean over the engines, numbers of workers and loads, of the first window. The best of
 * all traces first.
 */
export const policyTable = ({ cells: kept }: Results): Table => {
  const traces = [...new Set(cells.map(({ trace }) => trace))]
  const played = cells.flatMap((cell) => {
    const rows = kept[nameOf(cell)]?.rows
    return rows === undefined ? [] : [{ trace: cell.trace, rows }]
  })
  const lines = [...new Set(played.flatMap(({ rows }) => Object.keys(rows)))].map((name) => {
    const meanOn = (trace: string): number =>
      mean(played.flatMap((cell) => (cell.trace === trace ? (cell.rows[name]?.goodput[0] ?? []) : [])))
    const means = traces.map(meanOn)
    const isAdmitted = played.some(({ rows }) => Object.hasOwn(rows, name + BARE))
    const title = name.endsWith(BARE)
      ? `${name.replace(BARE, "")}, as it is`
      : isAdmitted
        ? `${name}, with our admission`
        : name
    return { means, overall: mean(means), title }
  })
  const shown = (share: number): string => (Number.isNaN(share) ? "" : percent(share))
  return [
    ["policy", ...traces, "mean"],
    ...lines
      .toSorted((a, b) => b.overall - a.overall)
      .map(({ means, overall, title }) => [title, ...means.map(shown), shown(overall)])
  ]
}

/** What the figures of some cells come from, in one sentence. */
export const aboutText = ({ cells: kept, targets }: Results, listed: ReadonlyArray<Cell>): string => {
  const all = listed.flatMap((cell) => kept[nameOf(cell)] ?? [])
  const commits = [...new Set(all.map(({ commit }) => commit))].join(", ")
  const seeds = all.map((cell) => cell.seeds)
  const [fewest, most] = [Math.min(...seeds), Math.max(...seeds)]
  const windows =
    most === 1
      ? "one window of each trace"
      : `mean of ${fewest === most ? "" : `${fewest} to `}${most} windows of each trace`
  return (
    `Share of requests, in %, that had their first token within ${targets.ttftMs / 1000} s and further ones every ${targets.tpotMs} ms: default ` +
    `pipeline / best of the rivals as they are, ${windows}; commit ${commits}.`
  )
}

/** Text with the part between two markers of this name replaced; the markers stay. */
const withPart = (text: string, name: string, part: string): string => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`]
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  assert(from >= 0 && to > from, `the page has the markers of ${name}`)
  return `${text.slice(0, from + begin.length)}\n\n${part}\n\n${text.slice(to)}`
}

/** README.md with the summary of what was kept in its place. */
export const withSummary = (text: string, results: Results): string =>
  withPart(text, "comparison", `${markdown(summaryTable(results))}\n\n${aboutText(results, cells)}`)

/** docs/comparison.md with every policy and every group of cells in its place. */
export const withCells = (text: string, results: Results): string => {
  const page = withPart(text, "policies", markdown(policyTable(results), 1))
  return Object.entries(groups).reduce(
    (filled, [name, listed]) => withPart(filled, name, cellsText(results, listed)),
    page
  )
}

const cellsText = (results: Results, listed: ReadonlyArray<Cell>): string => {
  const counts = tally(results, listed).split("\n")
  return [
    aboutText(results, listed),
    counts.map((line) => `- ${line}`).join("\n"),
    markdown(cellTable(results, listed), 4)
  ].join("\n\n")
}

/** How many cells of a list hold what. */
export const tally = (results: Results, listed: ReadonlyArray<Cell>): string => {
  const verdicts = verdictsOf(results, listed)
  const count = (holds: (verdict: Verdict) => boolean): string =>
    `${verdicts.filter(holds).length} of ${verdicts.length}`
  const high = verdicts.filter(({ cell }) => cell.load > 0.8)
  const better = high.filter(({ bare, ours }) => ours.goodput.mean >= 1.1 * bare.goodput).length
  const below = (rivals: "bare" | "admitting"): string => count((verdict) => verdict[rivals].gain.mean < 0)
  const later = (rivals: "bare" | "admitting"): string =>
    count((verdict) => verdict.ours.ttftMs > verdict[rivals].ttftMs)
  return [
    `goodput at least that of every rival: ${count(({ bare }) => bare.holds)} cells; of every rival with our admission: ${count(({ admitting }) => admitting.holds)}`,
    `mean TTFT at most that of the best rival: ${count(({ bare }) => bare.isSooner)} cells; with our admission: ${count(({ admitting }) => admitting.isSooner)}`,
    `by means alone, less goodput than the best rival: ${below("bare")} cells; with our admission: ${below("admitting")}`,
    `by means alone, a longer mean TTFT: ${later("bare")} cells; with our admission: ${later("admitting")}`,
    `with the intervals of Student's t, which are as wide as few windows ask for, less goodput than the best rival: ${count(({ bare }) => bare.isLess)} cells, with our admission ${count(({ admitting }) => admitting.isLess)}; a longer mean TTFT: ${count(({ bare }) => bare.isLater)}, with our admission ${count(({ admitting }) => admitting.isLater)}`,
    ...(high.length === 0
      ? []
      : [
          `10 % better than the best rival above load 0.8: ${better} of ${high.length} cells, where the bound allows it: ` +
            `${better} of ${high.filter(({ bare, bound }) => bound >= 1.1 * bare.goodput).length}`
        ])
  ].join("\n")
}
