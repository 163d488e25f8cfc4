import type { Agreement } from "./agreement.ts"
import type { Figures, Times } from "./Tally.ts"

/** What is printed of a replay. */
export interface ReplayReport extends Figures {
  readonly trace: string
  readonly speed: number
  readonly timeScale: number
  readonly agreement: Agreement
}

/** The report as text, for people. */
export const reportText = (report: ReplayReport): string =>
  [
    `${report.trace}: ${fixed(report.durationSeconds)} s of trace time at speed ${report.speed} and time scale ${report.timeScale}`,
    "",
    ...aligned([
      ["sent", count(report.sent)],
      ["done", count(report.done)],
      ["failed", count(report.failed)],
      ["rejected", count(report.rejected)],
      ...Object.entries(report.reasons).map(([reason, times]): Row => [`  ${reason}`, count(times)])
    ]),
    "",
    ...aligned([
      ["ms", "mean", "p50", "p90", "p99", "max"],
      timesRow("TTFT", report.ttftMs),
      timesRow("TPOT", report.tpotMs),
      timesRow("ITL", report.itlMs),
      timesRow("E2E", report.e2eMs)
    ]),
    "",
    ...aligned([
      ["worker", "done", "prompt tokens", "cached", "output tokens"],
      ...Object.entries(report.workers)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, work]): Row => [
          name,
          ...[work.requestsDone, work.promptTokens, work.cachedTokens, work.outputTokens].map(count)
        ])
    ]),
    "",
    `throughput       ${fixed(report.requestsPerSecond)} requests/s, ${fixed(report.outputTokensPerSecond)} output tokens/s`,
    ...goodputLines(report),
    `prefix hit rate  ${percent(report.prefixHitRate)} of prompt tokens`,
    `load imbalance   ${report.imbalance.verdict}: CV ${report.imbalance.cv.toFixed(3)}, max/mean ${report.imbalance.maxOverMean.toFixed(3)} of computed tokens`,
    `send lag         p50 ${time(report.sendLagMs.p50)}, p99 ${time(report.sendLagMs.p99)}, max ${time(report.sendLagMs.max)} ms on the wall clock`,
    ...agreementLines(report.agreement)
  ].join("\n")

type Row = readonly [string, ...ReadonlyArray<string>]

/** The first column to the left, the others to the right. */
const aligned = (rows: ReadonlyArray<Row>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  ")
  )
}

const timesRow = (name: string, { mean, p50, p90, p99, max }: Times): Row => [
  name,
  ...[mean, p50, p90, p99, max].map(time)
]

const goodputLines = ({ goodput }: Figures): ReadonlyArray<string> => {
  if (goodput === null) return []
  const targets = [
    ...(goodput.sloTtftMs === null ? [] : [`TTFT ≤ ${goodput.sloTtftMs} ms`]),
    ...(goodput.sloTpotMs === null ? [] : [`TPOT ≤ ${goodput.sloTpotMs} ms`])
  ]
  return [
    `goodput          ${fixed(goodput.requestsPerSecond)} requests/s, ${percent(goodput.share)} with ${targets.join(" and ")}`
  ]
}

const agreementLines = ({ equal, differences }: Agreement): ReadonlyArray<string> =>
  equal
    ? ["agreement        the workers' own counters are equal"]
    : [
        "agreement        THE WORKERS' OWN COUNTERS DIFFER",
        ...differences.map(
          ({ worker, counter, ours, theirs }) => `  ${worker} ${counter}: ${ours} here, ${theirs} there`
        )
      ]

const count = (value: number): string => value.toLocaleString("en-US")
const fixed = (value: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`
const time = (ms: number | null): string => (ms === null ? "-" : fixed(ms))
