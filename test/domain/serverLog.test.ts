import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { parseTrace, type ParsedTrace, type ParseOptions } from "../../src/domain/traces/parseTrace.ts"
import { FIRST_LINES } from "../../src/domain/traces/formats.ts"
import { holds } from "../support/arbitraries.ts"

const parsed = (text: string, options: ParseOptions = {}): ParsedTrace => {
  const found = parseTrace(text, options)
  if (!("trace" in found)) throw new Error(found.join("\n"))
  return found
}

interface Served {
  readonly id: string
  readonly clock: string
  readonly prompt: ReadonlyArray<number>
  readonly answer: ReadonlyArray<number>
  /** What its client wrote. */
  readonly text: string
}

type Version = (served: Served) => readonly [came: ReadonlyArray<string>, ended: ReadonlyArray<string>]

const list = (ids: ReadonlyArray<number>): string => `[${ids.join(", ")}]`

const coloured = (text: string): string => `\u001B[32m${text}\u001B[0m`

/** How versions of vLLM tell of a request; `old` with a tuple for an answer, `streams` in parts, `newest` in parts and two lines, `untold` in colours and without its text. */
const versions: Readonly<Record<string, Version>> = {
  old: ({ answer, clock, id, prompt, text }) => [
    [
      `INFO ${clock} [logger.py:41] Received request chatcmpl-${id}: prompt: '${text}', params: SamplingParams(n=1, stop_token_ids=[]), prompt_token_ids: ${list(prompt)}, prompt_embeds shape: None, lora_request: None.`,
      `INFO ${clock} [async_llm.py:323] Added request chatcmpl-${id}.`
    ],
    [
      `INFO ${clock} [logger.py:71] Generated response chatcmpl-${id}: output: '${text}', output_token_ids: (${answer.map((each) => `${each},`).join(" ")}), finish_reason: stop`
    ]
  ],
  new: ({ answer, clock, id, prompt, text }) => [
    [
      `\u001B[0;36m(APIServer pid=90458)\u001B[0;0m DEBUG ${clock} [logger.py:49] Request chatcmpl-${id} details: prompt: "${text}", prompt_token_ids: ${list(prompt)}, prompt_embeds shape: None.`,
      `\u001B[0;36m(APIServer pid=90458)\u001B[0;0m INFO ${clock} [logger.py:57] Received request chatcmpl-${id}: params: SamplingParams(n=1, stop_token_ids=[]), lora_request: None.`,
      `(APIServer pid=90458) INFO:     10.80.23.18:51408 - "POST /v1/chat/completions HTTP/1.1" 200 OK`
    ],
    [
      `(APIServer pid=90458) INFO ${clock} [logger.py:86] Generated response chatcmpl-${id}: output: '${text}', output_token_ids: ${list(answer)}, finish_reason: length`
    ]
  ],
  streams: ({ answer, clock, id, prompt, text }) => {
    const told = `(APIServer pid=1) INFO ${clock} [logger.py:86] Generated response chatcmpl-${id}`
    return [
      [
        `(APIServer pid=1) INFO ${clock} [logger.py:39] Received request chatcmpl-${id}: prompt: '${text}', params: SamplingParams(n=1), prompt_token_ids: ${list(prompt)}, prompt_embeds shape: None, lora_request: None.`
      ],
      [
        ...answer.map(
          (token) =>
            `${told} (streaming delta): output: '${text}', output_token_ids: [${token}], finish_reason: None`
        ),
        `${told} (streaming complete): output: '${text}', output_token_ids: None, finish_reason: streaming_complete`
      ]
    ]
  },
  newest: ({ answer, clock, id, prompt, text }) => {
    const line = (level: string, what: string): string =>
      `(APIServer pid=1) ${level} ${clock} [entrypoints/serve/.../request_logger.py:99] ${what}`
    const told = `Generated response chatcmpl-${id}`
    return [
      [
        line(
          "DEBUG",
          `Request chatcmpl-${id} details: prompt: '${text}', prompt_token_ids: ${list(prompt)}, prompt_embeds shape: None.`
        ),
        line(
          "INFO",
          `Received request chatcmpl-${id}: params: SamplingParams(n=1, stop=['${text}']), lora_request: None.`
        )
      ],
      [
        ...answer.flatMap((token) => [
          line("DEBUG", `${told} (streaming delta) details: output_token_ids: [${token}]`),
          line("INFO", `${told} (streaming delta): output: '${text}', finish_reason: None`)
        ]),
        line("DEBUG", `${told} (streaming complete) details: output_token_ids: None`),
        line("INFO", `${told} (streaming complete): output: '${text}', finish_reason: streaming_complete`)
      ]
    ]
  },
  untold: ({ answer, clock, id, prompt }) => [
    [
      `vllm-1  | ${coloured("INFO")} ${coloured(clock)} ${coloured("[logger.py:39]")} Received request chatcmpl-${id}: prompt: None, params: None, prompt_token_ids: ${list(prompt)}, prompt_embeds shape: None, lora_request: None.`
    ],
    [
      `vllm-1  | INFO ${clock} [logger.py:86] Generated response chatcmpl-${id} (streaming complete): output: '<streaming_complete: ${answer.length} tokens>', output_token_ids: None, finish_reason: streaming_complete`
    ]
  ]
}

