import * as Effect from "effect/Effect"
import { Argument, Command, Flag } from "effect/cli"
import { didYouMean } from "../../domain/config/Option.ts"
import type { PolicyChoice } from "../../domain/config/pipeline.ts"
import { summarize, type TrafficSummary } from "../../domain/Traffic.ts"
import { choiceOf, pipelines } from "../../policies/pipelines.ts"
import { recommend } from "../../policies/recommend.ts"
import { decisionPoints } from "../../policies/registry.ts"
import { describePolicy, optionRange } from "../describePolicy.ts"
import { misused } from "./CliFailure.ts"
import { readTrace, saidOf } from "../readTrace.ts"
import { countFlag, factorFlag, jsonFlag, skipBadFlag, speedFlag, switchFlag, traceFormats } from "./flags.ts"
import { jsonLine } from "./jsonLine.ts"
import { write } from "./Shell.ts"

const all = decisionPoints.flatMap(({ name: point, entries }) => entries.map((entry) => ({ point, entry })))

const list = Command.make(
  "list",
  { json: jsonFlag("the catalogue") },
  Effect.fnUntraced(function* ({ json }) {
    if (json) {
      const policies = all.map(({ point, entry }) => describePolicy(point, entry))
      return yield* write(`${JSON.stringify({ policies, pipelines })}\n`)
    }
    const width = Math.max(...all.map(({ entry }) => entry.name.length))
    const lines = decisionPoints.flatMap(({ name, question, entries }) => [
      `${name}: ${question}`,
      ...entries.map((entry) => `  ${entry.name.padEnd(width)}  ${entry.summary}`),
      ""
    ])
    const presets = Object.entries(pipelines).map(
      ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`
    )
    yield* write([...lines, "pipelines: presets of all of them", ...presets, ""].join("\n"))
  })
).pipe(Command.withDescription("List every policy by the decision it makes, and the named pipelines."))

const show = Command.make(
  "show",
  {
    name: Argument.String("name").pipe(Argument.withDescription("Name of a policy.")),
    json: jsonFlag("the policy")
  },
  Effect.fnUntraced(function* ({ json, name }) {
    const found = all.filter(({ entry }) => entry.name === name)
    if (found.length === 0) {
      const near = didYouMean(
        name,
        all.map(({ entry }) => entry.name)
      )
      return yield* misused(
        Object.hasOwn(pipelines, name)
          ? `"${name}" is a pipeline, a preset of several policies: \`bun run policies list --json\` shows which.`
          : `There is no policy "${name}". ${near ?? "`bun run policies list` shows them all."}`
      )
    }
    const described = found.map(({ point, entry }) => describePolicy(point, entry))
    if (json) return yield* write(`${JSON.stringify(described.length === 1 ? described[0] : described)}\n`)
    for (const policy of described) {
      const options = policy.options.map(
        (option) => `  ${option.name}: ${optionRange(option)}\n      ${option.summary}`
      )
      yield* write(
        [
          `${policy.name} (${policy.point})`,
          policy.summary,
          "",
          policy.definition,
          "",
          `cost       ${policy.cost}`,
          ...(policy.family === undefined ? [] : [`family     ${policy.family}`]),
          ...(policy.rival === undefined ? [] : [`rival      a re-implementation of ${policy.rival}`]),
          `stability  ${policy.stability}`,
          `source     ${policy.source}`,
          ...(options.length === 0 ? ["options    none"] : ["options", ...options]),
          ""
        ].join("\n")
      )
    }
  })
).pipe(Command.withDescription("Show what a policy does: its rule, options, defaults and source."))

const rateText = ({ requestsPerSecond }: TrafficSummary): string =>
  requestsPerSecond === null
    ? "all at one moment"
    : `${requestsPerSecond < 1 ? requestsPerSecond.toPrecision(3) : requestsPerSecond.toFixed(2)} requests/s`

const recommendation = Command.make(
  "recommend",
  {
    trace: Flag.String("trace").pipe(
      Flag.withDescription(`Traffic to serve: a file in the format ${traceFormats}.`),
      Flag.withMetavar("path")
    ),
    skipBad: skipBadFlag,
    workers: countFlag("workers", "Workers that serve it. Default: 8.", 8),
    speed: speedFlag,
    speedRatio: factorFlag(
      "speed-ratio",
      "Speed of the fastest worker over that of the slowest. Default: 1, all alike.",
      1
    ),
    latencyTarget: switchFlag("latency-target", "Answers that come too late are worth nothing."),
    json: jsonFlag("the traffic, the pipeline and the reasons")
  },
  Effect.fnUntraced(function* ({ json, latencyTarget, skipBad, speed, speedRatio, trace: name, workers }) {
    const { header, requests } = yield* readTrace(name, { limit: Number.POSITIVE_INFINITY, skipBad })
    if (requests.length === 0) return yield* misused(`${saidOf(name)} has no requests.`)
    const traffic = summarize({
      header,
      requests: requests.map((request) => ({ ...request, arrivalMs: request.arrivalMs / speed }))
    })
    const fleet = { workers, speedRatio: Math.max(speedRatio, 1 / speedRatio), latencyTarget }
    const found = recommend(traffic, fleet)
    if (json) return yield* write(jsonLine({ trace: header.name, traffic, fleet, ...found }))
    const { pipeline, preset, reasons } = found
    const named = ({ policy, options }: PolicyChoice): string =>
      [policy, ...Object.entries(options).map(([option, value]) => `${option}=${value}`)].join(":")
    const points: ReadonlyArray<readonly [string, ReadonlyArray<PolicyChoice>]> = [
      ["admission", pipeline.admission],
      ["ordering", [pipeline.ordering]],
      ["batching", [pipeline.batching]],
      ["placement", [pipeline.placement]],
      ["rescue", pipeline.rescue]
    ]
    const changed = pipeline.placement.policy !== choiceOf(pipelines[preset]).placement.policy
    yield* write(
      [
        `${header.name}: ${rateText(traffic)}, prompts of ${traffic.meanPromptTokens.toFixed(0)} tokens and answers of ${traffic.meanOutputTokens.toFixed(0)} on average`,
        "",
        `Start from the preset "${preset}"${changed ? `, with the placement ${named(pipeline.placement)}` : ""}:`,
        ...points.map(
          ([point, choices]) => `  ${point.padEnd(10)} ${choices.map(named).join(", ") || "none"}`
        ),
        ...(pipeline.pendingTokensMax === undefined
          ? []
          : [`  pending    at most ${pipeline.pendingTokensMax} prompt tokens at a worker`]),
        "",
        "Because:",
        ...reasons.map((reason) => `  ${reason}`),
        ""
      ].join("\n")
    )
  })
).pipe(
  Command.withDescription("Recommend policies for recorded traffic, and say why."),
  Command.withExamples([
    {
      command: "bun run policies recommend --trace test/fixtures/small.jsonl --workers 4",
      description: "What to use for a trace"
    }
  ])
)

/** `parallax policies`: the catalogue, for people and programs. */
export const policiesCommand = Command.make("policies").pipe(
  Command.withDescription("List, explain and recommend policies."),
  Command.withSubcommands([list, show, recommendation]),
  Command.withExamples([
    { command: "bun run policies list", description: "What there is" },
    { command: "bun run policies show power-of-two", description: "What one does" }
  ])
)
