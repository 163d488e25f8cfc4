import { verdictOf } from "../../structures/imbalance.ts"
import { percent } from "../../structures/percent.ts"

/** A figure that policies are compared by. */
export interface Measure {
  /** Over its column. */
  readonly heading: string
  readonly better: "more" | "less"
  readonly summary: string
  readonly show: (value: number) => string
}

const ms = (value: number): string => (value < 100 ? value.toFixed(1) : value.toFixed(0))

/** Every measure by its name in reports, in the order of their columns. Shares are from 0 to 1 and shown in percent. */
export const measures = {
  goodput: {
    heading: "goodput %",
    better: "more",
    summary: "Share of all requests that met the targets; who was refused or failed did not.",
    show: percent
  },
  goodputGap: {
    heading: "gap",
    better: "less",
    summary: "By how many percent of all requests that is below the bound.",
    show: percent
  },
  goodputRps: {
    heading: "met/s",
    better: "more",
    summary: "Requests per second that met the targets.",
    show: (value) => value.toFixed(2)
  },
  ttftMsMean: {
    heading: "TTFT ms",
    better: "less",
    summary:
      "Time from arrival to the first token, of requests that were done, and in the bound of all: mean,",
    show: ms
  },
  ttftMsP50: { heading: "p50", better: "less", summary: "median,", show: ms },
  ttftMsP95: { heading: "p95", better: "less", summary: "95 % quantile,", show: ms },
  ttftMsP99: { heading: "p99", better: "less", summary: "and 99 % quantile.", show: ms },
  ttftOverBound: {
    heading: "× bound",
    better: "less",
    summary: "How many times its own bound the time to the first token was, over all of them.",
    show: (value) => value.toFixed(2)
  },
  tpotMsMean: {
    heading: "TPOT ms",
    better: "less",
    summary: "Time per further token, of requests that were done: mean,",
    show: ms
  },
  tpotMsP99: { heading: "p99", better: "less", summary: "and 99 % quantile over requests.", show: ms },
  e2eMsMean: {
    heading: "E2E ms",
    better: "less",
    summary: "Time from arrival to the last token, mean of requests that were done.",
    show: ms
  },
  prefixHitRate: {
    heading: "hit %",
    better: "more",
    summary: "Share of the prompt tokens of done requests that were in the worker's prefix cache.",
    show: percent
  },
  imbalanceCv: {
    heading: "CV",
    better: "less",
    summary:
      "Standard deviation over mean of the tokens that each worker computed for requests that were done, of the workers there were.",
    show: (value) => value.toFixed(3)
  },
  imbalanceMaxOverMean: {
    heading: "balance",
    better: "less",
    summary: "Tokens that the busiest worker computed over the mean; shown as a verdict.",
    show: verdictOf
  },
  tenantJain: {
    heading: "Jain",
    better: "more",
    summary:
      "Jain index over tenants of their tokens that met the targets, over what of all those would be theirs if none got more for its weight than another that wants it (max-min): 1 is fair, 1 / tenants is one having all.",
    show: (value) => value.toFixed(3)
  },
  rejectedShare: {
    heading: "refused %",
    better: "less",
    summary: "Share of all requests that were refused.",
    show: percent
  },
  failedShare: {
    heading: "failed %",
    better: "less",
    summary: "Share that was let in and not done, most of them for their deadline.",
    show: percent
  },
  workerHours: {
    heading: "worker h",
    better: "less",
    summary:
      "Hours that workers were there for, from the order to start one to its end, where they follow the load.",
    show: (value) => value.toFixed(3)
  },
  decisionUsMean: {
    heading: "decide µs",
    better: "less",
    summary:
      "Time on the machine's clock that admission and placement took for a request, mean over all that came; it differs from run to run.",
    show: (value) => value.toFixed(2)
  }
} as const satisfies Readonly<Record<string, Measure>>

export type MeasureName = keyof typeof measures

export const measureNames = Object.keys(measures) as ReadonlyArray<MeasureName>

/** Something for each measure; for the time of decisions only where they were timed. */
export type Measured<Value> = Readonly<Record<Exclude<MeasureName, "decisionUsMean">, Value>> & {
  readonly decisionUsMean?: Value
}

/** The measures that there is something for. */
export const measuredIn = (of: Measured<unknown>): ReadonlyArray<MeasureName> =>
  measureNames.filter((name) => Object.hasOwn(of, name))

/** One value for each measure, NaN where there is none. */
export type Figures = Measured<number>