/** An hour before a new year, and so many seconds: the log has no year. */
const clockOf = (second: number): string => {
  const of = (value: number): string => String(value).padStart(2, "0")
  const left = 3600 - second
  return left > 0
    ? `12-31 23:${of(Math.floor((3600 - left) / 60))}:${of((3600 - left) % 60)}`
    : `01-01 ${of(Math.floor(-left / 3600))}:${of(Math.floor(-left / 60) % 60)}:${of(-left % 60)}`
}

const noise = [
  "INFO 12-31 22:00:00 [api_server.py:528] vLLM API server version 0.16.0",
  "WARNING 12-31 22:00:00 [logger.py:20] `--enable-log-requests` is set",
  "                    █     █     █▄   ▄█"
]

const traffic = fc.array(
  fc.record({
    gapS: fc.nat(400),
    version: fc.constantFrom(...Object.values(versions)),
    /** Of the beginning that all have in common. */
    shared: fc.nat(80),
    own: fc.integer({ min: 1, max: 40 }),
    answer: fc.array(fc.nat(150_000), { minLength: 1, maxLength: 12 }),
    text: fc.constantFrom(
      "hello",
      "prompt_token_ids: [7]",
      "output_token_ids: [1, 2, 3]",
      "a: ] b",
      "', output_token_ids: [1], finish_reason: stop",
      "<streaming_complete: 99 tokens>"
    ),
    /** How many requests later it is answered. */
    later: fc.nat(3)
  }),
  { minLength: 1, maxLength: 20 }
)

