import type { Workload } from "../replay/Workload.ts"
import { contend, type Contender, goodputBounds, type Ground, groundOf, type Setting } from "./ground.ts"

export interface SweepOptions extends Setting {
  readonly workloadOf: (seed: number, speed: number) => Workload
  readonly reference: Contender
  /** Share of the requests that must meet the targets, as a mean over the seeds. */
  readonly goal: number
}

/** The fastest traffic with which the goal was met; zeros where the slowest that was tried was too fast. */
export interface Capacity {
  readonly policy: string
  readonly speed: number
  readonly requestsPerSecond: number
  readonly goodput: number
}

export interface Sweep {
  readonly results: ReadonlyArray<Capacity>
  /** What the bounds of the goodput allow, and what the reference reaches. */
  readonly bounds: { readonly bound: Capacity; readonly sharedCache: Capacity }
}

/** One speed that was tried. */
export interface Trial {
  readonly policy: string
  readonly speed: number
  readonly goodput: number
}

/** Speeds that are tried at all, and how near to each other a search ends. */
const SPEED_MIN = 2 ** -8
const SPEED_MAX = 2 ** 12
const PRECISION = 1.02

/**
 * Finds for each of several pipelines the fastest traffic with which it meets a goal: doubles or halves the speed until the goal is met on
 * one side and missed on the other, then bisects to within 2 %. Where chance has it met at some speed and missed at a slower one, it
 * finds one of the edges. Tells of each trial.
 */
export function* sweep(options: SweepOptions): Generator<Trial, Sweep> {
  const { contenders, goal, reference, seeds, workloadOf } = options
  const grounds = seeds.map((seed) => groundOf(options, seed, workloadOf(seed, 1)))
  const over = (value: (ground: Ground, workload: Workload) => number, speed: number): number =>
    mean(grounds.map((ground) => value(ground, workloadOf(ground.seed, speed))))
  const search = function* (
    policy: string,
    goodputOf: (ground: Ground, workload: Workload) => number
  ): Generator<Trial, Capacity> {
    const { goodput, speed } = yield* fastest(policy, (speed) => over(goodputOf, speed), goal)
    const requestsPerSecond = speed === 0 ? 0 : over((_, workload) => rateOf(workload), speed)
    return { policy, speed, requestsPerSecond, goodput }
  }
  const searchFor = (contender: Contender): Generator<Trial, Capacity> =>
    search(contender.name, (ground, workload) => contend(ground, workload, contender, 1).figures.goodput)

  const results: Array<Capacity> = []
  for (const contender of contenders) results.push(yield* searchFor(contender))
  const sharedCache = yield* searchFor(reference)
  const bound = yield* search("bound", (ground, workload) => {
    const { alone, capacity } = goodputBounds(ground, workload)
    return Math.min(alone, capacity)
  })
  return { results, bounds: { bound, sharedCache } }
}

function* fastest(
  policy: string,
  goodputAt: (speed: number) => number,
  goal: number
): Generator<Trial, Pick<Capacity, "speed" | "goodput">> {
  /** The fastest that was met, and the slowest that was missed. */
  let met = { speed: 0, goodput: 0 }
  let missed = Number.POSITIVE_INFINITY
  let speed = 1
  while (speed >= SPEED_MIN && speed <= SPEED_MAX && missed / met.speed > PRECISION) {
    const goodput = goodputAt(speed)
    yield { policy, speed, goodput }
    if (goodput >= goal) met = { speed, goodput }
    else missed = speed
    if (met.speed === 0) speed = missed / 2
    else speed = missed === Number.POSITIVE_INFINITY ? met.speed * 2 : Math.sqrt(met.speed * missed)
  }
  return met
}

const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

const rateOf = ({ requests }: Workload): number =>
  (1000 * (requests.length - 1)) / (requests.at(-1)!.arrivalMs - requests[0]!.arrivalMs)
