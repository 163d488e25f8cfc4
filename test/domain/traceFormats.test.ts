import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { TraceRequest } from "../../src/domain/Trace.ts"
import { FIRST_LINES } from "../../src/domain/traces/formats.ts"
import { parseTrace, type ParsedTrace, type ParseOptions } from "../../src/domain/traces/parseTrace.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Parse = typeof parseTrace

const parsed = (parse: Parse, text: string, options: ParseOptions = {}): ParsedTrace => {
  const found = parse(text, options)
  if (!("trace" in found)) throw new Error(found.join("\n"))
  return found
}

/** What every format can say. */
type Plain = Pick<TraceRequest, "arrivalMs" | "promptTokens" | "outputTokens" | "blocks">

const plain: fc.Arbitrary<ReadonlyArray<Plain>> = fc
  .array(
    fc.record({
      gapMs: fc.nat(5000),
      promptTokens: fc.integer({ min: 1, max: 5000 }),
      outputTokens: fc.integer({ min: 1, max: 500 })
    }),
    { minLength: 1, maxLength: 12 }
  )
  .map((requests) => {
    let arrivalMs = 0
    return requests.map(({ gapMs, ...tokens }, i) => {
      if (i > 0) arrivalMs += gapMs
      const blocks = Array.from({ length: Math.ceil(tokens.promptTokens / 512) }, (_, at) => 10 * i + at)
      return { arrivalMs, ...tokens, blocks }
    })
  })

