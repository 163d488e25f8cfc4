import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { type Demand, DemandMeter } from "../../src/policies/DemandMeter.ts"
import { PrefixIndex } from "../../src/structures/PrefixIndex.ts"
import { holds } from "../support/arbitraries.ts"
import { chainOf, equalWorkers, oneRequest, poolOf } from "../support/pools.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

interface Subject {
  readonly make: (nowMs: number) => DemandMeter
}

const pool = poolOf(equalWorkers(2))

type Step =
  | { readonly do: "arrive"; readonly tokens: number; readonly refused: boolean }
  | { readonly do: "place" | "start" | "end" | "requeue" | "restart" | "take"; readonly which: number }
  | { readonly do: "pass"; readonly ms: number }

const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("arrive" as const), tokens: fc.nat(99), refused: fc.boolean() })
    },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constantFrom(
          "place" as const,
          "place" as const,
          "start" as const,
          "end" as const,
          "requeue" as const
        ),
        which: fc.nat(9)
      })
    },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 5000 }) })
    },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constantFrom("take" as const, "take" as const, "restart" as const),
        which: fc.nat(9)
      })
    }
  ),
  { maxLength: 80, size: "max" }
)

/** A request, as a list of what happened to it says. */
interface Known {
  readonly request: RequestView
  placedMs: number | undefined
  started: boolean
}

/** Drives a meter as a balancer does, keeps what happened since it was asked last, and recounts it when it is asked again. */
class Life {
  private nowMs = 1000
  private sinceMs = 1000
  private readonly meter: DemandMeter
  private live: Array<Known> = []
  private arrivals = 0
  private readonly ttfts: Array<number> = []
  /** When an attempt was at its worker; of the memory of one balancer, so that a restart begins a new one. */
  private readonly spans: Array<{ readonly fromMs: number; readonly toMs: number; readonly whole: boolean }> =
    []

  constructor({ make }: Subject) {
    this.meter = make(this.nowMs)
  }

  step(step: Step): void {
    const { live, meter, nowMs } = this
    switch (step.do) {
      case "pass":
        this.nowMs += step.ms
        return
      case "arrive": {
        const slot = Array.from({ length: 100 }, (_, i) => i).find(
          (i) => !live.some(({ request }) => request.slot === i)
        )!
        const request = { ...oneRequest, slot, arrivedMs: nowMs, promptTokens: step.tokens }
        this.arrivals++
        meter.decide()
        if (step.refused) return
        meter.admitted(request)
        live.push({ request, placedMs: undefined, started: false })
        return
      }
      case "restart":
        return this.restart()
      case "take":
        return this.take()
      default:
        if (live.length > 0) this.about(live[step.which % live.length]!, step.do)
    }
  }

  private about(known: Known, what: "place" | "start" | "end" | "requeue"): void {
    const { meter, nowMs } = this
    const { request, placedMs } = known
    if (what === "place" && placedMs === undefined) {
      meter.placed(request, 0, pool, nowMs)
      known.placedMs = nowMs
    } else if (what === "start" && placedMs !== undefined && !known.started) {
      meter.timed(request, 0, pool, nowMs)
      known.started = true
      this.ttfts.push(nowMs - request.arrivedMs)
    } else if ((what === "end" || what === "requeue") && placedMs !== undefined) {
      meter.released(request, 0, Reason.none, pool, nowMs)
      this.spans.push({ fromMs: placedMs, toMs: nowMs, whole: true })
      known.placedMs = undefined
    }
    if (what !== "end") return
    meter.ended(request)
    this.live = this.live.filter((each) => each !== known)
  }

  private restart(): void {
    const { meter, nowMs } = this
    meter.restarted(nowMs)
    for (const known of this.live) {
      meter.admitted(known.request)
      if (known.placedMs === undefined) continue
      this.spans.push({ fromMs: known.placedMs, toMs: nowMs, whole: false })
      known.placedMs = nowMs
      meter.placed(known.request, 0, pool, nowMs)
    }
  }

