import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import {
  type RecordedLine,
  type RecordedRequest,
  Recording,
  type RecordingBounds,
  type RecordingOptions
} from "../../src/observability/Recording.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Subject = (options: RecordingOptions) => Recording

const SLOTS = 8
const BLOCK = 16
const wide: RecordingBounds = {
  waitingLines: 1e6,
  waitingBytes: 1e9,
  readyBytes: 1e9,
  blocks: 1024,
  sessions: 64
}

/** One that ends may do so in any order; `at` chooses which. */
const step = fc.record({
  do: fc.constantFrom("arrive", "arrive", "end", "end", "take"),
  at: fc.nat(SLOTS - 1),
  /** Since the step before. One connection may be read after another that was heard later. */
  passedMs: fc.constantFrom(0, 0.25, 1, 7, -3),
  promptTokens: fc.constantFrom(1, BLOCK - 1, BLOCK, 5 * BLOCK + 3),
  outputTokens: fc.nat(9),
  maxTokens: fc.integer({ min: 1, max: 12 }),
  chain: fc.array(fc.constantFrom(3, 5, 2 ** 31 + 9), { maxLength: 7 }),
  tenant: fc.nat(3),
  model: fc.nat(1),
  session: fc.nat(2),
  reason: fc.constantFrom(Reason.none, Reason.none, Reason.queueFull, Reason.cancelled, Reason.workerLost)
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never
const steps = fc.array(step, { maxLength: 60, size: "max" })

interface Ended {
  readonly request: RecordedRequest
  readonly reason: Reason
}

/** A run: what arrived, in order, with its end if it had one, and all lines that came out, with how many had been out before each end. */
const runOf = (recording: Recording, steps: ReadonlyArray<Step>) => {
  const arrived: Array<{ readonly request: RecordedRequest; ended: Ended | undefined }> = []
  const open: Array<number | undefined> = new Array<number | undefined>(SLOTS).fill(undefined)
  const lines: Array<{ readonly arrivedMs: number; readonly text: string }> = []
  let nowMs = 100
  const take = (): void => {
    lines.push(...recording.take())
    const earliest = arrived.findIndex(({ ended }) => ended === undefined)
    // Of those that arrived after one that has not ended, none is out yet, unless that was given up.
    if (recording.overtaken === 0 && earliest >= 0) expect(lines.length).toBeLessThanOrEqual(earliest)
  }
  for (const each of steps) {
    nowMs += each.passedMs
    if (each.do === "take") take()
    else if (each.do === "arrive" && open[each.at] === undefined) {
      const { at: slot, chain, maxTokens, model, outputTokens, promptTokens, session, tenant } = each
      const request = {
        slot,
        arrivedMs: nowMs,
        promptTokens,
        outputTokens,
        maxTokens,
        chain: {
          count: chain.length,
          high: Uint32Array.from(chain),
          // Each stands for all before it.
          low: Uint32Array.from(chain, (_, i) =>
            chain.slice(0, i + 1).reduce((sum, value) => sum * 7 + value, i)
          )
        },
        tenant,
        model,
        sessionHigh: session === 0 ? 0 : 77,
        sessionLow: session,
        idHigh: 0x8000_000f * Math.sign(arrived.length),
        idLow: (0x1234_567b * arrived.length) >>> 0
      }
      open[slot] = arrived.length
      arrived.push({ request, ended: undefined })
      recording.arrived(request)
    } else if (each.do === "end" && open[each.at] !== undefined) {
      const those = arrived[open[each.at]!]!
      open[each.at] = undefined
      those.ended = { request: those.request, reason: each.reason }
      recording.ended(those.request, each.reason)
    }
  }
  recording.giveUpOpen()
  lines.push(...recording.take())
  return { arrived, lines }
}

const options = (bounds: RecordingBounds = wide, share = 1): RecordingOptions => ({
  labels: { tenant: (index) => (index === 0 ? undefined : `t${index}`), model: (index) => `"m\\${index}` },
  blockTokens: BLOCK,
  share,
  saltHigh: 0x1234_5678,
  saltLow: 0x9abc_def0,
  bounds
})

const traceOf = (lines: ReadonlyArray<RecordedLine>): Pick<Trace, "requests" | "ids"> => {
  const header = { format: "llm-trace/1", name: "x", kind: "real", blockSize: BLOCK, partialTail: false }
  const texts = lines.map(({ arrivedMs, text }) => `{"t":${Math.floor(arrivedMs)},${text}}`)
  const found = parseTrace([JSON.stringify(header), ...texts].join("\n"))
  expect("trace" in found ? [] : found).toEqual([])
  return "trace" in found ? found.trace : { requests: [] }
}
const parsed = (lines: ReadonlyArray<RecordedLine>) => traceOf(lines).requests
const idsOf = (lines: ReadonlyArray<RecordedLine>): ReadonlyArray<bigint> => {
  const { ids, requests } = traceOf(lines)
  return ids === undefined ? requests.map(() => 0n) : [...ids]
}

const ascending = (lines: ReadonlyArray<{ readonly arrivedMs: number }>): void => {
  for (const [i, { arrivedMs }] of lines.entries())
    expect(arrivedMs).toBeGreaterThanOrEqual(lines[i - 1]?.arrivedMs ?? 0)
}

/** Two lists name the same things by other names. */
const sameNames = (ours: ReadonlyArray<unknown>, theirs: ReadonlyArray<unknown>): void => {
  const places = (names: ReadonlyArray<unknown>): ReadonlyArray<number> =>
    names.map((name) => names.indexOf(name))
  expect(places(ours)).toEqual(places(theirs))
}

const laws = [
  {
    id: "recording-complete",
    check: (make: Subject) =>
      holds(
        fc.property(steps, (steps) => {
          const recording = make(options())
          const { arrived, lines } = runOf(recording, steps)
          const ended = arrived.filter((each) => each.ended !== undefined)
          ascending(lines)
          expect([recording.overtaken, recording.crowded]).toEqual([arrived.length - ended.length, 0])
          const out = parsed(lines)
          expect(out.map(({ promptTokens }) => promptTokens)).toEqual(
            ended.map(({ request }) => request.promptTokens)
          )
          expect(out.map(({ tenant }) => tenant)).toEqual(
            ended.map(({ request: { tenant } }) => (tenant === 0 ? undefined : `t${tenant}`))
          )
          for (const [i, line] of lines.entries()) {
            const { reason } = ended[i]!.ended!
            expect(line.text.includes('"end"')).toBe(reason !== Reason.none)
          }
        })
      )
  },
  {
    id: "recording-bounds",
    check: (make: Subject) =>
      holds(
        fc.property(
          steps,
          fc.record({
            waitingLines: fc.integer({ min: 1, max: 6 }),
            waitingBytes: fc.integer({ min: 0, max: 400 }),
            readyBytes: fc.integer({ min: 0, max: 600 })
          }),
          (steps, bounds) => {
            const recording = make(options({ ...wide, ...bounds }))
            const taken: Array<number> = []
            recording.take = () => {
              const lines = Recording.prototype.take.call(recording)
              taken.push(lines.reduce((sum, { text }) => sum + text.length, 0))
              return lines
            }
            const { arrived, lines } = runOf(recording, steps)
            ascending(lines)
            expect(Math.max(0, ...taken)).toBeLessThanOrEqual(bounds.readyBytes)
            expect(lines.length + recording.overtaken + recording.crowded).toBe(arrived.length)
            // As many as may wait are never given up for their number.
            if (bounds.waitingLines > SLOTS && bounds.waitingBytes > 1e6) expect(recording.overtaken).toBe(0)
          }
        )
      )
  },
  {
    id: "recording-waits-in-bounds",
    check: (make: Subject) =>
      holds(
        fc.property(
          fc.integer({ min: 1, max: 6 }),
          fc.integer({ min: 1, max: 12 }),
          (waitingLines, later) => {
            const recording = make(options({ ...wide, waitingLines }))
            const request = (slot: number): RecordedRequest => ({
              ...plain,
              slot,
              arrivedMs: slot,
              idLow: slot
            })
            recording.arrived(request(0))
            for (let slot = 1; slot <= later; slot++) {
              recording.arrived(request(slot))
              recording.ended(request(slot), Reason.none)
            }
            const isGivenUp = later >= waitingLines
            expect(recording.overtaken).toBe(isGivenUp ? 1 : 0)
            expect(recording.take().length).toBe(isGivenUp ? later : 0)
            recording.ended(request(0), Reason.none)
            expect(recording.take().length).toBe(isGivenUp ? 0 : later + 1)
          }
        )
      )
  },
  {
    id: "recording-structure",
    check: (make: Subject) =>
      holds(
        fc.property(steps, (steps) => {
          const { arrived, lines } = runOf(make(options()), steps)
          const ended = arrived.flatMap((each) => each.ended ?? [])
          const out = parsed(lines)
          const kept = ({ chain, promptTokens }: RecordedRequest): ReadonlyArray<string> =>
            Array.from(
              { length: Math.min(chain.count, Math.floor(promptTokens / BLOCK)) },
              (_, i) => `${chain.high[i]} ${chain.low[i]}`
            )
          expect(out.map(({ blocks }) => blocks.length)).toEqual(
            ended.map(({ request }) => kept(request).length)
          )
          sameNames(
            out.flatMap(({ blocks }) => blocks),
            ended.flatMap(({ request }) => kept(request))
          )
          sameNames(
            out.map(({ session }) => session),
            ended.map(({ request: { sessionLow, tenant } }) =>
              sessionLow === 0 ? undefined : `${tenant}/${sessionLow}`
            )
          )
          // Small numbers: nothing of a hash.
          const blocks = new Set(out.flatMap((request) => request.blocks))
          expect([...blocks].every((block) => block < blocks.size)).toBe(true)
        })
      )
  },
  {
    id: "recording-ids",
    check: (make: Subject) =>
      holds(
        fc.property(steps, (steps) => {
          const { arrived, lines } = runOf(make(options()), steps)
          const ended = arrived.flatMap((each) => each.ended ?? [])
          // The first one's is 0, which is none.
          const idOf = ({ idHigh, idLow }: RecordedRequest): bigint => (BigInt(idHigh) << 32n) + BigInt(idLow)
          expect(idsOf(lines)).toEqual(ended.map(({ request }) => idOf(request)))
        })
      )
  },
  {
    id: "recording-lengths",
    check: (make: Subject) =>
      holds(
        fc.property(steps, (steps) => {
          const { arrived, lines } = runOf(make(options()), steps)
          const ended = arrived.flatMap((each) => each.ended ?? [])
          for (const [i, { outputTokens }] of parsed(lines).entries()) {
            const { reason, request } = ended[i]!
            const got = Math.max(1, request.outputTokens)
            expect(outputTokens).toBeGreaterThanOrEqual(got)
            expect(outputTokens).toBeLessThanOrEqual(Math.max(got, request.maxTokens))
            if (reason === Reason.none || (reason === Reason.cancelled && request.outputTokens > 0))
              expect(outputTokens).toBe(got)
          }
        })
      )
  },
  {
    id: "recording-borrows",
    check: (make: Subject) =>
      holds(
        fc.property(
          fc.integer({ min: 1, max: 50 }),
          fc.integer({ min: 1, max: 50 }),
          (answered, maxTokens) => {
            const recording = make(options())
            const one = { ...plain, outputTokens: answered, maxTokens: 50 }
            const refused = { ...plain, slot: 1, outputTokens: 0, maxTokens }
            for (const [request, reason] of [
              [one, Reason.none],
              [refused, Reason.rateLimited],
              [{ ...refused, model: 1 }, Reason.rateLimited]
            ] as const) {
              recording.arrived(request)
              recording.ended(request, reason)
            }
            // Of its own model; without one, all that it asked for.
            expect(parsed(recording.take()).map(({ outputTokens }) => outputTokens)).toEqual([
              answered,
              Math.min(answered, maxTokens),
              maxTokens
            ])
          }
        )
      )
  },
  {
    id: "recording-share",
    check: (make: Subject) =>
      holds(
        fc.property(
          fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 30 }),
          fc.constantFrom(0.2, 0.5, 0.8),
          (sessions, share) => {
            const recording = make(options(wide, share))
            const recorded = sessions.map((session, i) => {
              const request = { ...plain, arrivedMs: i, sessionLow: session, idLow: i }
              recording.arrived(request)
              recording.ended(request, Reason.none)
              return recording.take().length
            })
            sessions.forEach((session, i) => expect(recorded[i]).toBe(recorded[sessions.indexOf(session)]))
            // Of many, about as many as asked for: the secret is fixed, and with it the outcome.
            const many = make(options(wide, share))
            for (let i = 0; i < 400; i++) {
              const request = { ...plain, arrivedMs: i, idLow: i }
              many.arrived(request)
              many.ended(request, Reason.none)
            }
            expect(Math.abs(many.take().length / 400 - share)).toBeLessThan(0.1)
          }
        )
      )
  }
]

