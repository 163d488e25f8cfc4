import * as Effect from "effect/Effect"
import { Argument, Command } from "effect/cli"
import {
  configFlag,
  countFlag,
  factorFlag,
  jsonFlag,
  skipBadFlag,
  speedFlag,
  switchFlag,
  textFlag,
  timeFlag,
  traceFormats
} from "./flags.ts"
import { optionFlag } from "./optionFlag.ts"

/** `parallax replay-live`: recorded traffic, in real time, through real sockets. */
export const replayCommand = Command.make(
  "replay-live",
  {
    trace: Argument.String("trace").pipe(Argument.withDescription(`File in the format ${traceFormats}.`)),
    address: textFlag(
      "address",
      "Replay through the cluster that runs here. Default: through one that is started for this and stopped in the end.",
      "host:port"
    ),
    config: configFlag,
    speed: speedFlag,
    timeScale: factorFlag(
      "time-scale",
      "How many times faster everything runs, engines included; a running cluster must have the same. Default: 1.",
      1
    ),
    limit: countFlag("limit", "Requests of the trace to send, from its start. Default: all.", Infinity),
    skipBad: skipBadFlag,
    model: textFlag(
      "model",
      "Served model that requests for models not served are sent to. Default: the first."
    ),
    sloTtft: timeFlag(
      "slo-ttft",
      "Target for the time to the first token, in trace time, for goodput.",
      Infinity
    ),
    sloTpot: timeFlag(
      "slo-tpot",
      "Target for the time per further token, in trace time, for goodput.",
      Infinity
    ),
    againstReplay: switchFlag(
      "against-replay",
      "Replay the same requests in virtual time too, and say how far apart the two are."
    ),
    workers: optionFlag("workers", "models[0].workers"),
    preset: optionFlag("preset", "models[0].engine.preset"),
    placement: optionFlag("placement", "pipeline.placement.policy"),
    json: jsonFlag("one document with all figures")
  },
  Effect.fnUntraced(function* (flags) {
    const { runReplay } = yield* Effect.promise(() => import("../replay/runReplay.ts"))
    const { workers, preset, placement, ...rest } = flags
    yield* runReplay({ ...rest, options: [...workers, ...preset, ...placement] })
  })
).pipe(
  Command.withDescription(
    "Send a recorded trace at its recorded times, without waiting for answers, and report what the cluster made of it. --config, --workers, --preset and --placement are for the cluster that it starts where no --address is given."
  ),
  Command.withExamples([
    {
      command: "bun run replay-live test/fixtures/small.jsonl --time-scale 20",
      description: "A small trace, twenty times faster, engines included"
    }
  ])
)
