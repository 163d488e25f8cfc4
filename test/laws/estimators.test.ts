import { describe, expect, test } from "bun:test"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { Derating } from "../../src/policies/estimators/Derating.ts"
import { OutputLengths } from "../../src/policies/estimators/OutputLengths.ts"
import { SlowStart } from "../../src/policies/estimators/SlowStart.ts"
import {
  type CostColumns,
  StepCosts,
  type StepPrices,
  type StepTotals
} from "../../src/policies/estimators/StepCosts.ts"
import { TtftRatio } from "../../src/policies/estimators/TtftRatio.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import {
  type CostsMaker,
  type DeratingMaker,
  deratingLaws,
  type LengthsMaker,
  outputLengthsLaws,
  type RatioMaker,
  type SlowStartMaker,
  slowStartLaws,
  stepCostsLaws,
  ttftRatioLaws
} from "./estimatorLaws.ts"

const lengths =
  (defect: (inner: OutputLengths) => Partial<ReturnType<LengthsMaker>>): LengthsMaker =>
  (options) => {
    const inner = new OutputLengths(options)
    return {
      record: (tenant, tokens, nowMs) => inner.record(tenant, tokens, nowMs),
      quantile: (tenant, q, maxTokens) => inner.quantile(tenant, q, maxTokens),
      mean: (tenant, maxTokens) => inner.mean(tenant, maxTokens),
      ...defect(inner)
    }
  }

const lengthsDefects: ReadonlyArray<Planted<LengthsMaker>> = [
  [
    "takes the quantile from above",
    "output-lengths-error",
    lengths((inner) => ({ quantile: (tenant, q, maxTokens) => inner.quantile(tenant, 1 - q, maxTokens) }))
  ],
  [
    "is two buckets too high",
    "output-lengths-error",
    lengths((inner) => ({ quantile: (tenant, q, maxTokens) => inner.quantile(tenant, q, maxTokens) * 1.15 }))
  ],
  [
    "forgets the request's maximum",
    "output-lengths-range",
    lengths((inner) => ({ quantile: (tenant, q) => inner.quantile(tenant, q, Number.MAX_SAFE_INTEGER) }))
  ],
  [
    "believes one request",
    "output-lengths-backoff",
    lengths((inner) => ({
      record: (tenant, tokens, nowMs) => {
        for (let i = 0; i < 100; i++) inner.record(tenant, tokens, nowMs)
      }
    }))
  ],
  [
    "keeps one histogram for all",
    "output-lengths-backoff",
    lengths((inner) => ({ record: (_, tokens, nowMs) => inner.record(0, tokens, nowMs) }))
  ],
  [
    "lets tenants share a row by their remainder",
    "output-lengths-bounded",
    lengths((inner) => ({
      record: (tenant, tokens, nowMs) => inner.record(tenant % 4, tokens, nowMs),
      quantile: (tenant, q, maxTokens) => inner.quantile(tenant % 4, q, maxTokens)
    }))
  ],
  ["never forgets", "output-lengths-decay", () => new OutputLengths({ halfLifeMs: Number.POSITIVE_INFINITY })]
]

/** Scales the prior by how long work took, in place of fitting prices. */
class Scaling {
  actualMs = 0
  expectedMs = 0
  protected readonly columns: CostColumns
  protected readonly prior: StepPrices
  protected scale = 1
  private heard: StepTotals | undefined

  constructor(columns: CostColumns, prior: StepPrices = presets["8b-h100"].cost) {
    this.columns = columns
    this.prior = prior
  }

  joined(worker: number): void {
    this.write(worker)
  }

  left(): void {}

  observe(worker: number, totals: StepTotals): boolean {
    const { heard, prior } = this
    this.heard = totals
    if (heard === undefined) return false
    this.actualMs = totals.busyMs - heard.busyMs
    this.expectedMs =
      prior.baseMs * (totals.steps - heard.steps) +
      prior.prefillTokenMs * (totals.stepPrefillTokens - heard.stepPrefillTokens) +
      prior.prefillAttentionMs * (totals.stepAttention - heard.stepAttention) +
      prior.decodeSequenceMs * (totals.stepDecodes - heard.stepDecodes) +
      prior.decodeContextMs * (totals.stepContextTokens - heard.stepContextTokens)
    this.scale += 0.1 * (this.actualMs / this.expectedMs - this.scale)
    this.write(worker)
    return true
  }

