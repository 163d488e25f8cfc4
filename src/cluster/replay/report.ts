import { aligned } from "../../structures/aligned.ts"
import { percent } from "../../structures/percent.ts"
import type { Agreement, Difference } from "./agreement.ts"
import type { Comparison, Side } from "./comparison.ts"
import type { Figures, Times } from "./Tally.ts"

/** What is printed of a replay. */
export interface ReplayReport extends Figures {
  readonly trace: string
  readonly speed: number
  readonly timeScale: number
  readonly agreement: Agreement
  /** The same requests in virtual time; null where nobody asked. */
  readonly againstReplay: Comparison | null
}

/** The report as text, for people. */
export const reportText = (report: ReplayReport): string =>
  [
    `${report.trace}: ${fixed(report.durationSeconds)} s of trace time at speed ${report.speed} and time scale ${report.timeScale}`,
    "",
    ...columns([
      ["sent", count(report.sent)],
      ["done", count(report.done)],
      ["failed", count(report.failed)],
      ["rejected", count(report.rejected)],
      ...Object.entries(report.reasons).map(([reason, times]): Row => [`  ${reason}`, count(times)])
    ]),
    "",
    ...columns([
      ["ms", "mean", "p50", "p90", "p99", "max"],
      timesRow("TTFT", report.ttftMs),
      timesRow("TPOT", report.tpotMs),
      timesRow("ITL", report.itlMs),
      timesRow("E2E", report.e2eMs)
    ]),
    "",
    ...columns([
      ["worker", "done", "prompt tokens", "cached", "output tokens"],
      ...Object.entries(report.workers)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, work]): Row => [
          name,
          ...[work.requestsDone, work.promptTokens, work.cachedTokens, work.outputTokens].map(count)
        ])
    ]),
    ...tenantLines(report),
    "",
    `throughput       ${fixed(report.requestsPerSecond)} requests/s, ${fixed(report.outputTokensPerSecond)} output tokens/s`,
    ...goodputLines(report),
    `prefix hit rate  ${percent(report.prefixHitRate)} % of prompt tokens`,
    `load imbalance   ${report.imbalance.verdict}: CV ${report.imbalance.cv.toFixed(3)}, max/mean ${report.imbalance.maxOverMean.toFixed(3)} of computed tokens`,
    `send lag         p50 ${time(report.sendLagMs.p50)}, p99 ${time(report.sendLagMs.p99)}, max ${time(report.sendLagMs.max)} ms on the wall clock`,
    ...agreementLines(report.agreement),
    ...(report.againstReplay === null ? [] : comparisonLines(report.againstReplay))
  ].join("\n")

type Row = readonly [string, ...ReadonlyArray<string>]

const columns = (rows: ReadonlyArray<Row>): ReadonlyArray<string> => aligned(rows, "  ")

const timesRow = (name: string, { mean, p50, p90, p99, max }: Times): Row => [
  name,
  ...[mean, p50, p90, p99, max].map(time)
]

const tenantLines = ({ goodput, tenants }: Figures): ReadonlyArray<string> =>
  tenants.length === 0
    ? []
    : [
        "",
        ...columns([
          ["tenant", "requests", "done", ...(goodput === null ? [] : ["in time"]), "tokens"],
          ...tenants.map(({ done, met, requests, tenant, tokenShare }): Row => [
            tenant,
            ...[requests, done, ...(met === null ? [] : [met])].map(count),
            `${percent(tokenShare)} %`
          ])
        ])
      ]

const goodputLines = ({ goodput }: Figures): ReadonlyArray<string> => {
  if (goodput === null) return []
  const targets = [
    ...(goodput.sloTtftMs === null ? [] : [`TTFT ≤ ${goodput.sloTtftMs} ms`]),
    ...(goodput.sloTpotMs === null ? [] : [`TPOT ≤ ${goodput.sloTpotMs} ms`])
  ]
  return [
    `goodput          ${fixed(goodput.requestsPerSecond)} requests/s, ${percent(goodput.share)} % with ${targets.join(" and ")}`
  ]
}

const agreementLines = ({
  abandoned,
  differences,
  equal,
  lost,
  surplus
}: Agreement): ReadonlyArray<string> => [
  `agreement        ${equal ? "the workers' own counters are equal" : "THE WORKERS' OWN COUNTERS DIFFER"}`,
  ...differences.map(differenceLine),
  ...(surplus.length === 0
    ? []
    : [
        `  but for what was done in ${abandoned} attempts that ended otherwise:`,
        ...surplus.map(differenceLine)
      ]),
  ...(lost.length === 0 ? [] : [`  not known in full of ${lost.join(", ")}: gone, or started anew`])
]

const differenceLine = ({ worker, counter, ours, theirs }: Difference): string =>
  `  ${worker} ${counter}: ${ours} here, ${theirs} there`

const comparisonLines = ({
  hopMs,
  lateMs,
  live,
  nudgedTtftMs,
  replayed,
  samePlacements
}: Comparison): ReadonlyArray<string> => [
  "",
  ...columns([
    ["", "live", "replayed", "apart"],
    ...sideRows.map(([label, read, show]): Row => {
      const [here, there] = [read(live), read(replayed)]
      const apart = here === null || there === null || there === 0 ? "-" : signed(here / there - 1)
      return [label, ...[here, there].map((value) => (value === null ? "-" : show(value))), apart]
    })
  ]),
  "",
  `chance           mean TTFT ${time(nudgedTtftMs.low)} to ${time(nudgedTtftMs.high)} ms in replays whose requests come up to a hop later`,
  `placements       ${percent(samePlacements)} % of the requests went to the same worker in virtual time`,
  `hop              ${time(hopMs)} ms from one process to the next as measured, which virtual time was told`,
  `lateness         ${time(lateMs)} ms of the mean TTFT: what this machine added, now and then`
]

const sideRows: ReadonlyArray<
  readonly [label: string, read: (side: Side) => number | null, show: (value: number) => string]
> = [
  ["done", ({ done }) => done, (value) => count(value)],
  ["TTFT ms mean", ({ ttftMsMean }) => ttftMsMean, (value) => fixed(value)],
  ["TTFT ms p50", ({ ttftMsP50 }) => ttftMsP50, (value) => fixed(value)],
  ["TTFT ms p95", ({ ttftMsP95 }) => ttftMsP95, (value) => fixed(value)],
  ["TPOT ms mean", ({ tpotMsMean }) => tpotMsMean, (value) => fixed(value)],
  ["E2E ms mean", ({ e2eMsMean }) => e2eMsMean, (value) => fixed(value)],
  ["prefix hit rate", ({ prefixHitRate }) => prefixHitRate, (value) => `${percent(value)} %`],
  ["goodput", ({ goodput }) => goodput, (value) => `${percent(value)} %`]
]

const count = (value: number): string => value.toLocaleString("en-US")
const fixed = (value: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 })
const signed = (share: number): string => `${share < 0 ? "−" : "+"}${percent(Math.abs(share))} %`
const time = (ms: number | null): string => (ms === null ? "-" : fixed(ms))
