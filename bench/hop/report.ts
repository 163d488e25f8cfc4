import type { Table } from "../table.ts"
import type { Cell } from "./cells.ts"

/** What one measured window of one cell through one broker gave. */
export interface Sample {
  readonly round: number
  readonly cell: string
  readonly broker: string
  readonly requestsPerSecond: number
  readonly p50Us: number
  readonly p99Us: number
  /** CPU per request of the broker, of the generator and of the worker. For "direct" the worker stands in the broker's place. */
  readonly cpuUs: number
  readonly generatorUs: number
  readonly workerUs: number
  /** Share of the broker's CPU time that was spent outside the kernel. */
  readonly userShare: number
  readonly residentMb: number
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

const metrics = [
  "requestsPerSecond",
  "p50Us",
  "p99Us",
  "cpuUs",
  "generatorUs",
  "workerUs",
  "userShare",
  "residentMb"
] as const
type Metric = (typeof metrics)[number]

/** Figures as multiples of the relay's, taken round by round. */
interface Ratios {
  readonly throughput: Spread
  readonly cpu: Spread
  readonly p50: Spread
  readonly p99: Spread
}

export interface BrokerSummary extends Readonly<Record<Metric, Spread>> {
  /** Absent for the relay itself, and when the relay was not measured. */
  readonly overRelay?: Ratios
  /** Latency added to the direct connection's, in µs; absent when that was not measured. */
  readonly addedUs?: { readonly p50: Spread; readonly p99: Spread }
}

export interface CellSummary {
  readonly cell: string
  /** Medians of Parallax's figure over the relay's; null when one of them was not measured. */
  readonly throughputRatio: number | null
  readonly cpuRatio: number | null
  readonly p50Ratio: number | null
  readonly budget: Cell["budget"]
  /** Whether each budget is kept; null when it could not be told. */
  readonly kept: { readonly [K in keyof Cell["budget"]]: boolean | null }
  readonly brokers: Readonly<Record<string, BrokerSummary>>
}

export const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

/** Medians and spread of one cell over its rounds. */
export const summarize = (cell: Cell, all: ReadonlyArray<Sample>): CellSummary => {
  const byBroker = Map.groupBy(
    all.filter((sample) => sample.cell === cell.name),
    (sample) => sample.broker
  )
  const relay = byBroker.get("relay")
  const direct = byBroker.get("direct")
  const brokers: Record<string, BrokerSummary> = {}
  for (const [name, samples] of byBroker) {
    const against = (others: ReadonlyArray<Sample>, metric: Metric, of: (a: number, b: number) => number) =>
      spread(
        samples.map((sample) =>
          of(sample[metric], others.find((other) => other.round === sample.round)![metric])
        )
      )
    const ratio = (metric: Metric) => against(relay!, metric, (a, b) => a / b)
    const added = (metric: Metric) => against(direct!, metric, (a, b) => a - b)
    const figures = Object.fromEntries(
      metrics.map((metric) => [metric, spread(samples.map((s) => s[metric]))])
    ) as Record<Metric, Spread>
    brokers[name] = {
      ...figures,
      ...(relay === undefined || name === "relay" || name === "direct"
        ? {}
        : {
            overRelay: {
              throughput: ratio("requestsPerSecond"),
              cpu: ratio("cpuUs"),
              p50: ratio("p50Us"),
              p99: ratio("p99Us")
            }
          }),
      ...(direct === undefined || name === "direct"
        ? {}
        : { addedUs: { p50: added("p50Us"), p99: added("p99Us") } })
    }
  }
  const ours = brokers["parallax"]?.overRelay
  return {
    cell: cell.name,
    throughputRatio: ours?.throughput.median ?? null,
    cpuRatio: ours?.cpu.median ?? null,
    p50Ratio: ours?.p50.median ?? null,
    budget: cell.budget,
    kept: kept(cell.budget, ours),
    brokers
  }
}

const kept = (budget: Cell["budget"], ours: Ratios | undefined): CellSummary["kept"] => ({
  ...(budget.cpu === undefined ? {} : { cpu: ours === undefined ? null : ours.cpu.median <= budget.cpu }),
  ...(budget.throughput === undefined
    ? {}
    : { throughput: ours === undefined ? null : ours.throughput.median >= budget.throughput }),
  ...(budget.p50 === undefined ? {} : { p50: ours === undefined ? null : ours.p50.median <= budget.p50 })
})

/** What each broker did: one row per cell and broker; medians, with the extremes where they matter. */
export const figuresTable = (summaries: ReadonlyArray<CellSummary>): Table => [
  [
    "cell",
    "broker",
    "req/s",
    "p50 µs",
    "p99 µs",
    "CPU µs/req",
    "min–max",
    "core %",
    "user %",
    "RSS MB",
    "generator µs",
    "worker µs"
  ],
  ...summaries.flatMap(({ cell, brokers }) =>
    Object.entries(brokers).map(([name, broker]) => [
      cell,
      name,
      Math.round(broker.requestsPerSecond.median).toLocaleString("en"),
      broker.p50Us.median.toFixed(0),
      broker.p99Us.median.toFixed(0),
      ...(name === "direct" ? ["", "", "", "", ""] : costs(broker)),
      broker.generatorUs.median.toFixed(2),
      broker.workerUs.median.toFixed(2)
    ])
  )
]

const costs = ({ cpuUs, requestsPerSecond, userShare, residentMb }: BrokerSummary): ReadonlyArray<string> => [
  cpuUs.median.toFixed(2),
  `${cpuUs.min.toFixed(2)}–${cpuUs.max.toFixed(2)}`,
  ((cpuUs.median * requestsPerSecond.median) / 1e4).toFixed(0),
  (100 * userShare.median).toFixed(0),
  residentMb.median.toFixed(0)
]

/** What each broker costs as a multiple of the relay, beside the budget of the column before. */
export const ratiosTable = (summaries: ReadonlyArray<CellSummary>): Table => [
  [
    "cell",
    "broker",
    "CPU ×",
    "min–max",
    "budget",
    "throughput ×",
    "min–max",
    "budget",
    "p50 ×",
    "min–max",
    "budget",
    "added p50 µs",
    "p99 µs"
  ],
  ...summaries.flatMap(({ cell, budget, brokers }) =>
    Object.entries(brokers).flatMap(([name, { overRelay, addedUs }]) =>
      overRelay === undefined
        ? []
        : [
            [
              cell,
              name,
              ...verdict(overRelay.cpu, budget.cpu, (value, limit) => value <= limit, "≤"),
              ...verdict(overRelay.throughput, budget.throughput, (value, limit) => value >= limit, "≥"),
              ...verdict(overRelay.p50, budget.p50, (value, limit) => value <= limit, "≤"),
              addedUs?.p50.median.toFixed(0) ?? "",
              addedUs?.p99.median.toFixed(0) ?? ""
            ]
          ]
    )
  )
]

const verdict = (
  { median, min, max }: Spread,
  limit: number | undefined,
  holds: (value: number, limit: number) => boolean,
  sign: string
): ReadonlyArray<string> => [
  median.toFixed(2),
  `${min.toFixed(2)}–${max.toFixed(2)}`,
  limit === undefined ? "–" : `${sign} ${limit} ${holds(median, limit) ? "✓" : "✗"}`
]