  private write(worker: number): void {
    for (const name of Object.keys(this.prior) as ReadonlyArray<keyof StepPrices>)
      this.columns[name][worker] = this.prior[name] * this.scale
  }
}

/** Costs whose columns a defect may spoil after each heartbeat, the n-th. */
const costs =
  (
    spoil: (columns: CostColumns, worker: number, beats: number, prior: StepPrices) => void,
    deaf = Infinity
  ): CostsMaker =>
  (columns, prior = presets["8b-h100"].cost) => {
    const inner = new StepCosts(columns, prior)
    let beats = 0
    const observe = (worker: number, totals: StepTotals): boolean => {
      if (++beats > deaf) return false
      const worked = inner.observe(worker, totals)
      spoil(columns, worker, beats, prior)
      return worked
    }
    return new Proxy(inner, { get: (target, name) => (name === "observe" ? observe : bound(target, name)) })
  }

const bound = (target: object, name: string | symbol): unknown => {
  const value: unknown = Reflect.get(target, name)
  return typeof value === "function" ? (value.bind(target) as unknown) : value
}

const costsDefects: ReadonlyArray<Planted<CostsMaker>> = [
  ["scales all prices together", "step-costs-converge", (columns, prior) => new Scaling(columns, prior)],
  [
    "takes the prior for the truth",
    "step-costs-converge",
    costs((columns, worker, _, prior) => {
      columns.decodeSequenceMs[worker] = prior.decodeSequenceMs
    })
  ],
  ["believes a stalled step", "step-costs-noise", (columns, prior) => new Scaling(columns, prior)],
  [
    "divides by steps that were not made",
    "step-costs-finite",
    (columns, prior) => new Scaling(columns, prior)
  ],
  [
    "forgets what is not shown any more",
    "step-costs-kept",
    costs((columns, worker, beats, prior) => {
      const share = Math.exp(-Math.max(0, beats - 400) / 1000)
      columns.prefillTokenMs[worker] =
        prior.prefillTokenMs * (1 - share) + columns.prefillTokenMs[worker]! * share
    })
  ],
  ["never believes a change", "step-costs-change", costs(() => {}, 400)],
  ["compares a worker with itself", "step-costs-fleet", selfCompared()],
  [
    "takes all for the first",
    "step-costs-fleet",
    costs((columns) => {
      for (const column of Object.values(columns)) column.fill(column[0]!, 0, 4)
    })
  ],
  ["goes by what each has shown alone", "step-costs-equal", selfCompared()]
]

/** What is expected of a worker is what it showed itself. */
function selfCompared(): CostsMaker {
  return (columns, prior) => {
    const alone = Array.from({ length: 5 }, () => new StepCosts(columns, prior))
    const all = {
      actualMs: 0,
      expectedMs: 0,
      joined: (worker: number, speed: number) => alone[worker]!.joined(worker, speed),
      left: () => {},
      observe: (worker: number, totals: StepTotals) => {
        const worked = alone[worker]!.observe(worker, totals)
        all.actualMs = alone[worker]!.actualMs
        all.expectedMs = alone[worker]!.expectedMs
        return worked
      }
    }
    return all
  }
}

/** A derating that looks at a hundred workers more, all as expected: it compares with what is expected, not with the others. */
const absolute: DeratingMaker = (options) => {
  const inner = new Derating(options)
  return new Proxy(inner, {
    get: (target, name) => {
      if (name !== "review") return bound(target, name)
      return (nowMs: number) => {
        for (let worker = 100; worker < 200; worker++) inner.record(worker, 100, 100)
        return inner.review(nowMs)
      }
    }
  })
}

