import * as Effect from "effect/Effect"
import { Argument, Command, Flag } from "effect/cli"
import { type Lengths, outlineOf, type TraceOutline } from "../../domain/traces/outline.ts"
import { traceWriters } from "../../domain/traces/writeTrace.ts"
import { percent } from "../../structures/percent.ts"
import { checkWritable } from "../checkWritable.ts"
import { readTrace } from "../readTrace.ts"
import { type WrittenFormat, writeTrace } from "../writeTrace.ts"
import { countFlag, jsonFlag, skipBadFlag, traceFormats } from "./flags.ts"
import { jsonLine } from "./jsonLine.ts"
import { write } from "./Shell.ts"

const input = Argument.String("in").pipe(Argument.withDescription(`File in the format ${traceFormats}.`))
const limit = countFlag("limit", "Requests to read, from the start. Default: all.", Infinity)

const formats = Object.keys(traceWriters) as ReadonlyArray<WrittenFormat>

const convert = Command.make(
  "convert",
  {
    input,
    output: Argument.String("out").pipe(
      Argument.withDescription(
        "File to write, compressed if its name ends in .gz. One that is there is replaced."
      )
    ),
    format: Flag.Literals("format", formats).pipe(
      Flag.withDescription("What to write. Default: llm-trace/1."),
      Flag.withDefault("llm-trace/1" as const)
    ),
    limit,
    skipBad: skipBadFlag
  },
  Effect.fnUntraced(function* ({ format, input, limit, output, skipBad }) {
    yield* checkWritable(output)
    yield* writeTrace(output, format, yield* readTrace(input, { limit, skipBad }))
  })
).pipe(
  Command.withDescription("Write a trace in another format, and say what there is no place for in it."),
  Command.withExamples([
    {
      command: "bun run trace convert AzureLLMInferenceTrace_conv.csv azure.jsonl.gz",
      description: "A published trace, in the format of this project"
    }
  ])
)

const summary = Command.make(
  "summary",
  { input, limit, skipBad: skipBadFlag, json: jsonFlag("the figures") },
  Effect.fnUntraced(function* ({ input, json, limit, skipBad }) {
    const outline = outlineOf(yield* readTrace(input, { limit, skipBad }))
    yield* write(json ? jsonLine(outline) : `${textOf(outline)}\n`)
  })
).pipe(
  Command.withDescription(
    "Sum a trace up: how many requests, how fast and how evenly they come, how long they are, and what they share."
  )
)

const textOf = (outline: TraceOutline): string => {
  const { blockSize, requests, sessions, spanMs, turnsMean } = outline
  const ratio = (value: number | null): string => value?.toFixed(2) ?? "-"
  const tokens = (name: string, lengths: Lengths | null): string =>
    lengths === null
      ? `${name} none`
      : `${name} mean ${lengths.mean.toFixed(0)}, p50 ${lengths.p50}, p90 ${lengths.p90}, p99 ${lengths.p99}, max ${lengths.max}`
  return [
    `${outline.trace}${outline.kind === "" ? "" : ` (${outline.kind})`}`,
    `requests       ${requests} in ${(spanMs / 1000).toFixed(1)} s${outline.requestsPerSecond === null ? "" : `, ${rateText(outline.requestsPerSecond)} a second`}`,
    `arrivals       CV of gaps ${ratio(outline.gapVariation)}, dispersion of minutes ${ratio(outline.dispersion)} (both 1 for a Poisson process)`,
    tokens("prompt tokens ", outline.promptTokens),
    tokens("output tokens ", outline.outputTokens),
    `shared         ${blockSize === null ? "not known: no prefix blocks" : `${percent(outline.repeatedShare)} % of the prompt tokens came before, in blocks of ${blockSize}`}`,
    `sessions       ${sessions}${turnsMean === null ? "" : `, of ${turnsMean.toFixed(1)} requests on average`}`,
    `tenants        ${outline.tenants}, the largest with ${percent(outline.largestTenantShare)} % of the tokens`,
    `models         ${outline.models}`
  ].join("\n")
}

/** Of a long trace it is small. */
const rateText = (rate: number): string => (rate < 1 ? rate.toPrecision(3) : rate.toFixed(3))

/** `parallax trace`: recorded traffic as files. */
export const traceCommand = Command.make("trace").pipe(
  Command.withDescription("Convert and sum up traces."),
  Command.withSubcommands([convert, summary]),
  Command.withExamples([
    { command: "bun run trace summary test/fixtures/small.jsonl", description: "What a trace holds" }
  ])
)