const plain: RecordedRequest = {
  slot: 0,
  arrivedMs: 0,
  promptTokens: 40,
  outputTokens: 4,
  maxTokens: 8,
  chain: { count: 0, high: new Uint32Array(0), low: new Uint32Array(0) },
  tenant: 1,
  model: 0,
  sessionHigh: 0,
  sessionLow: 0,
  idHigh: 0,
  idLow: 0
}

const make: Subject = (options) => new Recording(options)

/** A recording that hears of requests, or gives lines, otherwise than it should. */
const altered =
  (alter: (recording: Recording, options: RecordingOptions) => void): Subject =>
  (options) => {
    const recording = new Recording(options)
    alter(recording, options)
    return recording
  }
const heard = (change: (request: RecordedRequest) => RecordedRequest): Subject =>
  altered((recording) => {
    const { arrived, ended } = recording
    Object.assign(recording, {
      arrived: (request: RecordedRequest) => arrived(change(request)),
      ended: (request: RecordedRequest, reason: Reason) => ended(change(request), reason)
    })
  })

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "takes requests as they end",
    "recording-complete",
    altered((recording) => {
      const { arrived, ended } = recording
      Object.assign(recording, {
        arrived: () => undefined,
        ended: (request: RecordedRequest, reason: Reason) => {
          arrived(request)
          ended(request, reason)
        }
      })
    })
  ],
  [
    "hears of a request twice",
    "recording-complete",
    altered((recording) => {
      const { ended } = recording
      Object.assign(recording, {
        ended: (request: RecordedRequest, reason: Reason) => {
          ended(request, reason)
          recording.arrived(request)
          ended(request, reason)
        }
      })
    })
  ],
  [
    "believes each connection's clock",
    "recording-complete",
    altered((recording) => {
      const times: Array<number> = []
      const { arrived } = recording
      Object.assign(recording, {
        arrived: (request: RecordedRequest) => {
          times.push(request.arrivedMs)
          arrived(request)
        }
      })
      let next = 0
      recording.take = () =>
        Recording.prototype.take.call(recording).map(({ text }) => ({ text, arrivedMs: times[next++]! }))
    })
  ],
  ["knows no bounds", "recording-bounds", (options) => new Recording({ ...options, bounds: wide })],
  ["waits for ever", "recording-waits-in-bounds", (options) => new Recording({ ...options, bounds: wide })],
  [
    "counts half of what it drops",
    "recording-bounds",
    altered((recording) => {
      let crowded = 0
      Object.defineProperty(recording, "crowded", {
        get: () => Math.floor(crowded / 2),
        set: (value: number) => {
          crowded = value
        }
      })
    })
  ],
  [
    "takes chains for longer than prompts",
    "recording-structure",
    heard((request) => ({ ...request, promptTokens: request.promptTokens + BLOCK }))
  ],
  [
    "mixes up the sessions of tenants",
    "recording-structure",
    heard((request) => ({ ...request, tenant: 1 }))
  ],
  [
    "shows what blocks hash to",
    "recording-structure",
    altered((recording) => Object.assign(recording, { blocks: { of: (high: number) => high } }))
  ],
  [
    "takes the limit for the answer",
    "recording-lengths",
    heard((request) => ({ ...request, outputTokens: request.maxTokens }))
  ],
  ["writes half of the id", "recording-ids", heard((request) => ({ ...request, idHigh: 0 }))],
  [
    "gives a request the id of the one before",
    "recording-ids",
    heard((request) => ({ ...request, idLow: request.idLow === 0 ? 0 : request.idLow - 0x1234_567b }))
  ],
  ["borrows from any model", "recording-borrows", heard((request) => ({ ...request, model: 0 }))],
  [
    "takes requests of a session one by one",
    "recording-share",
    heard((request) => ({ ...request, sessionHigh: 0, sessionLow: 0 }))
  ],
  ["takes all", "recording-share", (options) => new Recording({ ...options, share: 1 })]
]

describe("a recording", () => keepsAll(laws, make))
describe("planted defects", () => findsAll(laws, defects))