  private take(): void {
    const { nowMs, sinceMs } = this
    if (nowMs === sinceMs) return
    const found = this.meter.take(nowMs)
    const open = this.live.flatMap(({ placedMs }) =>
      placedMs === undefined ? [] : [{ fromMs: placedMs, toMs: nowMs, whole: false }]
    )
    const overlap = [...this.spans, ...open].reduce(
      (sum, { fromMs, toMs }) => sum + Math.max(0, Math.min(toMs, nowMs) - Math.max(fromMs, sinceMs)),
      0
    )
    const ended = this.spans.filter(({ whole }) => whole)
    const queued = this.live.filter(({ placedMs }) => placedMs === undefined)
    const expected: Omit<Demand, "ttftMsP95"> = {
      periodMs: nowMs - sinceMs,
      arrivalsPerSecond: (this.arrivals * 1000) / (nowMs - sinceMs),
      serviceMs: ended.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0) / ended.length,
      inFlight: overlap / (nowMs - sinceMs),
      queued: queued.length,
      queuedPromptTokens: queued.reduce((sum, { request }) => sum + request.promptTokens, 0)
    }
    const { ttftMsP95, ...rest } = found
    for (const [name, value] of Object.entries(expected))
      expect([name, rest[name as keyof typeof rest]]).toEqual([
        name,
        Number.isNaN(value) ? value : expect.closeTo(value, 6)
      ])
    const ttfts = this.ttfts.toSorted((a, b) => a - b)
    const exact = ttfts[Math.max(0, Math.ceil(0.95 * ttfts.length) - 1)] ?? Number.NaN
    if (Number.isNaN(exact)) expect(ttftMsP95).toBeNaN()
    else expect(Math.abs(ttftMsP95 - exact)).toBeLessThanOrEqual(0.01 * exact + 0.001)
    this.sinceMs = nowMs
    this.arrivals = this.ttfts.length = this.spans.length = 0
  }
}

const laws = [
  {
    id: "demand-recount",
    check: (subject: Subject) =>
      holds(
        fc.property(steps, (of) => {
          const life = new Life(subject)
          for (const step of [...of, { do: "pass", ms: 1 } as const, { do: "take", which: 0 } as const])
            life.step(step)
        })
      )
  },
  {
    id: "demand-cached-value",
    check: ({ make }: Subject) =>
      holds(
        fc.property(
          fc.array(fc.record({ family: fc.nat(2), blocks: fc.nat(6), worker: fc.nat(3) }), { maxLength: 40 }),
          (placements) => {
            const meter = make(0)
            const index = new PrefixIndex({ workersMax: 4, bytesMax: 1 << 20 })
            const chainIn = (family: number, blocks: number) =>
              chainOf(Array.from({ length: blocks }, (_, i) => 1 + family * 100 + i))
            for (const { family, blocks, worker } of placements) {
              const chain = chainIn(family, blocks)
              if (blocks > 0) index.stored(worker, 0, 0, chain, 0, blocks)
              meter.placed({ ...oneRequest, chain }, worker, pool, 0)
            }
            const values = new Float64Array(4)
            meter.addCachedValue(index, values)
            const used = placements.filter(({ blocks }) => blocks > 0).toReversed()
            const expected = [0, 1, 2, 3].map((worker) =>
              used.reduce(
                (sum, { family, blocks }, age) =>
                  sum + 2 ** (-age / 1024) * index.depth(chainIn(family, blocks), worker),
                0
              )
            )
            expect([...values]).toEqual(expected.map((value) => expect.closeTo(value, 6)))
          }
        )
      )
  }
]

describe("the demand of a pool", () => {
  keepsAll(laws, { make: (nowMs) => new DemandMeter(nowMs) })

  test("remembers the last 4,096 prompts", () => {
    const meter = new DemandMeter(0)
    const index = new PrefixIndex({ workersMax: 2, bytesMax: 1 << 20 })
    const chain = chainOf([7])
    index.stored(1, 0, 0, chain, 0, 1)
    for (let i = 0; i < 10_000; i++) meter.placed({ ...oneRequest, chain }, 1, pool, 0)
    const values = new Float64Array(2)
    meter.addCachedValue(index, values)
    const half = 2 ** (-1 / 1024)
    expect(values[1]).toBeCloseTo((1 - half ** 4096) / (1 - half), 6)
  })
})

describe("planted defects of it", () => {
  const planted = (change: (meter: DemandMeter) => object): Subject => ({
    make: (nowMs) => {
      const meter = new DemandMeter(nowMs)
      return Object.assign(Object.create(meter) as DemandMeter, change(meter))
    }
  })
  const defects: ReadonlyArray<Planted<Subject>> = [
    [
      "counts no request that is refused",
      "demand-recount",
      planted((meter) => ({
        decide: () => null,
        admitted: (one: RequestView) => {
          meter.decide()
          meter.admitted(one)
        }
      }))
    ],
    ["keeps its counts when the balancer is new", "demand-recount", planted(() => ({ restarted: () => {} }))],
    [
      "gives the end of an attempt for that of the request",
      "demand-recount",
      planted((meter) => ({
        ended: () => {},
        released: (...all: Parameters<DemandMeter["released"]>) => {
          meter.released(...all)
          meter.ended(all[0])
        }
      }))
    ],
    [
      "begins no period anew",
      "demand-recount",
      planted((meter) => ({ take: (nowMs: number) => ({ ...meter.take(nowMs), periodMs: nowMs - 1000 }) }))
    ],
    [
      "counts old prompts as new ones",
      "demand-cached-value",
      planted((meter) => ({
        addCachedValue: (index: PrefixIndex, values: Float64Array) => {
          meter.addCachedValue(index, values)
          for (let i = 0; i < values.length; i++) values[i] = Math.ceil(values[i]!)
        }
      }))
    ]
  ]
  findsAll(laws, defects)
})
