import { expect } from "bun:test"
import * as fc from "fast-check"
import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import type { LoadSignal, Scaling, ScalingView } from "../../src/policies/Scaling.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { holds } from "../support/arbitraries.ts"
import { course, offered, PERIOD_MS, type Steady } from "../support/scalingModel.ts"

export interface ScalingSubject {
  readonly signals: ReadonlyArray<LoadSignal>
  readonly make: (options: Readonly<Record<string, OptionValue>>, rng: Rng) => Scaling
  /** Whether that many workers are right for a load that stays as it is, by the policy's definition at its defaults. */
  readonly isRight: (steady: Steady, count: number) => boolean
  /** What a policy that shrinks keeps at 1 or below: the use of `count` workers by the load of `view`, against its target. */
  readonly use: (view: ScalingView, count: number) => number
  /** Share of the workers needed from which three periods are enough to have them. */
  readonly reach: number
}

/** A statement about every scaling policy. `check` throws where it does not hold. */
export interface ScalingLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: ScalingSubject) => void
}

/** The default of every policy that has a window. */
const WINDOW_MS = 300_000
const loads: ReadonlyArray<LoadSignal> = [
  "arrivalsPerSecond",
  "serviceMs",
  "ttftMsP95",
  "inFlight",
  "queued",
  "backlogMs",
  "kvUse"
]

const figure = fc.oneof(
  fc.constantFrom(0, 1, Number.NaN, Number.POSITIVE_INFINITY),
  fc.double({ min: 0, max: 2, noNaN: true }),
  fc.double({ min: 0, max: 10_000, noNaN: true })
)
const known = fc.oneof(
  fc.constantFrom(0, 1),
  // Not so small that a share of it is 0.
  fc.double({ min: 1e-6, max: 2, noNaN: true }),
  fc.double({ min: 1e-6, max: 10_000, noNaN: true })
)

const viewOf = (of: fc.Arbitrary<number>): fc.Arbitrary<ScalingView> =>
  fc
    .record({
      ready: fc.nat(20),
      starting: fc.nat(4),
      min: fc.nat(4),
      extra: fc.nat(30),
      periodMs: fc.constant(PERIOD_MS),
      arrivalsPerSecond: of,
      serviceMs: of,
      ttftMsP95: of,
      inFlight: of,
      queued: of,
      backlogMs: of,
      kvUse: of,
      capacity: fc.oneof(fc.integer({ min: 1, max: 256 }), fc.constant(Number.NaN)),
      coldStartMs: fc.constantFrom(0, 1000, 60_000, Number.NaN)
    })
    .map(({ extra, ...view }) => ({ ...view, max: view.min + extra }))

/** At the ends of what figures may be, or where they matter. */
const view = fc.oneof(viewOf(figure), viewOf(fc.nat(100)))
const history = fc.array(view, { maxLength: 30 })

/** What a policy wants in every period, the first at 0. */
const run = (policy: Scaling, views: ReadonlyArray<ScalingView>): ReadonlyArray<number> =>
  views.map((each, period) => policy.desired(each, period * PERIOD_MS))

const fresh = ({ make }: ScalingSubject, options: Readonly<Record<string, OptionValue>> = {}): Scaling =>
  make(options, makeRng(1))

const within = ({ min, max }: ScalingView, count: number): number => Math.min(Math.max(count, min), max)

/** A load that most workers could serve with room to spare. */
const steady: fc.Arbitrary<Steady> = fc
  .record({
    capacity: fc.integer({ min: 4, max: 32 }),
    serviceMs: fc.integer({ min: 1000, max: 10_000 }),
    share: fc.double({ min: 0, max: 0.4, noNaN: true }),
    min: fc.integer({ min: 1, max: 3 }),
    max: fc.integer({ min: 8, max: 40 })
  })
  .map(({ share, ...rest }) => ({
    ...rest,
    arrivalsPerSecond: (share * rest.max * rest.capacity * 1000) / rest.serviceMs
  }))

/** The periods in which the count goes the other way than it went before. */
const turns = (counts: ReadonlyArray<number>): ReadonlyArray<number> => {
  let before = 0
  return counts.flatMap((count, i) => {
    const direction = i === 0 ? 0 : Math.sign(count - counts[i - 1]!)
    const turned = direction !== 0 && before !== 0 && direction !== before
    if (direction !== 0) before = direction
    return turned ? [i] : []
  })
}

const isConstant = ({ signals }: ScalingSubject): boolean => signals.length === 0

