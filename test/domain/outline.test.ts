import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { Trace, TraceRequest } from "../../src/domain/Trace.ts"
import { outlineOf, type TraceOutline } from "../../src/domain/traces/outline.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Subject = (trace: Trace) => TraceOutline

const trace: fc.Arbitrary<Trace> = fc
  .array(
    fc.record({
      gapMs: fc.constantFrom(0, 10, 7_000, 31_000, 90_000),
      promptTokens: fc.integer({ min: 1, max: 300 }),
      outputTokens: fc.integer({ min: 1, max: 50 }),
      session: fc.constantFrom("a", "b", undefined)
    }),
    { maxLength: 40, size: "max" }
  )
  .map((requests) => {
    let arrivalMs = 0
    const labels = { blocks: [], tenant: undefined, model: undefined }
    return {
      header: { name: "x", kind: "real", blockSize: null, partialTail: false },
      requests: requests.map(({ gapMs, ...request }): TraceRequest => {
        arrivalMs += gapMs
        return { arrivalMs, ...request, ...labels }
      })
    }
  })

const laws = [
  {
    id: "outline-counts",
    check: (outlineOf: Subject) =>
      holds(
        fc.property(trace, (trace) => {
          const { requests, sessions, spanMs, turnsMean } = outlineOf(trace)
          const named = trace.requests.flatMap(({ session }) => session ?? [])
          expect([requests, sessions, Math.round((turnsMean ?? 0) * sessions)]).toEqual([
            trace.requests.length,
            new Set(named).size,
            named.length
          ])
          const times = trace.requests.map(({ arrivalMs }) => arrivalMs)
          expect(spanMs).toBe(times.length === 0 ? 0 : Math.max(...times) - Math.min(...times))
        })
      )
  },
  {
    id: "outline-lengths",
    check: (outlineOf: Subject) =>
      holds(
        fc.property(trace, (trace) => {
          const { outputTokens, promptTokens } = outlineOf(trace)
          for (const [lengths, field] of [
            [promptTokens, "promptTokens"],
            [outputTokens, "outputTokens"]
          ] as const) {
            const all = trace.requests.map((request) => request[field])
            if (lengths === null) {
              expect(all).toEqual([])
              continue
            }
            const shares = [
              [0.5, lengths.p50],
              [0.9, lengths.p90],
              [0.99, lengths.p99],
              [1, lengths.max]
            ] as const
            // The smallest one that so many are not above.
            for (const [share, quantile] of shares) {
              const enough = all.filter(
                (value) => all.filter((other) => other <= value).length >= share * all.length
              )
              expect(quantile).toBe(Math.min(...enough))
            }
            expect(lengths.mean * all.length).toBeCloseTo(
              all.reduce((sum, value) => sum + value, 0),
              6
            )
          }
        })
      )
  },
  {
    id: "outline-dispersion",
    check: (outlineOf: Subject) =>
      holds(
        fc.property(trace, (trace) => {
          const { dispersion, gapVariation, spanMs } = outlineOf(trace)
          const times = trace.requests.map(({ arrivalMs }) => arrivalMs - trace.requests[0]!.arrivalMs)
          const counts: Array<number> = []
          for (let fromMs = 0; fromMs + 60_000 <= spanMs; fromMs += 60_000)
            counts.push(times.filter((ms) => ms >= fromMs && ms < fromMs + 60_000).length)
          const gaps = times.slice(1).map((ms, i) => ms - times[i]!)
          // By the mean of squares less the square of the mean.
          const moments = (values: ReadonlyArray<number>) => {
            const mean = values.reduce((sum, value) => sum + value / values.length, 0)
            const squares = values.reduce((sum, value) => sum + value ** 2 / values.length, 0)
            return { mean, variance: Math.max(0, squares - mean ** 2) }
          }
          const minutes = moments(counts)
          if (counts.length < 2 || minutes.mean === 0) expect(dispersion).toBe(null)
          else expect(dispersion!).toBeCloseTo(minutes.variance / minutes.mean, 6)
          const between = moments(gaps)
          if (gaps.length === 0 || between.mean === 0) expect(gapVariation).toBe(null)
          else expect(gapVariation!).toBeCloseTo(Math.sqrt(between.variance) / between.mean, 3)
        })
      )
  }
]

const changed =
  (change: (outline: TraceOutline) => Partial<TraceOutline>): Subject =>
  (trace) => {
    const outline = outlineOf(trace)
    return { ...outline, ...change(outline) }
  }

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "takes the last arrival for the span",
    "outline-counts",
    changed(({ spanMs }) => ({ spanMs: spanMs + 1 }))
  ],
  [
    "takes requests without a session for one",
    "outline-counts",
    changed(({ sessions }) => ({ sessions: sessions + 1 }))
  ],
  [
    "mixes up prompts and answers",
    "outline-lengths",
    changed(({ outputTokens, promptTokens }) => ({ outputTokens: promptTokens, promptTokens: outputTokens }))
  ],
  [
    "forgets the last request",
    "outline-lengths",
    ({ header, requests }) => outlineOf({ header, requests: requests.slice(0, -1) })
  ],
  [
    "counts the minute that is not over",
    "outline-dispersion",
    ({ header, requests }) => {
      const last = requests.at(-1)
      return outlineOf({
        header,
        requests: last === undefined ? [] : [...requests, { ...last, arrivalMs: last.arrivalMs + 59_999 }]
      })
    }
  ]
]

describe("the outline of a trace", () => keepsAll(laws, outlineOf))

test("a trace may span more minutes than there is memory for", () => {
  const request = {
    promptTokens: 1,
    outputTokens: 1,
    blocks: [],
    session: undefined,
    tenant: undefined,
    model: undefined
  }
  const header = { name: "x", kind: "real", blockSize: null, partialTail: false }
  const arrivals = [0, Number.MAX_SAFE_INTEGER]
  const outline = outlineOf({ header, requests: arrivals.map((arrivalMs) => ({ arrivalMs, ...request })) })
  expect(outline.dispersion).toBeCloseTo(1, 6)
})

describe("planted defects", () => findsAll(laws, defects))