const deratingDefects: ReadonlyArray<Planted<DeratingMaker>> = [
  [
    "gives a worker that left its factor",
    "derating-range",
    () => {
      const inner = new Derating()
      return new Proxy(inner, { get: (target, name) => (name === "left" ? () => {} : bound(target, name)) })
    }
  ],
  ["derates to a fixed share", "derating-straggler", () => new Derating({ minimum: 0.5 })],
  ["derates at once", "derating-hysteresis", (options) => new Derating({ ...options, windows: 1 })],
  [
    "ends a derating below the threshold that begins it",
    "derating-hysteresis",
    (options) => new Derating({ ...options, recovery: 2 })
  ],
  [
    "never tries a derated worker again",
    "derating-recovery",
    () => {
      const inner = new Derating()
      const factors = new Map<number, number>()
      return new Proxy(inner, {
        get: (target, name) =>
          name === "factor"
            ? (worker: number) => {
                if (!Number.isNaN(inner.ratio(worker)) || !factors.has(worker))
                  factors.set(worker, inner.factor(worker))
                return factors.get(worker)!
              }
            : bound(target, name)
      })
    }
  ],
  [
    "ends one window at a time, however late",
    "derating-silence",
    (options) => {
      const inner = new Derating(options)
      let window = 0
      return {
        record: (...given) => inner.record(...given),
        review: () => inner.review(1000 * window++),
        factor: (worker) => inner.factor(worker),
        ratio: (worker) => inner.ratio(worker),
        left: (worker) => inner.left(worker)
      }
    }
  ],
  ["compares with what is expected, not with the others", "derating-common", absolute]
]

const slowStartDefects: ReadonlyArray<Planted<SlowStartMaker>> = [
  [
    "takes the aggression itself for the exponent",
    "slow-start-ramp",
    (options) => new SlowStart({ ...options, aggression: 1 / (options?.aggression ?? 1) })
  ],
  ["starts from nothing", "slow-start-ramp", (options) => new SlowStart({ ...options, minimum: 1e-6 })]
]

const ratio =
  (defect: (inner: TtftRatio) => Partial<ReturnType<RatioMaker>>): RatioMaker =>
  (options) => {
    const inner = new TtftRatio(options)
    const overrides = defect(inner)
    return new Proxy(inner, {
      get: (target, name) => Reflect.get(overrides, name) ?? bound(target, name)
    })
  }

const ratioDefects: ReadonlyArray<Planted<RatioMaker>> = [
  ["tracks the median", "ttft-ratio-quantile", (options) => new TtftRatio({ ...options, quantile: 0.5 })],
  [
    "divides the other way round",
    "ttft-ratio-quantile",
    ratio((inner) => ({
      record: (predictedMs, actualMs, nowMs) => inner.record(actualMs, predictedMs, nowMs)
    }))
  ],
  [
    "believes one request",
    "ttft-ratio-cold",
    ratio((inner) => ({
      record: (predictedMs, actualMs, nowMs) => {
        for (let i = 0; i < 1000; i++) inner.record(predictedMs, actualMs, nowMs)
      }
    }))
  ],
  [
    "never forgets",
    "ttft-ratio-fades",
    (options) => new TtftRatio({ ...options, halfLifeMs: Number.POSITIVE_INFINITY })
  ],
  [
    "changes with every request",
    "ttft-ratio-window",
    (options) => new TtftRatio({ ...options, windowMs: 1 })
  ],
  [
    "begins a window when somebody calls",
    "ttft-ratio-silence",
    ratio((inner) => {
      let reviewedMs = Number.NEGATIVE_INFINITY
      return {
        review: (nowMs) => {
          if (nowMs - reviewedMs < 1000) return
          reviewedMs = nowMs
          inner.review(nowMs)
        }
      }
    })
  ]
]

describe("lengths of answers", () => {
  keepsAll(outputLengthsLaws, (options) => new OutputLengths(options))
  findsAll(outputLengthsLaws, lengthsDefects)
})
describe("costs of steps", () => {
  keepsAll(stepCostsLaws, (columns, prior) => new StepCosts(columns, prior))
  findsAll(stepCostsLaws, costsDefects)
})
describe("derating", () => {
  keepsAll(deratingLaws, (options) => new Derating(options))
  findsAll(deratingLaws, deratingDefects)
})
describe("slow start", () => {
  keepsAll(slowStartLaws, (options) => new SlowStart(options))
  findsAll(slowStartLaws, slowStartDefects)
})
describe("ratio of first tokens", () => {
  keepsAll(ttftRatioLaws, (options) => new TtftRatio(options))
  findsAll(ttftRatioLaws, ratioDefects)
})

test("a worker that did not join is not listened to", () => {
  const columns = { ...presets["8b-h100"].cost } as unknown as CostColumns
  const all = new StepCosts(columns)
  const totals = {
    steps: 1,
    busyMs: 1,
    stepPrefillTokens: 0,
    stepAttention: 0,
    stepDecodes: 0,
    stepContextTokens: 0
  }
  expect(all.observe(7, totals)).toBe(false)
})
