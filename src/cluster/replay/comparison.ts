import type { Targets } from "../../policies/pipelines.ts"
import { areMet } from "../../simulator/report/bounds.ts"
import { mean, sum } from "../../structures/mean.ts"
import { quantile } from "../../structures/nearestRank.ts"
import type { Seen } from "./Journal.ts"

/** What one of two replays of the same requests came to. Times in ms of trace time, of done requests; null where there are none. */
export interface Side {
  readonly done: number
  readonly ttftMsMean: number | null
  readonly ttftMsP50: number | null
  readonly ttftMsP95: number | null
  readonly tpotMsMean: number | null
  readonly e2eMsMean: number | null
  /** Share of the prompt tokens of done requests that were cached. */
  readonly prefixHitRate: number
  /** Share of all requests that met the targets; null where none was given. */
  readonly goodput: number | null
}

export interface Comparison {
  /** What a message took from one process to the next, as measured; virtual time was told. */
  readonly hopMs: number
  /** What first tokens took beyond that and beyond the engines' own time, on average: this machine was late by so much. */
  readonly lateMs: number
  /** Share of the requests done in both that the same worker answered. */
  readonly samePlacements: number
  readonly live: Side
  readonly replayed: Side
  /** Mean TTFT of replays of which each request comes up to one hop later: what lies in between differs by chance. */
  readonly nudgedTtftMs: Spread
}

/** Of some figures; null where there are none. */
export interface Spread {
  readonly mean: number | null
  readonly low: number | null
  readonly high: number | null
}

type Path = Pick<Comparison, "hopMs" | "lateMs">

/** From client to balancer to worker, and back. */
const HOPS = 4

/** Finds both in what the first tokens of requests took beyond the engines' own time: usually, and on average. */
export const pathOf = (pathsMs: ReadonlyArray<number>): Path => {
  const usualMs = Math.max(0, pathsMs.toSorted((a, b) => a - b)[pathsMs.length >>> 1] ?? 0)
  return { hopMs: usualMs / HOPS, lateMs: (meanOf(pathsMs) ?? 0) - usualMs }
}

/** Compares what became of the same requests, in the same order. */
export const comparison = (
  { hopMs, lateMs }: Path,
  live: ReadonlyArray<Seen>,
  replayed: ReadonlyArray<Seen>,
  nudged: ReadonlyArray<ReadonlyArray<Seen>>,
  slo: Targets
): Comparison => {
  const both = live.filter(({ worker }, i) => worker !== undefined && replayed[i]!.worker !== undefined)
  const same = live.filter(({ worker }, i) => worker !== undefined && worker === replayed[i]!.worker)
  return {
    hopMs,
    lateMs,
    samePlacements: both.length === 0 ? 1 : same.length / both.length,
    live: sideOf(live, slo),
    replayed: sideOf(replayed, slo),
    nudgedTtftMs: spread(nudged.flatMap((each) => sideOf(each, slo).ttftMsMean ?? []))
  }
}

const spread = (values: ReadonlyArray<number>): Spread =>
  values.length === 0
    ? { mean: null, low: null, high: null }
    : { mean: mean(values), low: Math.min(...values), high: Math.max(...values) }

const sideOf = (all: ReadonlyArray<Seen>, slo: Targets): Side => {
  const done = all.filter(({ worker }) => worker !== undefined)
  const ttfts = done.map(({ ttftMs }) => ttftMs).toSorted((a, b) => a - b)
  const promptTokens = sum(done.map((each) => each.promptTokens))
  const met = done.filter(({ ttftMs, tpotMs }) => areMet(slo, ttftMs, tpotMs))
  const isAimed = slo.ttftMs !== Infinity || slo.tpotMs !== Infinity
  return {
    done: done.length,
    ttftMsMean: meanOf(ttfts),
    ttftMsP50: known(quantile(ttfts, 0.5)),
    ttftMsP95: known(quantile(ttfts, 0.95)),
    tpotMsMean: meanOf(done.flatMap(({ tpotMs }) => (Number.isNaN(tpotMs) ? [] : [tpotMs]))),
    e2eMsMean: meanOf(done.map(({ e2eMs }) => e2eMs)),
    prefixHitRate: promptTokens === 0 ? 0 : sum(done.map((each) => each.cachedTokens)) / promptTokens,
    goodput: isAimed && all.length > 0 ? met.length / all.length : null
  }
}

const meanOf = (values: ReadonlyArray<number>): number | null => known(mean(values))

const known = (value: number): number | null => (Number.isNaN(value) ? null : value)
