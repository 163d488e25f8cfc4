import type { TopLevelSpec } from "vega-lite"
import { sum } from "../../../structures/mean.ts"
import { percent } from "../../../structures/percent.ts"
import type { Targets } from "../../../policies/pipelines.ts"
import type { Comparison, Result } from "../compare.ts"
import { measures } from "../measures.ts"
import { QUANTILES, type Plots, type Timeline } from "../plots.ts"
import type { Trial } from "../Study.ts"
import type { Sweep } from "../sweep.ts"

/** A drawing, what it is called, and what is to be seen in it. */
export interface Chart {
  readonly title: string
  readonly caption: string
  readonly spec: TopLevelSpec
}

/** Lines can be told apart for so many policies. */
export const DRAWN_MAX = 7

/**
 * Okabe and Ito's colours, which people with any colour vision can tell apart; the first is that of the text, and yellow is left out for its
 * lack of contrast to white. Dashes say the same once more.
 */
const COLOURS = ["currentColor", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"]
const DASHES = [
  [1, 0],
  [8, 3],
  [4, 2],
  [2, 2],
  [8, 2, 2, 2],
  [12, 3],
  [6, 2, 2, 2, 2, 2]
]

/** What legends have room for. */
const LABEL_LENGTH = 27
const WIDTH = 640
const HEIGHT = 260

/** Those that are drawn: when there are many, the ones with the best goodput, in the order of all. */
export const drawnOf = <One extends Result>(results: ReadonlyArray<One>): ReadonlyArray<One> =>
  bestOf(results, DRAWN_MAX, ({ estimates }) => estimates.goodput.mean)

const bestOf = <One>(
  all: ReadonlyArray<One>,
  count: number,
  value: (one: One) => number
): ReadonlyArray<One> => {
  const best = new Set(all.toSorted((a, b) => value(b) - value(a)).slice(0, count))
  return all.filter((one) => best.has(one))
}

/** What a policy is called in drawings: its name, or where that is long its line of the table, and how its name begins. */
const labelOf = (name: string, index: number): string =>
  name.length <= LABEL_LENGTH ? name : `${index + 1}: ${name.slice(0, LABEL_LENGTH - 5)}…`

/** How policies compare. Without plots in the results, their figures only. */
export const comparisonCharts = (
  { bounds, results, trials }: Comparison,
  targets: Targets
): ReadonlyArray<Chart> => {
  const drawn = drawnOf(
    results.map((result, i) => ({ ...result, policy: labelOf(result.policy, i), trials: trials[i]! }))
  )
  const plotted = drawn.flatMap(({ plots, policy }) => (plots === undefined ? [] : [{ policy, plots }]))
  const { alone, capacity, sharedCache } = bounds
  return [
    bars(
      "Goodput",
      "Share of all requests that met the targets, with its 95 % interval where there are several seeds; the line is the lower of the two bounds.",
      "goodput",
      drawn,
      Math.min(alone.goodput, capacity.goodput)
    ),
    // The bound comes last, where there is a colour left.
    ...againstLoad(
      [...drawn, { policy: "bound", trials: trials.at(-1)! }].slice(0, DRAWN_MAX),
      "Share of all requests that met the targets, with the first seed, at other speeds as well.",
      []
    ),
    ...distributions(plotted, targets),
    bars(
      "Prefix hits",
      "Share of the prompt tokens that were in the prefix cache of the worker; the line is what one infinite cache for all workers would have.",
      "prefixHitRate",
      drawn,
      sharedCache.estimates.prefixHitRate.mean
    ),
    ...timelines(plotted),
    ...fairness(plotted)
  ]
}

interface Plotted {
  readonly policy: string
  readonly plots: Plots
}

const distributions = (plotted: ReadonlyArray<Plotted>, targets: Targets): ReadonlyArray<Chart> =>
  (["ttftMs", "tpotMs"] as const).flatMap((name) => {
    const known = plotted.filter(({ plots }) => plots[name].length > 0)
    if (known.length === 0) return []
    const short = name === "ttftMs" ? "TTFT" : "TPOT"
    const what = name === "ttftMs" ? "time to the first token" : "time per further token"
    const values = known.flatMap(({ plots, policy }) =>
      plots[name].map((ms, i) => ({ policy, x: Math.max(LEAST_MS, ms), share: i / QUANTILES }))
    )
    const targetMs = targets[name]
    const [least, most] = [Math.min(...values.map(({ x }) => x)), Math.max(...values.map(({ x }) => x))]
    const isDrawn = targetMs >= least && targetMs <= most
    return [
      {
        title: `Distribution of ${short}`,
        caption: `Of the requests that were done, the share with at most so much ${what}. The target of ${targetMs} ms is ${isDrawn ? "the vertical line" : "outside"}.`,
        spec: lines(known, values, {
          x: {
            title: `${short}, ms`,
            scale: { type: "log", nice: false },
            axis: { values: roundNumbers(least, most) }
          },
          y: { title: "share of requests", format: "%" },
          rules: isDrawn ? [{ x: targetMs }] : []
        })
      }
    ]
  })

/** What the logarithmic axis begins with. */
const LEAST_MS = 0.01

const timelines = (plotted: ReadonlyArray<Plotted>): ReadonlyArray<Chart> => {
  if (plotted.length === 0) return []
  const minutes = plotted.some(({ plots }) => plots.timeline.binMs * plots.timeline.queued.length > 600_000)
  const unitMs = minutes ? 60_000 : 1000
  const x = { title: minutes ? "minutes" : "seconds" }
  const rows = <Row extends object>(of: (timeline: Timeline, bin: number) => Row, group = 1) =>
    plotted.flatMap(({ plots, policy }) => {
      const { timeline } = plots
      return Array.from({ length: timeline.queued.length / group }, (_, i) => ({
        policy,
        x: ((i + 0.5) * group * timeline.binMs) / unitMs,
        ...of(timeline, i * group)
      }))
    })
  const countedMs = Math.max(...plotted.map(({ plots }) => plots.timeline.countedMs))
  const rules = countedMs > 0 ? [{ x: countedMs / unitMs }] : []
  const warm = countedMs > 0 ? " Requests that came before the vertical line do not count." : ""
  const share = (timeline: Timeline, bin: number): number | null => {
    const total = (values: ReadonlyArray<number>): number => sum(values.slice(bin, bin + HIT_BINS))
    const promptTokens = total(timeline.promptTokens)
    return promptTokens > 0 ? total(timeline.hitTokens) / promptTokens : null
  }
  return [
    {
      title: "Prefix hits over time",
      caption: `Share of the prompt tokens that were in a prefix cache, by the time at which their requests came.${warm}`,
      spec: lines(
        plotted,
        rows((timeline, bin) => ({ share: share(timeline, bin) }), HIT_BINS),
        { x, y: { title: "share of prompt tokens", format: "%" }, rules }
      )
    },
    {
      title: "Queue of the balancer",
      caption: `Requests that had come and had no worker yet.${warm}`,
      spec: lines(
        plotted,
        rows(({ queued }, bin) => ({ share: queued[bin]! })),
        {
          x,
          y: { title: "requests" },
          rules
        }
      )
    },
    {
      title: "In flight at the workers",
      caption:
        "Requests at a worker, on average over the workers, and as a band from the worker with fewest to that with most: a narrow band is an even load.",
      spec: bands(
        plotted,
        rows((timeline, bin) => ({
          least: timeline.inFlightLeast[bin]!,
          mean: timeline.inFlightMean[bin]!,
          most: timeline.inFlightMost[bin]!
        })),
        x
      )
    }
  ]
}

/** Parts of the timeline in one point. */
const HIT_BINS = 4

const fairness = (plotted: ReadonlyArray<Plotted>): ReadonlyArray<Chart> => {
  const tenants = plotted[0]?.plots.tenants ?? []
  if (tenants.length < 2) return []
  const places = new Map(tenants.map(({ tenant }, place) => [tenant, place]))
  const values = plotted.flatMap(({ plots, policy }) =>
    plots.tenants.map(({ fair, served, tenant }) => ({
      policy,
      tenant,
      place: places.get(tenant)!,
      share: served / fair
    }))
  )
  return [
    {
      title: "Fairness",
      caption:
        "Tokens of each tenant in requests that met the targets, over what of all those would be its own if none got more for its weight than another that wants it; who asked for most comes first. Fair is one column of points at 100 % for each policy.",
      spec: {
        ...frame(values),
        width: WIDTH - 100,
        height: { step: 20 },
        mark: { type: "point", size: 60, strokeWidth: 2 },
        encoding: {
          x: {
            field: "share",
            type: "quantitative",
            title: "tokens in time, of the fair share",
            axis: { format: "%" }
          },
          y: {
            field: "tenant",
            type: "nominal",
            title: null,
            // A list of names would become an expression, in which Vega takes one such as "constructor" for a signal.
            sort: { field: "place", op: "min" },
            axis: { grid: true }
          },
          color: colour(plotted),
          shape: { field: "policy", type: "nominal", scale: { domain: plotted.map(({ policy }) => policy) } }
        }
      }
    }
  ]
}

/** At which load a sweep found each policy to miss the goal. */
export const sweepCharts = ({ bounds, results }: Sweep, goal: number): ReadonlyArray<Chart> => {
  const labelled = results.map(({ found, trials }, i) => ({
    policy: labelOf(found.policy, i),
    trials,
    speed: found.speed
  }))
  return againstLoad(
    [...bestOf(labelled, DRAWN_MAX - 1, ({ speed }) => speed), { policy: "bound", ...bounds.bound }],
    `Share of all requests that met the targets, at each rate that was tried. The horizontal line is the goal of ${percent(goal)} %.`,
    [{ y: goal }]
  )
}

interface Tried {
  readonly policy: string
  readonly trials: ReadonlyArray<Trial>
}

/** How goodput falls with the load: each trial is a point. Nothing where there is one rate at most. */
const againstLoad = (
  tried: ReadonlyArray<Tried>,
  caption: string,
  rules: Axes["rules"]
): ReadonlyArray<Chart> => {
  const values = tried
    .flatMap(({ policy, trials }) =>
      trials
        .toSorted((a, b) => a.speed - b.speed)
        .map(({ goodput, requestsPerSecond }) => ({ policy, x: requestsPerSecond, share: goodput }))
    )
    // Requests that come all at once have no rate.
    .filter(({ x }) => Number.isFinite(x))
  const rates = values.map(({ x }) => x)
  const [least, most] = [Math.min(...rates), Math.max(...rates)]
  if (!(least < most)) return []
  return [
    {
      title: "Goodput against load",
      caption,
      spec: lines(tried, values, {
        x: {
          title: "requests per second",
          scale: { type: "log", nice: false },
          axis: { values: roundNumbers(least, most) }
        },
        y: { title: "goodput", format: "%", scale: { zero: false } },
        rules,
        points: true
      })
    }
  ]
}

type Named = ReadonlyArray<{ readonly policy: string }>

const colour = (named: Named) => ({
  field: "policy",
  type: "nominal" as const,
  title: null,
  scale: { domain: named.map(({ policy }) => policy), range: COLOURS.slice(0, named.length) }
})

const frame = (values: ReadonlyArray<object>) => ({
  data: { values: [...values] },
  width: WIDTH,
  height: HEIGHT,
  background: "transparent",
  config: {
    // The element that holds the drawing says what it is.
    aria: false,
    font: "system-ui, sans-serif",
    axis: {
      labelColor: "currentColor",
      titleColor: "currentColor",
      domainColor: "currentColor",
      tickColor: "currentColor",
      gridColor: "currentColor",
      gridOpacity: 0.15,
      titleFontWeight: "normal" as const,
      titleFontSize: 12,
      labelFontSize: 11,
      labelLimit: 220
    },
    legend: {
      orient: "top" as const,
      columns: 4,
      labelColor: "currentColor",
      labelFontSize: 12,
      labelLimit: 220,
      symbolSize: 200,
      symbolStrokeWidth: 2
    },
    header: { labelColor: "currentColor", labelFontSize: 12, title: null },
    rule: { color: "currentColor" },
    view: { stroke: null }
  }
})

interface Axes {
  readonly x: { readonly title: string; readonly scale?: object; readonly axis?: object }
  readonly y: { readonly title: string; readonly format?: string; readonly scale?: object }
  readonly rules: ReadonlyArray<{ readonly x: number } | { readonly y: number }>
  readonly points?: boolean
}

/** A line for each policy through `x` and `share`, and lines across. */
const lines = (
  named: Named,
  values: ReadonlyArray<{ readonly share: number | null }>,
  { points = false, rules, x, y }: Axes
): TopLevelSpec => ({
  ...frame(values),
  layer: [
    ...rules.map((at) => ({
      data: { values: [{}] },
      mark: { type: "rule" as const, strokeDash: [3, 3], opacity: 0.7 },
      encoding: "x" in at ? { x: { datum: at.x } } : { y: { datum: at.y } }
    })),
    {
      mark: { type: "line" as const, strokeWidth: 1.8, point: points && { size: 25 } },
      encoding: {
        x: { field: "x", type: "quantitative", ...x },
        y: {
          field: "share",
          type: "quantitative",
          title: y.title,
          scale: y.scale ?? fromNothing(values.map(({ share }) => share)),
          axis: y.format === undefined ? {} : { format: y.format }
        },
        color: { ...colour(named), legend: { symbolType: "stroke" } },
        strokeDash: {
          field: "policy",
          type: "nominal",
          title: null,
          legend: { symbolType: "stroke" },
          scale: { domain: named.map(({ policy }) => policy), range: DASHES.slice(0, named.length) }
        }
      }
    }
  ]
})

/** One small drawing for each policy, all to the same scale. */
const bands = (named: Named, values: ReadonlyArray<object>, x: { readonly title: string }): TopLevelSpec => {
  const { height: _height, width: _width, ...rest } = frame(values)
  const domain = named.map(({ policy }) => policy)
  return {
    ...rest,
    facet: { field: "policy", type: "nominal", sort: domain, title: null },
    columns: 2,
    spec: {
      width: WIDTH / 2 - 30,
      height: HEIGHT / 2,
      encoding: {
        x: { field: "x", type: "quantitative", ...x },
        color: { ...colour(named), legend: null }
      },
      layer: [
        {
          mark: { type: "area", opacity: 0.3 },
          encoding: { y: { field: "least", type: "quantitative", title: "requests" }, y2: { field: "most" } }
        },
        { mark: { type: "line", strokeWidth: 1.5 }, encoding: { y: { field: "mean", type: "quantitative" } } }
      ]
    }
  }
}

/** A bar for each policy up to the mean of a measure, its interval, and a line across all of them. */
const bars = (
  title: string,
  caption: string,
  name: "goodput" | "prefixHitRate",
  drawn: ReadonlyArray<Result>,
  line: number
): Chart => ({
  title,
  caption,
  spec: {
    ...frame(
      drawn.map(({ estimates, policy }) => {
        const { high, low, mean } = estimates[name]
        const shown = Number.isNaN(mean) ? "-" : `${measures[name].show(mean)} %`
        return { policy, mean, low, high, shown, end: Number.isNaN(high) ? mean : high }
      })
    ),
    width: WIDTH - 100,
    height: { step: 24 },
    layer: [
      {
        mark: { type: "bar", opacity: 0.85 },
        encoding: {
          x: {
            field: "mean",
            type: "quantitative",
            title: null,
            axis: { format: "%" },
            scale: fromNothing([line, ...drawn.map(({ estimates }) => estimates[name].mean)])
          },
          y: BAR,
          color: { ...colour(drawn), legend: null }
        }
      },
      {
        mark: { type: "rule", strokeWidth: 2 },
        encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" }, y: BAR }
      },
      {
        mark: { type: "text", align: "left", dx: 6, color: "currentColor" },
        encoding: {
          x: { field: "end", type: "quantitative" },
          y: BAR,
          text: { field: "shown", type: "nominal" }
        }
      },
      {
        data: { values: [{}] },
        mark: { type: "rule", strokeDash: [3, 3], opacity: 0.7 },
        encoding: { x: { datum: line } }
      }
    ]
  }
})

const BAR = { field: "policy", type: "nominal" as const, title: null, sort: null }

/** Some round numbers in a finite range above 0, for a logarithmic axis: powers of ten; where those are few, what lies between them, or equal steps. */
const roundNumbers = (least: number, most: number): Array<number> => {
  for (const factors of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]]) {
    const found: Array<number> = []
    for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++)
      found.push(...factors.map((factor) => Number(`${factor}e${power}`)))
    const within = found.filter((value) => value >= least && value <= most)
    if (within.length >= TICKS_MIN) return within
  }
  const step = 10 ** Math.floor(Math.log10((most - least) / TICKS_MIN))
  return least < most
    ? Array.from(
        { length: Math.floor((most - least) / step) },
        (_, i) => (Math.ceil(least / step) + i) * step
      )
    : [least]
}

const TICKS_MIN = 3

/** From nothing to the most; a line of nothing lies at the bottom. */
const fromNothing = (values: ReadonlyArray<number | null>): object =>
  values.every((value) => !(value! > 0)) ? { domain: [0, 1] } : {}
