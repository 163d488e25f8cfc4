import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { Trace, TraceRequest } from "../../src/domain/Trace.ts"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import { type TraceWriter, traceWriters } from "../../src/domain/traces/writeTrace.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Writers = Readonly<Record<keyof typeof traceWriters, TraceWriter>>

const read = (lines: ReadonlyArray<string>, name = ""): Trace => {
  const found = parseTrace(lines.join("\n"), { name })
  if (!("trace" in found)) throw new Error(found.join("\n"))
  return found.trace
}

const label = fc.option(fc.stringMatching(/^[\x21-\x7e]{1,20}$/), { nil: undefined })

/** Requests whose blocks stand for all before them, as a trace's do: each is one of a few conversations, cut somewhere. */
const trace: fc.Arbitrary<Trace> = fc
  .record({
    blockSize: fc.constantFrom(null, 64, 100, 256, 512, 1024),
    partialTail: fc.boolean(),
    name: fc.oneof(fc.constant(""), fc.stringMatching(/^[\x21-\x7e]{1,20}$/)),
    about: fc.option(
      fc.record({ source: fc.string(), notes: fc.string(), seed: fc.nat() }, { requiredKeys: ["source"] }),
      { nil: undefined }
    ),
    requests: fc.array(
      fc.record({
        gapMs: fc.nat(5000),
        promptTokens: fc.integer({ min: 1, max: 6000 }),
        outputTokens: fc.integer({ min: 1, max: 500 }),
        conversation: fc.nat(2),
        session: label,
        turn: fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
        thinkMs: fc.option(fc.oneof(fc.nat(600_000), fc.double({ min: 0, max: 1e6, noNaN: true })), {
          nil: undefined
        }),
        tenant: label,
        model: label
      }),
      { minLength: 1, maxLength: 12 }
    ),
    /** 0 of those that have none. */
    given: fc.array(fc.oneof(fc.constant(0n), fc.bigInt({ min: 1n, max: 2n ** 64n - 1n })), { maxLength: 12 })
  })
  .map(({ about, blockSize, given, name, partialTail, requests }) => {
    let arrivalMs = -requests[0]!.gapMs
    const ids = BigUint64Array.from(requests, (_, number) => given[number] ?? 0n)
    const isPartly = partialTail && blockSize !== null
    return {
      header: { name, kind: "real", blockSize, partialTail: isPartly, ...(about && { about }) },
      ...(ids.some((id) => id !== 0n) && { ids }),
      requests: requests.map(({ conversation, gapMs, ...request }): TraceRequest => {
        arrivalMs += gapMs
        const whole = blockSize === null ? 0 : Math.floor(request.promptTokens / blockSize)
        const blocks = Array.from({ length: whole }, (_, depth) => 1000 * conversation + depth)
        // A partly filled block is another one than that which is full.
        const isMore = isPartly && whole * blockSize < request.promptTokens
        if (isMore) blocks.push(10_000 * (conversation + 1) + request.promptTokens)
        return { arrivalMs, ...request, blocks }
      })
    }
  })

/** Tokens that two prompts begin with alike, as a trace says. */
const sharedTokens = ({ header, requests }: Trace, one: number, other: number): number => {
  const [a, b] = [requests[one]!, requests[other]!]
  let blocks = 0
  while (blocks < a.blocks.length && a.blocks[blocks] === b.blocks[blocks]) blocks++
  return Math.min(blocks * (header.blockSize ?? 0), a.promptTokens, b.promptTokens)
}

const canBeRegrouped = ({ header: { blockSize } }: Trace): boolean => blockSize === 64 || blockSize === 256

/** What Mooncake's format has no place for, and what it is called. */
const lost = [["session"], ["turn"], ["thinkMs", "think time"], ["tenant"], ["model"]] as const

const requestsOf = ({ requests }: Trace): ReadonlyArray<TraceRequest> => requests

