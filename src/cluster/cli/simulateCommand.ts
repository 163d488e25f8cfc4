import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Command, Flag } from "effect/cli"
import { isRequestId } from "../../domain/requestId.ts"
import { presets } from "../../engines/simulated/CostModel.ts"
import { STANDARD_INPUT } from "../readTrace.ts"
import { presetNames } from "../simulate/contenders.ts"
import { generatedHelp } from "../simulate/generated.ts"
import type { Asked } from "../simulate/runExplain.ts"
import type { SimulateFlags } from "../simulate/runSimulate.ts"
import type { SweepFlags } from "../simulate/runSweep.ts"
import {
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

/** What a machine can hold at a time. */
const WORKERS_MAX = 10_000
const JOBS_MAX = 256
/** More tell nothing that these do not. */
const SEEDS_MAX = 1_000
/** Admissions that are told the targets take no shorter ones. */
const TARGET_MS_MIN = 1

const share = (name: string, help: string, fallback: number, maximum: number) =>
  Flag.Finite(name).pipe(
    Flag.withDescription(help),
    Flag.filter(
      (value) => value >= 0 && value <= maximum,
      () => `a number from 0 to ${maximum}`
    ),
    Flag.withDefault(fallback)
  )

/** What has 16 digits is an id: no traffic has so many requests. */
const askedOf = (text: string): Option.Option<Asked> => {
  if (isRequestId(text)) return Option.some({ id: BigInt(`0x${text}`) })
  return /^[1-9]\d*$/.test(text) ? Option.some({ number: Number(text) }) : Option.none()
}

const setting = {
  trace: textFlag(
    "trace",
    `Files with commas between, each in the format ${traceFormats}; several are laid over each other.`,
    "path"
  ).pipe(
    Flag.filter(
      (names) => (names ?? "").split(",").filter((name) => name.trim() === STANDARD_INPUT).length <= 1,
      () => "- once at most: standard input is read once"
    )
  ),
  generate: textFlag(
    "generate",
    `Make traffic up. Settings as name=value, separated by commas: ${generatedHelp}.`,
    "settings"
  ),
  limit: countFlag("limit", "Requests of each trace to replay, from its start. Default: all.", Infinity),
  skipBad: skipBadFlag,
  workers: countFlag("workers", "Workers, all alike, at most 10000. Default: 8.", 8, WORKERS_MAX),
  engine: Flag.Literals("engine", Object.keys(presets) as ReadonlyArray<keyof typeof presets>).pipe(
    Flag.withDescription("Model and hardware of a worker. Default: 8b-h100."),
    Flag.withDefault("8b-h100" as const)
  ),
  kvTokens: countFlag(
    "kv-tokens",
    "Size of a worker's KV cache, in tokens. Default: that of --engine.",
    Infinity
  ),
  roles: textFlag(
    "roles",
    "How many of --workers only read prompts and how many only write answers, under policies that split requests: prefill=2,decode=4. Default: all do both.",
    "counts"
  ),
  transferGbps: Flag.Finite("transfer-gbps").pipe(
    Flag.withDescription("Gbit/s that the KV cache of one split request gets of the network. Default: 100."),
    Flag.filter(
      (gbps) => gbps >= 0.001 && gbps <= 1_000_000,
      () => "from 0.001 to 1000000"
    ),
    Flag.map((gbps): number | undefined => gbps),
    Flag.withDefault(undefined)
  ),
  networkMs: share("network-ms", "One way between balancer and worker. Default: 0.5.", 0.5, 60_000),
  heartbeatMs: countFlag("heartbeat-ms", "Between two heartbeats of a worker. Default: 250.", 250),
  crash: textFlag(
    "crash",
    "Workers whose process ends: worker@second, with commas between, and +seconds where it comes back after so many, with an empty cache: 3@60+30. Workers are counted from 0.",
    "crashes"
  ),
  lose: textFlag("lose", "The same of workers that fall silent: their connections do not end.", "crashes"),
  slow: textFlag(
    "slow",
    "Workers that are slow for a while: worker@second-second*factor, with commas between: 2@30-90*4.",
    "times"
  ),
  scale: textFlag(
    "scale",
    "Scaling policy that decides how many workers there are, from --workers to --workers-max, options behind it (queue-driven:drain=10s). Default: there are --workers.",
    "policy"
  ),
  workersMax: Flag.Int("workers-max").pipe(
    Flag.withDescription("The most workers that --scale may have."),
    Flag.filter(
      (count) => count >= 1 && count <= WORKERS_MAX,
      () => `from 1 to ${WORKERS_MAX}`
    ),
    Flag.map((count): number | undefined => count),
    Flag.withDefault(undefined)
  ),
  coldStart: textFlag(
    "cold-start",
    "How long a worker that --scale starts takes to join. Default: 30s.",
    "time"
  ),
  weights: textFlag(
    "weights",
    "Weights of tenants by name, with commas between, as `tenants` of a configuration has them: chat=3,batch=0.5. Default: all weigh 1.",
    "weights"
  ),
  policies: Flag.String("policies").pipe(
    Flag.withDescription(
      "What to compare, separated by commas: pipelines, each a preset, or config for that of --config, or none for that of --preset; then policies that replace what it has, with + between and options behind the name (slo+power-of-two:d=3+hedge). Groups stand for all of a kind: presets, admissions, orderings, batchings, placements, rivals, rescues; all is presets, placements and rivals. Default: default,round-robin,least-connections,prefix-locality."
    ),
    Flag.withMetavar("names"),
    Flag.withDefault("default,round-robin,least-connections,prefix-locality")
  ),
  preset: Flag.Literals("preset", presetNames).pipe(
    Flag.withDescription("Pipeline that policies run in where --policies names none. Default: default."),
    Flag.withDefault("default" as const)
  ),
  config: textFlag("config", "Configuration file whose pipeline config stands for in --policies.", "path"),
  sloTtft: timeFlag("slo-ttft", "Target for the time to the first token. Default: 5s.", 5000, TARGET_MS_MIN),
  sloTpot: timeFlag("slo-tpot", "Target for the time per further token. Default: 100ms.", 100, TARGET_MS_MIN),
  warmUp: share(
    "warm-up",
    "Share of the requests, from the first on, that do not count. Default: 0.1.",
    0.1,
    0.9
  ),
  seed: countFlag("seed", "First seed. Default: 1.", 1),
  seeds: countFlag(
    "seeds",
    "How many seeds to replay; more than one gives intervals. Default: 1.",
    1,
    SEEDS_MAX
  ),
  json: jsonFlag("one document with all figures"),
  jobs: countFlag(
    "jobs",
    "Replays at a time, each in a thread of its own; 1: in none. Default: as many as there are cores.",
    navigator.hardwareConcurrency,
    JOBS_MAX
  ),
  report: textFlag("report", "Page to write, with plots and all figures: one HTML file by itself.", "path")
}

const sweepCommand = Command.make(
  "sweep",
  {
    ...setting,
    goal: factorFlag("goal", "Share of the requests that must meet the targets. Default: 0.95.", 0.95, 1)
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
    speed: speedFlag,
    closedLoop: switchFlag(
      "closed-loop",
      "Clients wait: the next request of a session comes when the one before has ended and its client has thought."
    ),
    clients: countFlag(
      "clients",
      "Most clients at a time. Each has one session, or one request without a session, and waits for its answers. Default: no limit.",
      Infinity
    ),
    // Undefined without it, so that reports do not speak of it.
    timeDecisions: switchFlag(
      "time-decisions",
      "Measure how long admission and placement take, in a column of its own. It differs from run to run: take --jobs 1 to compare."
    ).pipe(Flag.map((wanted) => wanted || undefined)),
    csv: switchFlag("csv", "Write comma-separated values, and nothing else, to standard output."),
    explain: Flag.String("explain").pipe(
      Flag.withDescription(
        "Compare nothing: say why one request, given by its number in the traffic or by its id in a recording, went where it went under the first of --policies, and what would have become of it elsewhere."
      ),
      Flag.withMetavar("number or id"),
      Flag.filterMap(askedOf, () => "a number of at least 1, or an id of 16 hexadecimal digits"),
      Flag.map((asked): Asked | undefined => asked),
      Flag.withDefault(undefined)
    )
  },
  Effect.fnUntraced(function* ({
    explain,
    ...flags
  }: SimulateFlags & { readonly explain: Asked | undefined }) {
    if (explain !== undefined) {
      const { runExplain } = yield* Effect.promise(() => import("../simulate/runExplain.ts"))
      return yield* runExplain(flags, explain)
    }
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
        "bun run simulate --trace test/fixtures/conversations.jsonl.gz --speed 2 --policies all --json",
      description: "A recorded trace, twice as fast, under everything there is"
    },
    {
      command:
        "bun run simulate --generate rate=30,prompt=2000 --config cluster.config.ts --policies config,config+placements",
      description: "The pipeline of a configuration, and each placement in it"
    },
    {
      command: "bun run simulate --generate rate=40,prompt=3000,shared=0.7 --policies default --explain 300",
      description: "Why the 300th request went where it went, and what would have become of it elsewhere"
    }
  ])
)
