import { describe } from "bun:test"
import { scalings } from "../../src/policies/registry.ts"
import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import type { ScalingView } from "../../src/policies/Scaling.ts"
import { waitingLonger } from "../../src/structures/ErlangC.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { offered, type Steady, ttftMsP95 } from "../support/scalingModel.ts"
import { scalingLaws, type ScalingSubject } from "./scalingLaws.ts"

const clamp = ({ min, max }: Pick<Steady, "min" | "max">, count: number): number =>
  Math.min(Math.max(count, min), max)

/** The share of the places that the requests in flight fill. */
const filled = ({ capacity, inFlight }: ScalingView, count: number): number => inFlight / (count * capacity)

/** The least number that is `enough`, found by trying each. */
const leastCount = (steady: Steady, enough: (count: number) => boolean): number => {
  let count = steady.min
  while (count < steady.max && !enough(count)) count++
  return count
}

/** Right is exactly the number that `needed`, rounded up, says. */
const exactly =
  (needed: (steady: Steady) => number): ScalingSubject["isRight"] =>
  (steady, count) =>
    count === clamp(steady, Math.ceil(needed(steady) - 1e-9))

const erlang: ScalingSubject["isRight"] = (steady, count) => {
  const { capacity, serviceMs } = steady
  const load = offered(steady)
  const isEnough = (workers: number): boolean =>
    load === 0 || waitingLonger(workers * capacity, load, 500 / serviceMs) <= 0.05
  return count === leastCount(steady, isEnough)
}

const tracking =
  (target: number, needed: (steady: Steady) => number): ScalingSubject["isRight"] =>
  (steady, count) => {
    const wanted = needed(steady) / target
    return Math.abs(wanted / count - 1) <= 0.1 + 1e-9 || count === clamp(steady, Math.ceil(wanted - 1e-9))
  }

interface Oracle {
  readonly options?: Readonly<Record<string, OptionValue>>
  readonly isRight: ScalingSubject["isRight"]
  readonly use?: ScalingSubject["use"]
  readonly reach?: number
}

/** What each policy's definition comes to, for a load that stays as it is and in the model of `scalingModel`. */
const oracles: Readonly<Record<string, ReadonlyArray<Oracle>>> = {
  fixed: [{ isRight: ({ min }, count) => count === min }],
  "target-tracking": [
    {
      isRight: tracking(0.7, (steady) => offered(steady) / steady.capacity),
      use: (view, count) => (view.inFlight + view.queued) / (count * Math.min(64, view.capacity) * 0.7)
    },
    {
      options: { metric: "kv-use" },
      isRight: tracking(0.7, (steady) => offered(steady) / steady.capacity),
      use: (view, count) => (view.ready * view.kvUse) / (count * 0.7),
      reach: 0.5
    },
    {
      options: { metric: "backlog", backlog: 50 },
      isRight: tracking(0.5, (steady) => offered(steady) / steady.capacity),
      use: (view, count) => (view.ready * view.backlogMs) / (count * 50)
    }
  ],
  "queue-driven": [{ isRight: exactly((steady) => offered(steady) / (steady.capacity * 0.8)) }],
  "latency-driven": [
    {
      // How late requests are says little about how many workers are missing, so doubling may go too far.
      isRight: (steady, count) => {
        const least = leastCount(steady, (workers) => ttftMsP95(steady, workers) <= 2000)
        return count >= least && count <= clamp(steady, 3 * least)
      }
    }
  ],
  "erlang-c": [{ isRight: erlang }],
  "holt-winters": [{ isRight: erlang }]
}

const subjects = scalings.flatMap((entry) =>
  (oracles[entry.name] ?? []).map(({ options = {}, isRight, use = filled, reach = 0.125 }) => {
    const subject: ScalingSubject = {
      signals: entry.signals,
      make: (given, rng) => entry.make({ ...options, ...given }, rng),
      isRight,
      use,
      reach
    }
    return [`${entry.name} ${JSON.stringify(options)}`, subject] as const
  })
)