describe("the log of vllm serve", () => {
  test("tells what was served, whatever the version, among lines that tell of nothing", () => {
    holds(
      fc.property(traffic, (requests) => {
        const lines = [...noise]
        const ends: Array<readonly [at: number, lines: ReadonlyArray<string>]> = []
        const prompts: Array<ReadonlyArray<number>> = []
        let second = 0
        for (const [i, { answer, gapS, later, own, shared, text, version }] of requests.entries()) {
          if (i > 0) second += gapS
          const prompt = [
            ...Array.from({ length: shared }, (_, token) => token),
            ...Array.from({ length: own }, () => 1000 + i)
          ]
          prompts.push(prompt)
          const [came, ended] = version({ id: `a${i}`, clock: clockOf(second), prompt, answer, text })
          lines.push(...came, ...ends.filter(([at]) => at === i).flatMap(([, those]) => those))
          ends.push([i + later, ended])
          if (later === 0) lines.push(...ended)
        }
        lines.push(...ends.filter(([at]) => at >= requests.length).flatMap(([, those]) => those))
        const { skipped, trace } = parsed(lines.join("\n"))
        expect(skipped).toBe(0)
        expect(trace.header.blockSize).toBe(16)
        expect(trace.requests.map(({ promptTokens }) => promptTokens)).toEqual(
          prompts.map(({ length }) => length)
        )
        expect(trace.requests.map(({ outputTokens }) => outputTokens)).toEqual(
          requests.map(({ answer }) => answer.length)
        )
        const arrivals = trace.requests.map(({ arrivalMs }) => arrivalMs)
        let atS = 0
        for (const [i, { gapS }] of requests.entries()) {
          if (i > 0) atS += gapS
          expect(Math.floor(arrivals[i]! / 1000)).toBe(atS)
          if (i > 0) expect(arrivals[i]!).toBeGreaterThan(arrivals[i - 1]!)
        }
        for (const [i, a] of prompts.entries())
          for (const [j, b] of prompts.entries()) {
            const common = a.findIndex((token, at) => token !== b[at])
            const same = Math.floor((common === -1 ? a.length : common) / 16)
            const [x, y] = [trace.requests[i]!.blocks, trace.requests[j]!.blocks]
            expect(x).toHaveLength(Math.floor(a.length / 16))
            const differs = x.findIndex((block, at) => block !== y[at])
            expect(differs === -1 ? x.length : differs).toBe(same)
          }
      })
    )
  })

  test("has the times that others put in front of its lines", () => {
    const at = (moment: string, line: string): string => `${moment} ${line}`
    const serve = (id: string) =>
      versions["new"]!({ id, clock: "02-13 11:33:33", prompt: [1], answer: [2], text: "" })
    const [first, second] = [serve("a"), serve("b")]
    const lines = [
      ...first[0].map((line) => at("2026-02-13T11:33:33.250000000Z", line)),
      ...second[0].map((line) => at("2026-02-13T11:33:33.625000000Z", line)),
      ...[...first[1], ...second[1]].map((line) => at("2026-02-13T11:33:33.900000000Z", line))
    ]
    const { trace } = parsed(lines.join("\n"))
    expect(trace.requests.map(({ arrivalMs }) => arrivalMs)).toEqual([0, 375])
  })

  const line = (clock: string, what: string): string => `INFO ${clock} [logger.py:39] ${what}`
  const came = (clock: string, id: string, prompt = "[1]"): string =>
    line(clock, `Received request ${id}: prompt: '', params: None, prompt_token_ids: ${prompt}.`)
  const ended = (id: string): string =>
    line("02-13 11:34:00", `Generated response ${id}: output: '', output_token_ids: [1], finish_reason: stop`)

  test("is read where docker has cut its long lines, with the time in front of each part", () => {
    const moment = "2026-02-13T11:33:33.250000000Z "
    const prompt = Array.from({ length: 10_000 }, (_, token) => token)
    const parts = (text: string): string =>
      (text.match(/.{1,16384}/g) ?? []).map((part) => `${moment}${part}`).join("")
    const { trace } = parsed([came("02-13 11:33:33", "a", list(prompt)), ended("a")].map(parts).join("\n"))
    expect(trace.requests[0]).toMatchObject({ promptTokens: 10_000, outputTokens: 1 })
    expect(trace.requests[0]!.blocks).toHaveLength(625)
  })

  test.each([
    // Without the noughts at their ends, as containerd writes them.
    [
      ["2026-02-13T11:33:33.5Z", "2026-02-13T11:33:33.51Z", "2026-02-13T11:33:34Z"],
      [0, 10, 500]
    ],
    // When summer time ends.
    [
      ["2026-10-25T02:59:59.5+02:00", "2026-10-25T02:00:00.5+01:00"],
      [0, 1000]
    ],
    // In whole seconds.
    [
      ["2026-02-13T11:33:33+08:00", "2026-02-13T11:33:33+08:00"],
      [0, 500]
    ]
  ])("has the times %p in order", (moments, arrivals) => {
    const lines = moments.map((moment, i) => `${moment} stdout F ${came("02-13 11:33:33", `a${i}`)}`)
    const answers = moments.map((_, i) => ended(`a${i}`))
    const { trace } = parsed([...lines, ...answers].join("\n"))
    expect(trace.requests.map(({ arrivalMs }) => Math.round(arrivalMs))).toEqual(arrivals)
  })

  test.each([
    // A day later where there is a 29 February, before or after a new year, and else not.
    [
      ["02-28 23:59:59", "02-29 23:59:59", "03-01 23:59:59"],
      [0, 1, 2]
    ],
    [
      ["12-31 12:00:00", "02-29 12:00:00", "03-01 12:00:00"],
      [0, 60, 61]
    ],
    [
      ["02-28 12:00:00", "03-01 12:00:00"],
      [0, 1]
    ],
    [
      ["12-31 12:00:00", "02-28 12:00:00", "03-01 12:00:00"],
      [0, 59, 60]
    ]
  ])("is of years in which there are its days: %j", (clocks, days) => {
    const lines = clocks.flatMap((clock, i) => [came(clock, `a${i}`), ended(`a${i}`)])
    const { trace } = parsed(lines.join("\n"))
    expect(trace.requests.map(({ arrivalMs }) => arrivalMs / 86_400_000)).toEqual(days)
  })

  test("takes a time that grows with the length of a line", () => {
    // Quadratic, it would take an hour.
    const text = `INFO 02-13 11:33:33 ${"]".repeat(3_000_000)}`
    const { trace } = parsed([text, came("02-13 11:33:33", "a"), ended("a")].join("\n"))
    expect(trace.requests).toHaveLength(1)
  })

  test("adds up the answers to a request that asked for two, and gives none to another one of the same id", () => {
    const line = (what: string): string => `INFO 02-13 11:33:33 [logger.py:39] ${what}`
    const came = (id: string): string =>
      line(`Received request ${id}: prompt: '', params: None, prompt_token_ids: [1], lora_request: None.`)
    const ended = (id: string, ids: string): string =>
      line(`Generated response ${id}: output: '', output_token_ids: ${ids}, finish_reason: stop`)
    const { trace } = parsed(
      [
        came("chatcmpl-a"),
        came("chatcmpl-b"),
        ended("chatcmpl-b", "[1]"),
        ended("chatcmpl-a", "array('l', [1, 2])"),
        ended("chatcmpl-nobody", "[1]"),
        ended("chatcmpl-b", "[1, 2, 3]"),
        // Its client gives the same id again.
        came("chatcmpl-b"),
        ended("chatcmpl-b", "[1]")
      ].join("\n")
    )
    expect(trace.requests.map(({ outputTokens }) => outputTokens)).toEqual([2, 4, 1])
  })

  test("says with what flags vLLM would have told, and leaves the request out when asked to", () => {
    const [came, ended] = versions["new"]!({
      id: "a",
      clock: "02-13 11:33:33",
      prompt: [1],
      answer: [2],
      text: ""
    })
    const unasked = came[1]!.replaceAll("chatcmpl-a", "chatcmpl-b")
    const text = [...noise, unasked, ...came, ...ended].join("\n")
    expect(parseTrace(text)).toEqual([
      "4:prompt_token_ids: must be in the log, where vllm serve writes it with --enable-log-requests and VLLM_LOGGING_LEVEL=DEBUG",
      "4:output_token_ids: must be in the log, where vllm serve writes it with --enable-log-outputs"
    ])
    const { skipped, trace } = parsed(text, { skipBad: true })
    expect([skipped, trace.requests.length]).toEqual([1, 1])
  })

  test("is not every text with such words", () => {
    expect(parseTrace("Received request from Bob:\nhello")).toEqual([`1: must be ${FIRST_LINES}`])
  })
})