const laws = [
  {
    id: "trace-round-trip",
    check: (writers: Writers) =>
      holds(
        fc.property(trace, (trace) => {
          const writer = writers["llm-trace/1"]
          expect(writer.losses(trace)).toEqual([])
          const lines = writer.lines(trace)
          expect(read(lines)).toEqual(trace)
          const first = JSON.parse(lines[0]!) as Record<string, unknown>
          expect([first["requests"], first["durationMs"]]).toEqual([
            trace.requests.length,
            trace.requests.at(-1)!.arrivalMs
          ])
        })
      )
  },
  {
    id: "trace-mooncake",
    check: (writers: Writers) =>
      holds(
        fc.property(trace, (trace) => {
          const writer = writers.mooncake
          const again = read(writer.lines(trace))
          const plain = ({ arrivalMs, outputTokens, promptTokens }: TraceRequest) => ({
            arrivalMs,
            outputTokens,
            promptTokens
          })
          expect(again.requests.map(plain)).toEqual(trace.requests.map(plain))
          const later = trace.requests.map((request) => ({
            ...request,
            arrivalMs: request.arrivalMs + 1000
          }))
          expect(writer.lines({ ...trace, requests: later })).toEqual(writer.lines(trace))
          const losses = writer.losses(trace).join()
          for (const [field, name = field] of lost)
            expect(losses.includes(`the ${name} of`)).toBe(
              trace.requests.some((request) => request[field] !== undefined)
            )
          expect(losses.includes("the id of")).toBe(trace.ids !== undefined)
          // Of no two prompts is more said to be shared than there is, and all of it where blocks can be divided.
          const divides = trace.header.blockSize === 512 || trace.header.blockSize === 1024
          for (let one = 0; one < trace.requests.length; one++)
            for (let other = 0; other < one; other++) {
              const said = sharedTokens(again, one, other)
              const there = sharedTokens(trace, one, other)
              if (divides) expect(said).toBe(there)
              else expect(said).toBeLessThanOrEqual(there)
              // What is lost lies within a block.
              if (canBeRegrouped(trace)) expect(said).toBeGreaterThan(there - 512)
            }
          if (trace.header.blockSize === 512) expect(losses.includes("blocks")).toBe(false)
        })
      )
  },
  {
    id: "trace-stable",
    check: (writers: Writers) =>
      holds(
        fc.property(
          trace,
          fc.constantFrom("llm-trace/1", "mooncake"),
          fc.boolean(),
          (trace, format, isFine) => {
            const { lines } = writers[format]
            // Other formats know fractions of a millisecond.
            const given = isFine
              ? {
                  ...trace,
                  requests: trace.requests.map((request, i) => ({
                    ...request,
                    arrivalMs: request.arrivalMs + i / 64
                  }))
                }
              : trace
            const once = read(lines(given), "x")
            expect(requestsOf(read(lines(once), "x"))).toEqual(requestsOf(once))
            expect(lines(read(lines(once), "x"))).toEqual(lines(once))
          }
        )
      )
  }
]

const writers: Writers = traceWriters

const llm = (change: (trace: Trace) => Trace): Writers => ({
  ...writers,
  "llm-trace/1": { ...writers["llm-trace/1"], lines: (trace) => writers["llm-trace/1"].lines(change(trace)) }
})
const mooncake = (change: (trace: Trace) => Trace): Writers => ({
  ...writers,
  mooncake: { ...writers.mooncake, lines: (trace) => writers.mooncake.lines(change(trace)) }
})
const each =
  (change: (request: TraceRequest) => Partial<TraceRequest>) =>
  (trace: Trace): Trace => ({
    ...trace,
    requests: trace.requests.map((request) => ({ ...request, ...change(request) }))
  })

const defects: ReadonlyArray<Planted<Writers>> = [
  ["drops the session", "trace-round-trip", llm(each(() => ({ session: undefined })))],
  ["drops the id", "trace-round-trip", llm(({ header, requests }) => ({ header, requests }))],
  ["drops the think time", "trace-round-trip", llm(each(() => ({ thinkMs: undefined })))],
  [
    "drops the licence",
    "trace-round-trip",
    llm((trace) => ({ ...trace, header: { ...trace.header, about: {} } }))
  ],
  [
    "takes all tails for full",
    "trace-round-trip",
    llm((trace) => ({ ...trace, header: { ...trace.header, partialTail: false } }))
  ],
  [
    "takes blocks for larger than they are",
    "trace-mooncake",
    mooncake((trace) => ({ ...trace, header: { ...trace.header, blockSize: 512 } }))
  ],
  [
    "takes a part of a block for all of it",
    "trace-mooncake",
    mooncake((trace) =>
      trace.header.blockSize === 256
        ? {
            ...trace,
            requests: trace.requests.map((request) => ({
              ...request,
              blocks:
                request.blocks.length % 2 === 1 ? [...request.blocks, request.blocks.at(-1)!] : request.blocks
            }))
          }
        : trace
    )
  ],
  [
    "says nothing of what it drops",
    "trace-mooncake",
    { ...writers, mooncake: { ...writers.mooncake, losses: () => [] } }
  ],
  [
    "divides blocks into equal parts",
    "trace-mooncake",
    mooncake((trace) =>
      trace.header.blockSize !== 1024
        ? trace
        : {
            header: { ...trace.header, blockSize: 512 },
            requests: trace.requests.map((request) => ({ ...request, blocks: request.blocks.slice(0, 1) }))
          }
    )
  ],
  [
    "moves every time a little",
    "trace-stable",
    mooncake(each(({ arrivalMs }) => ({ arrivalMs: arrivalMs * 1.5 })))
  ]
]

describe("a trace that is written", () => keepsAll(laws, writers))
describe("planted defects", () => findsAll(laws, defects))

test("a name that is no label is made one", () => {
  const header = { name: "my trace (é)", kind: "", blockSize: null, partialTail: false }
  const request = {
    arrivalMs: 0,
    promptTokens: 1,
    outputTokens: 1,
    blocks: [],
    session: undefined,
    tenant: undefined,
    model: undefined
  }
  expect(read(writers["llm-trace/1"].lines({ header, requests: [request] })).header.name).toBe("my_trace_(_)")
})