describe.each(subjects)("scaling %s", (_, subject) => keepsAll(scalingLaws, subject))

describe("planted defects of scaling policies", () => {
  interface Parts {
    /** Workers that are needed, by the places that requests fill to seven tenths. */
    readonly needed: (view: ScalingView, current: number) => number
    /** What is made of it, with what was needed in the periods of the window. */
    readonly settle: (needed: number, recent: ReadonlyArray<number>, view: ScalingView) => number
  }

  const needed = ({ capacity, inFlight, queued }: ScalingView): number =>
    Math.ceil(((inFlight + queued) / (capacity * 0.7)) * (1 - 1e-9))

  /** A policy of plain variables; a defect replaces one of its parts. */
  const planted = (defect: Partial<Parts>, signals: ScalingSubject["signals"] = ["inFlight", "queued"]) => {
    const parts: Parts = {
      needed: (view, current) => (Number.isNaN(needed(view)) ? current : needed(view)),
      settle: (_, recent, view) => clamp(view, Math.max(...recent)),
      ...defect
    }
    const subject: ScalingSubject = {
      signals,
      make: ({ window = 300_000 }) => {
        const recent: Array<{ readonly count: number; readonly atMs: number }> = []
        return {
          desired: (view, nowMs) => {
            const current = clamp(view, view.ready + view.starting)
            if (recent.length === 0) recent.push({ count: current, atMs: nowMs })
            const count = parts.needed(view, current)
            recent.push({ count: clamp(view, count), atMs: nowMs })
            const within = recent.filter(({ atMs }) => atMs >= nowMs - Number(window))
            return parts.settle(
              count,
              within.map((each) => each.count),
              view
            )
          }
        }
      },
      isRight: exactly((steady) => offered(steady) / (steady.capacity * 0.7)),
      use: (view, count) => filled(view, count) / 0.7,
      reach: 0.125
    }
    return subject
  }

  let shared = 0
  const defects: ReadonlyArray<Planted<ScalingSubject>> = [
    [
      "knows no most",
      "scaling-bounded",
      planted({ settle: (_, recent, { min }) => Math.max(min, ...recent, 20) })
    ],
    ["lets what is missing through", "scaling-bounded", planted({ needed })],
    [
      "takes what is missing for no load",
      "scaling-missing",
      planted({ needed: (view) => (Number.isNaN(needed(view)) ? 0 : needed(view)) })
    ],
    [
      "takes a long queue for a slip",
      "scaling-monotone",
      planted({ needed: (view) => needed(view.queued > 5000 ? { ...view, queued: 0 } : view) })
    ],
    [
      "has one fewer below the target, without a look at what comes then",
      "scaling-no-flap",
      planted({
        needed: ({ capacity, inFlight, queued, ready }, current) =>
          (inFlight + queued) / (capacity * ready) > 0.7 ? current + 1 : current - 1
      })
    ],
    [
      "halves a pool that is half idle",
      "scaling-down-safe",
      planted({
        needed: (view, current) =>
          needed(view) < current * 0.9 ? Math.min(needed(view), Math.floor(current / 2)) : needed(view)
      })
    ],
    ["shrinks at once", "scaling-patient", planted({ settle: (count, _, view) => clamp(view, count) })],
    [
      "adds one at a time",
      "scaling-converges",
      planted({ needed: (view, current) => Math.min(needed(view), current + 1) })
    ],
    ["keeps one to spare", "scaling-converges", planted({ needed: (view) => needed(view) + 1 })],
    [
      "looks at the KV cache as well",
      "scaling-signals",
      planted({ needed: (view, current) => (view.kvUse > 1 ? current : needed(view)) })
    ],
    [
      "remembers in a variable of the module",
      "scaling-deterministic",
      planted({ needed: (view) => needed(view) + (shared++ % 2) })
    ]
  ]
  findsAll(scalingLaws, defects)

  describe("the policy that they are planted in is right", () => keepsAll(scalingLaws, planted({})))
})