const json = (values: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  values.map((value) => JSON.stringify(value))

/** 2024-02-28 23:59:50 and so many ms, over the end of a leap February. */
const moment = (ms: number): string => {
  const total = ms + (23 * 3600 + 59 * 60 + 50) * 1000
  const [day, rest] = [Math.floor(total / 86_400_000), total % 86_400_000]
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0")
  const date = ["2024-02-28", "2024-02-29", "2024-03-01"][day]
  const seconds = ((rest / 1000) % 60).toFixed(4).padStart(7, "0")
  return `${date} ${two(rest / 3_600_000)}:${two((rest / 60_000) % 60)}:${seconds}`
}

/** The same requests in each format: its lines, those before the first request, and whether it knows of blocks. */
const written: Readonly<
  Record<
    string,
    {
      readonly head: ReadonlyArray<string>
      readonly line: (requests: ReadonlyArray<Plain>) => ReadonlyArray<string>
      readonly hasBlocks: boolean
      readonly bad: string
    }
  >
> = {
  "llm-trace/1": {
    head: json([{ format: "llm-trace/1", name: "x", kind: "real", blockSize: 512, partialTail: true }]),
    line: (requests) =>
      json(
        requests.map(({ arrivalMs, blocks, outputTokens, promptTokens }, i) => ({
          t: arrivalMs,
          // Some have one.
          id: i % 3 === 0 ? undefined : String(i).padStart(16, "abcdef0123456789"),
          in: promptTokens,
          out: outputTokens,
          blocks
        }))
      ),
    hasBlocks: true,
    bad: '{"t":1,"in":0,"out":1,"id":"fedcba9876543210"}'
  },
  Mooncake: {
    head: [],
    line: (requests) =>
      json(
        requests.map(({ arrivalMs, blocks, outputTokens, promptTokens }) => ({
          timestamp: arrivalMs + 27_482,
          input_length: promptTokens,
          output_length: outputTokens,
          hash_ids: blocks
        }))
      ),
    hasBlocks: true,
    bad: '{"timestamp":1,"input_length":1}'
  },
  Azure: {
    head: ["TIMESTAMP,ContextTokens,GeneratedTokens"],
    line: (requests) =>
      requests.map(
        ({ arrivalMs, outputTokens, promptTokens }) => `${moment(arrivalMs)},${promptTokens},${outputTokens}`
      ),
    hasBlocks: false,
    bad: "yesterday,1,1"
  },
  BurstGPT: {
    head: ["Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"],
    line: (requests) =>
      requests.map(
        ({ arrivalMs, outputTokens, promptTokens }) =>
          `${5 + arrivalMs / 1000},s,1,GPT-4,${promptTokens},${outputTokens},0,Conversation log`
      ),
    hasBlocks: false,
    bad: "5,s,1,ChatGPT,472,0,472,Conversation log"
  }
}

const rounded = ({ arrivalMs, blocks, outputTokens, promptTokens }: Plain, hasBlocks: boolean): Plain => ({
  arrivalMs: Math.round(arrivalMs * 10) / 10,
  promptTokens,
  outputTokens,
  blocks: hasBlocks ? blocks : []
})

const laws = [
  {
    id: "trace-formats",
    check: (parse: Parse) =>
      holds(
        fc.property(
          plain,
          fc.constantFrom(...Object.values(written)),
          (requests, { hasBlocks, head, line }) => {
            const { skipped, trace } = parsed(parse, [...head, "", ...line(requests), ""].join("\r\n"), {
              name: "x"
            })
            expect(skipped).toBe(0)
            expect(trace.header.name).toBe("x")
            expect(trace.header.blockSize).toBe(hasBlocks ? 512 : null)
            expect(trace.requests.map((request) => rounded(request, true))).toEqual(
              requests.map((request) => rounded(request, hasBlocks))
            )
          }
        )
      )
  },
  {
    id: "trace-skips",
    check: (parse: Parse) =>
      holds(
        fc.property(
          plain,
          fc.array(fc.nat(12), { maxLength: 4 }),
          fc.constantFrom(...Object.values(written)),
          (requests, places, { bad, head, line }) => {
            const good = line(requests)
            // The first line may tell the format, and the time at which all begins.
            const at = (i: number): number => places.filter((place) => 1 + (place % good.length) === i).length
            const spoilt = good.flatMap((text, i) => [text, ...Array<string>(at(i + 1)).fill(bad)])
            const clean = parsed(parse, [...head, ...good].join("\n"))
            const { skipped, trace } = parsed(parse, [...head, ...spoilt].join("\n"), { skipBad: true })
            expect(trace).toEqual(clean.trace)
            expect(skipped).toBe(places.length)
            const found = parse([...head, ...spoilt].join("\n"))
            const lines = spoilt.flatMap((text, i) => (text === bad ? [head.length + i + 1] : []))
            if (places.length === 0) expect("trace" in found).toBe(true)
            else expect("trace" in found ? "" : found[0]).toStartWith(`${lines[0]}:`)
          }
        )
      )
  }
]

const changed =
  (change: (found: ParsedTrace) => ParsedTrace): Parse =>
  (text, options) => {
    const found = parseTrace(text, options)
    return "trace" in found ? change(found) : found
  }

const withRequests = (
  change: (request: TraceRequest, all: ReadonlyArray<TraceRequest>) => TraceRequest
): Parse =>
  changed(({ skipped, trace }) => ({
    skipped,
    trace: { ...trace, requests: trace.requests.map((request) => change(request, trace.requests)) }
  }))

const defects: ReadonlyArray<Planted<Parse>> = [
  [
    "keeps the ids of what it skips",
    "trace-skips",
    changed(({ skipped, trace }) => ({
      skipped,
      trace:
        trace.ids === undefined
          ? trace
          : { ...trace, ids: new BigUint64Array([...new Array<bigint>(skipped).fill(7n), ...trace.ids]) }
    }))
  ],
  [
    "takes seconds for ms",
    "trace-formats",
    withRequests((request) => ({ ...request, arrivalMs: request.arrivalMs / 1000 }))
  ],
  ["loses the blocks", "trace-formats", withRequests((request) => ({ ...request, blocks: [] }))],
  [
    "counts from the last",
    "trace-formats",
    withRequests((request, all) => ({ ...request, arrivalMs: request.arrivalMs - all.at(-1)!.arrivalMs }))
  ],
  ["does not count what it skips", "trace-skips", changed(({ trace }) => ({ trace, skipped: 0 }))],
  [
    "skips without being asked",
    "trace-skips",
    (text, options) => parseTrace(text, { ...options, skipBad: true })
  ]
]

describe("traces in any format", () => keepsAll(laws, parseTrace))
describe("planted defects", () => findsAll(laws, defects))

describe("a moment", () => {
  const header = "TIMESTAMP,ContextTokens,GeneratedTokens"
  const apartMs = (first: string, second: string): number =>
    parsed(parseTrace, [header, `${first},1,1`, `${second},1,1`].join("\n")).trace.requests[1]!.arrivalMs

  test("lies days apart as the calendar says, every day of four centuries", () => {
    const lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    const isLeap = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
    const dates: Array<string> = []
    for (let year = 1900; year < 2300; year++)
      for (const [month, length] of lengths.entries())
        for (let day = 1; day <= length + (month === 1 && isLeap(year) ? 1 : 0); day++)
          dates.push(`${year}-${String(month + 1).padStart(2, "0")}-${String(day).padStart(2, "0")} 00:00:00`)
    const { trace } = parsed(parseTrace, [header, ...dates.map((date) => `${date},1,1`)].join("\n"))
    expect(trace.requests.every(({ arrivalMs }, i) => arrivalMs === i * 86_400_000)).toBe(true)
    expect(trace.requests).toHaveLength(146_097)
  })

  test.each([
    ["2023-11-16 18:17:03.9799600", "2023-11-16T18:17:04.0000000Z", 20.04],
    ["2024-05-12 00:00:00+00:00", "2024-05-12 02:00:01+02:00", 1000],
    ["2024-05-12 00:00:00+00:00", "2024-05-11 22:30:00-02:00", 1_800_000]
  ])("%s to %s takes %d ms", (first, second, ms) => {
    expect(apartMs(first, second)).toBeCloseTo(ms, 3)
  })
})

describe("a result of vllm bench serve", () => {
  const result = (
    starts: ReadonlyArray<unknown>,
    inputs: ReadonlyArray<unknown>,
    outputs: ReadonlyArray<unknown>
  ) =>
    JSON.stringify({
      backend: "vllm",
      model_id: "meta-llama/Llama-3.1-8B",
      request_throughput: 3.5,
      input_lens: inputs,
      output_lens: outputs,
      start_times: starts,
      generated_texts: inputs.map(() => "a text that is read by nobody")
    })

  test("is a trace in order of its times, whatever that of its lists", () => {
    holds(
      fc.property(plain, fc.nat(), fc.integer({ min: 0, max: 100_000 }), (requests, turn, originSeconds) => {
        const at = (i: number): number => (i + turn) % requests.length
        const column = (value: (request: Plain) => unknown) => requests.map((_, i) => value(requests[at(i)]!))
        const text = result(
          column(({ arrivalMs }) => originSeconds + arrivalMs / 1000),
          column(({ promptTokens }) => promptTokens),
          column(({ outputTokens }) => outputTokens)
        )
        const { trace } = parsed(parseTrace, `${text}\n`)
        const byTime = (all: ReadonlyArray<Plain>) =>
          all
            .map((request) => rounded(request, false))
            .map(({ arrivalMs, outputTokens, promptTokens }) => [arrivalMs, promptTokens, outputTokens])
            .toSorted((a, b) => a[0]! - b[0]! || a[1]! - b[1]! || a[2]! - b[2]!)
        expect(byTime(trace.requests)).toEqual(byTime(requests))
        expect(
          trace.requests.every(({ arrivalMs }, i) => arrivalMs >= (trace.requests[i - 1]?.arrivalMs ?? 0))
        ).toBe(true)
        expect(new Set(trace.requests.map(({ model }) => model))).toEqual(
          new Set(["meta-llama/Llama-3.1-8B"])
        )
        expect(trace.header).toEqual({
          name: "",
          kind: "measured-engine-run",
          blockSize: null,
          partialTail: false
        })
      })
    )
  })

  test("names what is wrong by its place in the list, and leaves it out when asked to", () => {
    const text = result([5, 3, "noon", 4], [10, 20, 30, 40], [1, 0, 3, 4])
    expect(parseTrace(text)).toEqual([
      "1:start_times[2]: must be a number of at least 0",
      "1:output_lens[1]: must be a whole number from 1 to 4294967295"
    ])
    const { skipped, trace } = parsed(parseTrace, text, { skipBad: true })
    expect(skipped).toBe(2)
    expect(trace.requests.map(({ arrivalMs, promptTokens }) => [arrivalMs, promptTokens])).toEqual([
      [0, 40],
      [1000, 10]
    ])
    expect(parsed(parseTrace, text, { limit: 1, skipBad: true }).trace.requests).toHaveLength(1)
  })

  test.each([
    ["without its details", JSON.stringify({ request_throughput: 3, total_input_tokens: 10 })],
    ["with lists that differ in length", result([1, 2], [3, 4], [5])]
  ])("is refused %s", (_, text) => {
    expect(parseTrace(text)).toContain(
      "1: must be an object with the lists start_times, input_lens, output_lens, equally long, as vllm bench serve writes it with --save-detailed"
    )
  })
})

const azure = "TIMESTAMP,ContextTokens,GeneratedTokens"
const aMoment = "must be a date and a time, as 2023-11-16 18:17:03.979"

test.each([
  [
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1",
    "2: must be 3 values with commas between"
  ],
  [
    "TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1",
    "2:TIMESTAMP: must be a date and a time, as 2023-11-16 18:17:03.979"
  ],
  [
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,0,472,API log",
    "2:Response tokens: must be a whole number from 1 to 4294967295"
  ],
  [
    "Timestamp,Request tokens,Response tokens\n5,1,1\n4,1,1",
    "3:Timestamp: must not be before the line above it"
  ],
  ...['"12"', '"0000000000000000"', '"x123456789abcdef"', "1234567890123456", "null"].map(
    (id) =>
      [
        `{"format":"llm-trace/1","blockSize":null}\n{"t":0,"in":1,"out":1,"id":${id}}`,
        "2:id: must be 16 hexadecimal digits, not all of them 0"
      ] as const
  ),
  [
    '{"timestamp":0,"input_length":512,"output_length":1,"hash_ids":[1,2]}',
    "1:hash_ids: must not be more than 512 prompt tokens fill"
  ],
  ["a,b,c\n1,2,3", `1: must be ${FIRST_LINES}`],
  ['\n{"in":1}', `2: must be ${FIRST_LINES}`],
  ['{"format":"llm-trace/2","blockSize":0}\n{"t":0}', '1:format: must be "llm-trace/1"'],
  ['{"format":"llm-trace/1","blockSize":null}\n{"t":0,"in":1,"ou', "2: must be a JSON object"],
  [
    '{"timestamp":5,"input_length":1,"output_length":1}\n{"input_length":1,"output_length":1}\n{"timestamp":6,"input_length":1,"output_length":1}',
    "2:timestamp: must be a number of at least 0"
  ],
  [
    '{"timestamp":0,"input_length":"1024","output_length":1,"hash_ids":[1,2]}',
    "1:input_length: must be a whole number from 1 to 4294967295"
  ],
  ...["2023-02-29", "2100-02-29", "2023-04-31", "2023-13-01", "2023-00-10", "2023-01-00"].map(
    (date) => [`${azure}\n${date} 00:00:00,1,1`, `2:TIMESTAMP: ${aMoment}`] as const
  ),
  ...["24:00:00", "00:60:00", "00:00:60", "99:99:99"].map(
    (time) => [`${azure}\n2024-02-29 ${time},1,1`, `2:TIMESTAMP: ${aMoment}`] as const
  )
])("%j is refused with line and field, and nothing else", (text, problem) => {
  expect(parseTrace(text)).toEqual([problem])
})