export const scalingLaws: ReadonlyArray<ScalingLaw> = [
  {
    id: "scaling-bounded",
    statement: "wants a whole number between the least and the most, whatever is missing, endless or 0",
    check: (subject) =>
      holds(
        fc.property(history, (views) => {
          const counts = run(fresh(subject), views)
          expect(counts.filter((count) => !Number.isInteger(count))).toEqual([])
          expect(counts).toEqual(counts.map((count, i) => within(views[i]!, count)))
        })
      )
  },
  {
    id: "scaling-missing",
    statement: "where no figure is known it wants as many workers as there are, held between the bounds",
    check: (subject) =>
      holds(
        fc.property(viewOf(fc.constant(Number.NaN)), fc.nat(40), (one, more) => {
          const wanted = run(
            fresh(subject),
            Array.from({ length: 1 + more }, () => one)
          )
          const there = isConstant(subject) ? one.min : within(one, one.ready + one.starting)
          expect(wanted.filter((count) => count !== there)).toEqual([])
        })
      )
  },
  {
    id: "scaling-monotone",
    statement: "after the same past, more load never wants fewer workers",
    check: (subject) =>
      holds(
        fc.property(
          history,
          viewOf(known),
          fc.tuple(...loads.map(() => fc.oneof(fc.constant(0), known))),
          (views, light, extra) => {
            const heavy = { ...light }
            for (const [i, signal] of loads.entries()) heavy[signal] += extra[i]!
            const [less, more] = [light, heavy].map((last) => run(fresh(subject), [...views, last]).at(-1)!)
            expect(more).toBeGreaterThanOrEqual(less!)
          }
        )
      )
  },
  {
    id: "scaling-no-flap",
    statement: "under a load that stays as it is, no stabilisation window sees the number turn twice",
    check: (subject) =>
      holds(
        fc.property(steady, fc.nat(40), fc.nat(4), (load, from, coldPeriods) => {
          const count = within({ ...load } as ScalingView, from)
          const { counts } = course(fresh(subject), load, { count, coldPeriods }, 90)
          const found = turns([count, ...counts])
          const apart = found.slice(1).map((period, i) => (period - found[i]!) * PERIOD_MS)
          expect(apart.filter((timeMs) => timeMs <= WINDOW_MS)).toEqual([])
        })
      )
  },
  {
    id: "scaling-down-safe",
    statement: "has fewer workers only where those that stay are used up to the target at most",
    check: (subject) => {
      if (isConstant(subject)) return
      holds(
        fc.property(fc.array(viewOf(known), { minLength: 1, maxLength: 10 }), (views) => {
          for (const window of [0, WINDOW_MS]) {
            const counts = run(fresh(subject, { window }), views)
            for (const [i, count] of counts.entries()) {
              const one = views[i]!
              if (count >= one.ready + one.starting || count === one.max) continue
              const after = subject.use(one, count)
              if (!Number.isNaN(after)) expect(after).toBeLessThanOrEqual(1 + 1e-6)
            }
          }
        })
      )
    }
  },
  {
    id: "scaling-patient",
    statement:
      "a lull shorter than the stabilisation window stops no worker, nor does a policy that has seen no window yet",
    check: (subject) => {
      if (isConstant(subject)) return
      holds(
        fc.property(viewOf(known), fc.integer({ min: 1, max: WINDOW_MS / PERIOD_MS - 1 }), (busy, lull) => {
          const policy = fresh(subject)
          const before = policy.desired(busy, 0)
          expect(before).toBeGreaterThanOrEqual(within(busy, busy.ready + busy.starting))
          for (let period = 1; period <= lull; period++) {
            const idle = { ...busy, ready: before, starting: 0 }
            for (const signal of loads) idle[signal] = 0
            expect(policy.desired(idle, period * PERIOD_MS)).toBeGreaterThanOrEqual(before)
          }
        })
      )
    }
  },
  {
    id: "scaling-converges",
    statement:
      "for a load that stays as it is the number is right within three periods; where it is an eighth to a half of that at first (of a figure " +
      "that cannot grow far beyond its target, a half) it is enough within three, and right when what waited is gone and the window over",
    check: (subject) =>
      holds(
        fc.property(
          steady,
          fc.nat(40),
          fc.double({ min: subject.reach, max: 0.5, noNaN: true }),
          (load, extra, part) => {
            const right = (count: number): boolean => subject.isRight(load, count)
            const enough = Math.ceil(offered(load) / load.capacity)
            fc.pre(enough < load.max)
            // All that arrive can be served from the start: nothing waits that must be worked off.
            const plenty = Math.min(load.max, Math.max(load.min, enough + 1) + extra)
            const still = course(
              fresh(subject, windowless(subject)),
              load,
              { count: plenty, coldPeriods: 0 },
              20
            )
            expect(still.counts.slice(2).filter((count) => !right(count))).toEqual([])
            const few = Math.max(load.min, Math.ceil(enough * part))
            // A queue that hardly grows makes nobody late for a while.
            const short = offered(load) / (few * load.capacity)
            fc.pre(short < 0.95 || short > 1.5)
            const later = course(fresh(subject), load, { count: few, coldPeriods: 0 }, 120)
            if (!isConstant(subject)) expect(later.counts[2]!).toBeGreaterThanOrEqual(enough)
            expect(right(later.counts.at(-1)!)).toBe(true)
          }
        )
      )
  },
  {
    id: "scaling-signals",
    statement: "figures of load that it does not name change nothing",
    check: (subject) =>
      holds(
        fc.property(fc.array(fc.tuple(view, view), { maxLength: 20 }), (pairs) => {
          const others = pairs.map(([one, other]) => {
            const changed = { ...one }
            for (const signal of loads) if (!subject.signals.includes(signal)) changed[signal] = other[signal]
            return changed
          })
          const views = pairs.map(([one]) => one)
          expect(run(fresh(subject), others)).toEqual(run(fresh(subject), views))
        })
      )
  },
  {
    id: "scaling-deterministic",
    statement: "the same figures give the same numbers, whatever other pools there are",
    check: (subject) =>
      holds(
        fc.property(history, history, (views, others) => {
          const alone = run(fresh(subject), views)
          const [policy, other] = [fresh(subject), fresh(subject)]
          const beside = views.map((each, i) => {
            if (i < others.length) other.desired(others[i]!, i * PERIOD_MS)
            return policy.desired(each, i * PERIOD_MS)
          })
          expect(beside).toEqual([...alone])
        })
      )
  }
]

/** Shrinks at once, where there is a window at all. */
const windowless = (subject: ScalingSubject): Readonly<Record<string, OptionValue>> =>
  isConstant(subject) ? {} : { window: 0 }
