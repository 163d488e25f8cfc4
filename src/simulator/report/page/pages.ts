import { percent } from "../../../structures/percent.ts"
import type { Targets } from "../../../policies/pipelines.ts"
import type { Comparison } from "../compare.ts"
import { measuredIn, measures } from "../measures.ts"
import type { Plots } from "../plots.ts"
import type { Sweep } from "../sweep.ts"
import { type Cell, sweepTableOf, type Table, tableOf, titleLines } from "../table.ts"
import { type Chart, comparisonCharts, drawnOf, sweepCharts } from "./charts.ts"
import { type HtmlCell, type HtmlTable, type Page, pageOf } from "./html.ts"
import { svgOf } from "./svgOf.ts"

/** What a page says of where it comes from. */
export interface Provenance extends Pick<Page, "title" | "lead" | "sections"> {
  /** What was asked for and what came of it, for programs. */
  readonly facts: object
}

/** A comparison as a page: the table, what each policy lost to the best, and plots. Same comparison, same page. */
export const comparisonPage = (
  comparison: Comparison,
  targets: Targets,
  { facts, lead, sections, title }: Provenance
): Promise<string> => {
  const { bounds, results } = comparison
  const drawn = drawnOf(results)
  const most = Math.max(...results.map(({ estimates }) => estimates.goodput.mean))
  return page({
    title,
    lead: [
      ...lead,
      ...(results.every(({ estimates }) => Number.isNaN(estimates.goodput.low)) ? [] : [SEEDS]),
      ...(drawn.length < results.length
        ? [
            `Drawn are the ${drawn.length} of ${results.length} policies with the best goodput; the table and the JSON in this page have all.`
          ]
        : [])
    ],
    table: htmlTable(
      tableOf(comparison),
      results.map(({ estimates }) => lostText(most - estimates.goodput.mean))
    ),
    meanings: [
      [LOST, "By how much its goodput is below the best one, in percent of all requests."],
      ...measuredIn(bounds.sharedCache.estimates).map(
        (name) => [measures[name].heading, measures[name].summary] as const
      )
    ],
    charts: comparisonCharts(comparison, targets),
    sections,
    document: {
      ...facts,
      trials: comparison.trials.flat(),
      plots: Object.fromEntries(results.map(({ plots, policy }) => [policy, plots && rounded(plots)]))
    }
  })
}

/** A sweep as a page: the table, what each policy lost to the best, and the goodput at every load that was tried. Same sweep, same page. */
export const sweepPage = (
  sweep: Sweep,
  goal: number,
  workers: number,
  { facts, ...provenance }: Provenance
): Promise<string> => {
  const rates = sweep.results.map(({ found }) => found.requestsPerSecond)
  const most = Math.max(...rates)
  return page({
    ...provenance,
    table: htmlTable(
      sweepTableOf(sweep, workers),
      rates.map((rate) => lostText((most - rate) / most))
    ),
    meanings: [
      [LOST, "By how much its rate is below the best one, in percent of that."],
      ["requests/s", "The highest rate at which the goal was met; 0 where none was slow enough."],
      ["speed", "How many times faster than the traffic that is."],
      ["lasts s", "For how many seconds the requests that count came then."],
      ["goodput %", "Share of all requests that met the targets then."]
    ],
    charts: sweepCharts(sweep, goal),
    document: {
      ...facts,
      trials: [...sweep.results, sweep.bounds.bound, sweep.bounds.sharedCache].flatMap(({ trials }) => trials)
    }
  })
}

const LOST = "lost %"
const SEEDS =
  "Bars and distributions are means over the seeds; what is drawn over time and by tenant is of the first one."

const lostText = (share: number): string => (Number.isNaN(share) ? "-" : percent(share))

const page = async ({
  charts,
  ...rest
}: Omit<Page, "charts"> & { readonly charts: ReadonlyArray<Chart> }): Promise<string> =>
  pageOf({
    ...rest,
    charts: await Promise.all(charts.map(async (chart) => ({ ...chart, svg: await svgOf(chart) })))
  })

/** As exact as anybody can see. */
const rounded = (plots: Plots): unknown =>
  JSON.parse(
    JSON.stringify(plots, (_, value: unknown) =>
      typeof value === "number" ? Number(value.toPrecision(6)) : value
    )
  )

/** With what was lost to the best, by the policies. */
const htmlTable = ({ head, limits, policies }: Table, lost: ReadonlyArray<string>): HtmlTable => {
  const [title = "", ...columns] = head
  return {
    caption:
      "The best of a column is in bold, with a star. Below the policies what nobody can beat, and a reference.",
    head: [title, LOST, ...columns],
    groups: [
      policies.map(
        (row, i) =>
          [titleLines(row.title).join("\n"), { text: lost[i]! }, ...row.cells.map(htmlCell)] as const
      ),
      limits.map((row) => [row.title, { text: "" }, ...row.cells.map(htmlCell)] as const)
    ]
  }
}

const htmlCell = ({ best, mean, spread }: Cell): HtmlCell => ({ text: mean, small: spread, best })
