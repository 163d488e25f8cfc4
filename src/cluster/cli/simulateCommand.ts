import * as Effect from "effect/Effect"
import { Command, Flag } from "effect/cli"
import { presets } from "../../engines/simulated/CostModel.ts"
import { presetNames } from "../simulate/contenders.ts"
import { generatedHelp } from "../simulate/generated.ts"
import type { SimulateFlags } from "../simulate/runSimulate.ts"
import type { SweepFlags } from "../simulate/runSweep.ts"
import { countFlag, factorFlag, jsonFlag, skipBadFlag, switchFlag, textFlag, traceFormats } from "./flags.ts"

const share = (name: string, help: string, fallback: number, maximum: number) =>
  Flag.Finite(name).pipe(
    Flag.withDescription(help),
    Flag.filter(
      (value) => value >= 0 && value <= maximum,
      () => `a number from 0 to ${maximum}`
    ),
    Flag.withDefault(fallback)
  )

const setting = {
  trace: textFlag(
    "trace",
    `Files with commas between, each in the format ${traceFormats}; several are laid over each other.`,
    "path"
  ),
  generate: textFlag(
    "generate",
    `Make traffic up. Settings as name=value, separated by commas: ${generatedHelp}.`,
    "settings"
  ),
  limit: countFlag("limit", "Requests of each trace to replay, from its start. Default: all.", Infinity),
  skipBad: skipBadFlag,
  workers: countFlag("workers", "Workers, all alike. Default: 8.", 8),
  engine: Flag.Literals("engine", Object.keys(presets) as ReadonlyArray<keyof typeof presets>).pipe(
    Flag.withDescription("Model and hardware of a worker. Default: 8b-h100."),
    Flag.withDefault("8b-h100" as const)
  ),
  kvTokens: countFlag(
    "kv-tokens",
    "Size of a worker's KV cache, in tokens. Default: that of --engine.",
    Infinity
  ),
  policies: Flag.String("policies").pipe(
    Flag.withDescription(
      "What to compare, separated by commas: presets, placements and rivals by name, options behind it (power-of-two:d=3), or the groups presets, placements, rivals, all. Default: default,round-robin,least-connections,prefix-locality."
    ),
    Flag.withMetavar("names"),
    Flag.withDefault("default,round-robin,least-connections,prefix-locality")
  ),
  preset: Flag.Literals("preset", presetNames).pipe(
    Flag.withDescription("Pipeline that placements and rivals run in. Default: default."),
    Flag.withDefault("default" as const)
  ),
  sloTtft: countFlag("slo-ttft", "Target for the time to the first token, in ms. Default: 5000.", 5000),
  sloTpot: countFlag("slo-tpot", "Target for the time per further token, in ms. Default: 100.", 100),
  warmUp: share(
    "warm-up",
    "Share of the requests, from the first on, that do not count. Default: 0.1.",
    0.1,
    0.9
  ),
  seed: countFlag("seed", "First seed. Default: 1.", 1),
  seeds: countFlag("seeds", "How many seeds to replay; more than one gives intervals. Default: 1.", 1),
  json: jsonFlag("one document with all figures")
}

const sweepCommand = Command.make(
  "sweep",
  {
    ...setting,
    goal: share("goal", "Share of the requests that must meet the targets. Default: 0.95.", 0.95, 1)
  },
  Effect.fnUntraced(function* (flags: SweepFlags) {
    const { runSweep } = yield* Effect.promise(() => import("../simulate/runSweep.ts"))
    yield* runSweep(flags)
  })
).pipe(
  Command.withDescription(
    "Find the highest rate at which each of several policies meets the targets: what the workers are worth under it."
  )
)

/** `parallax simulate`: traffic in virtual time, under every policy one likes. */
export const simulateCommand = Command.make(
  "simulate",
  {
    ...setting,
    speed: factorFlag("speed", "How many times closer together requests arrive. Default: 1.", 1),
    csv: switchFlag("csv", "Write comma-separated values, and nothing else, to standard output.")
  },
  Effect.fnUntraced(function* (flags: SimulateFlags) {
    const { runSimulate } = yield* Effect.promise(() => import("../simulate/runSimulate.ts"))
    yield* runSimulate(flags)
  })
).pipe(
  Command.withDescription(
    "Replay traffic in virtual time under several policies, with the code that serves live traffic, and compare what they make of it."
  ),
  Command.withSubcommands([sweepCommand]),
  Command.withExamples([
    {
      command: "bun run simulate --generate rate=30,prompt=2000,shared=0.8 --policies presets,rivals",
      description: "Made-up traffic under our pipelines and other products' placements"
    },
    {
      command:
        "bun run simulate --trace traces/mooncake-conversation-a.jsonl.gz --speed 2 --policies all --json",
      description: "A recorded trace, twice as fast, under everything there is"
    }
  ])
)
