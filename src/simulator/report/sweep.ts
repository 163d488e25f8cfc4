import type { Targets } from "../../policies/pipelines.ts"
import type { Competition, Contender } from "./ground.ts"
import { type Run, type Study, type Trial, trialOf } from "./Study.ts"

export interface SweepOptions extends Competition {
  /** Share of the requests that must meet the targets, as a mean over the seeds. */
  readonly goal: number
}

/** All that was tried for one policy, in that order, and the fastest with which the goal was met; zeros where the slowest was too fast. */
export interface Search {
  readonly found: Trial
  readonly trials: ReadonlyArray<Trial>
}

export interface Sweep {
  readonly results: ReadonlyArray<Search>
  /** What the bounds of the goodput allow, and what the reference reaches. */
  readonly bounds: { readonly bound: Search; readonly sharedCache: Search }
}

/** Speeds that are tried at all, and how near to each other a search ends. */
const SPEED_MIN = 2 ** -8
const SPEED_MAX = 2 ** 12
const PRECISION = 1.02
/** Digits of a speed that is tried: it can be written down, and asked for again. */
const SPEED_DIGITS = 4
/** TTFT targets that traffic must last for: what may still wait in time when all of it has come is a tenth of it at most. */
const TARGETS_LASTED = 10

/** The searches that a sweep is made of: for each contender, the reference, and the bounds. None waits for another. */
export const searches = (options: SweepOptions): ReadonlyArray<Study<Search>> => [
  ...[...options.contenders, options.reference].map((contender) =>
    search(options, contender, contender.name, ({ figures }) => figures!.goodput)
  ),
  search(options, undefined, "bound", ({ limits }) => Math.min(limits.alone, limits.capacity))
]

/** What the searches found, in their order. */
export const sweepOf = (found: ReadonlyArray<Search>): Sweep => ({
  results: found.slice(0, -2),
  bounds: { sharedCache: found.at(-2)!, bound: found.at(-1)! }
})

/** What is to be known of the rates beside them: which are those of a burst, and which are only the fastest that were tried. */
export const notesOf = ({ results }: Sweep, { ttftMs }: Targets): ReadonlyArray<string> => {
  const found = results.map(({ found }) => found).filter(({ speed }) => speed > 0)
  const bursts = found.filter(({ spanMs }) => spanMs < TARGETS_LASTED * ttftMs)
  const fastest = found.filter((each) => each.speed === SPEED_MAX && !bursts.includes(each))
  // All that is known of what came within a target is that it was served within one.
  const needed = bursts.map(
    ({ requestsPerSecond, spanMs }) =>
      (requestsPerSecond / 1000) * TARGETS_LASTED * ttftMs * Math.min(1, spanMs / ttftMs)
  )
  return [
    ...(bursts.length === 0
      ? []
      : [
          `${named(bursts)}: the rate of a burst, not one that lasts. All requests come within ${TARGETS_LASTED} TTFT targets, and workers that fall behind all the while may still be in time. Give at least ${Math.ceil(Math.max(...needed)).toLocaleString("en-US")} requests that count.`
        ]),
    ...(fastest.length === 0
      ? []
      : [
          `${named(fastest)}: the rate at speed ${SPEED_MAX.toLocaleString("en-US")}, beyond which none is tried. The workers may take more: give traffic that is less far apart.`
        ])
  ]
}

const named = (found: ReadonlyArray<Trial>): string => found.map(({ policy }) => policy).join(", ")

/**
 * Finds the fastest traffic with which a goal is met: doubles or halves the speed until it is met on one side and missed on the other, then
 * bisects to within 2 %. Where chance has it met at some speed and missed at a slower one, it finds one of the edges.
 */
function* search(
  { goal, seeds }: SweepOptions,
  contender: Contender | undefined,
  policy: string,
  goodputOf: (run: Run) => number
): Study<Search> {
  const trials: Array<Trial> = []
  /** The fastest that was met, and the slowest that was missed. */
  let found: Trial = { policy, speed: 0, requestsPerSecond: 0, spanMs: 0, goodput: 0 }
  let missed = Number.POSITIVE_INFINITY
  let speed = 1
  while (speed >= SPEED_MIN && speed <= SPEED_MAX && missed / found.speed > PRECISION) {
    const runs = yield seeds.map((seed) => ({ contender, seed, speed, plots: false }))
    const trial = trialOf(policy, speed, runs, goodputOf)
    trials.push(trial)
    if (trial.goodput >= goal) found = trial
    else missed = speed
    speed = sayable(between(found.speed, missed))
  }
  return { found, trials }
}

/** Where to look next. */
const between = (found: number, missed: number): number => {
  if (found === 0) return missed / 2
  return missed === Number.POSITIVE_INFINITY ? found * 2 : Math.sqrt(found * missed)
}

const sayable = (speed: number): number => Number(speed.toPrecision(SPEED_DIGITS))
