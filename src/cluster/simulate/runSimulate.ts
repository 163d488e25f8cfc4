import * as Effect from "effect/Effect"
import { presets } from "../../engines/simulated/CostModel.ts"
import { systemTimers } from "../../protocol/Timers.ts"
import { generateTraffic } from "../../simulator/replay/generate.ts"
import { type Workload, workloadOf } from "../../simulator/replay/Workload.ts"
import { compare, type Comparison, type Progress } from "../../simulator/report/compare.ts"
import { comparisonCsv, comparisonTable } from "../../simulator/report/table.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { Shell, type Surroundings } from "../cli/Shell.ts"
import { readTrace } from "../readTrace.ts"
import { contendersOf, presetContender, type PresetName } from "./contenders.ts"
import { generatedTraffic } from "./generated.ts"

export interface SimulateFlags {
  /** Files, separated by commas. */
  readonly trace: string | undefined
  readonly generate: string | undefined
  readonly limit: number
  readonly speed: number
  readonly workers: number
  readonly engine: keyof typeof presets
  readonly kvTokens: number
  readonly policies: string
  readonly preset: PresetName
  /** In ms. */
  readonly sloTtft: number
  readonly sloTpot: number
  readonly warmUp: number
  readonly seed: number
  readonly seeds: number
  readonly json: boolean
  readonly csv: boolean
}

/** Between two lines of progress where nobody watches a terminal. */
const LINE_MS = 5_000

/** Replays traffic under several policies and prints how they compare. */
export const runSimulate = Effect.fnUntraced(function* (
  flags: SimulateFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  const { csv, engine, json, kvTokens, preset, speed, warmUp, workers } = flags
  const targets = { ttftMs: flags.sloTtft, tpotMs: flags.sloTpot }
  if (json && csv) return yield* misused("--json and --csv are two formats: choose one.")
  const contenders = contendersOf(flags.policies, preset, targets)
  if (typeof contenders === "string") return yield* misused(`--policies: ${contenders}`)
  const seeds = Array.from({ length: flags.seeds }, (_, i) => flags.seed + i)
  const comparison = yield* showing(
    shell,
    compare({
      workloadOf: yield* trafficOf(flags, shell),
      workers,
      preset: presets[engine],
      kvCapacityTokens: Number.isFinite(kvTokens) ? kvTokens : undefined,
      contenders,
      reference: presetContender(preset, targets),
      targets,
      warmUp,
      seeds
    })
  )
  const traffic = flags.trace ?? flags.generate
  const facts = { trace: traffic, speed, workers, engine, preset, slo: targets, warmUp, seeds }
  const text = json
    ? jsonLine({ ...facts, ...documentOf(comparison) })
    : csv
      ? comparisonCsv(comparison)
      : `${titleOf(flags, comparison)}\n\n${comparisonTable(comparison)}\n`
  yield* Effect.promise(() => shell.out(text))
})

/** The traffic of a seed: recorded one is the same for all. */
const trafficOf = Effect.fnUntraced(function* (
  { generate, limit, speed, trace }: SimulateFlags,
  { directory }: Surroundings
): Effect.fn.Return<(seed: number) => Workload, CliFailure> {
  if (trace !== undefined && generate !== undefined)
    return yield* misused("--trace and --generate both say what the traffic is: give one of them.")
  if (trace !== undefined) {
    const names = trace.split(",").map((name) => name.trim())
    const traces = yield* Effect.forEach(names, (name) => readTrace(directory, name, limit))
    if (traces.every(({ requests }) => requests.length === 0))
      return yield* misused(`${trace} has no requests.`)
    const workload = workloadOf(traces, speed)
    return () => workload
  }
  if (generate === undefined)
    return yield* misused("What is the traffic? Give --trace FILE, or --generate rate=20 to make some up.")
  const traffic = generatedTraffic(generate)
  if (typeof traffic === "string") return yield* misused(`--generate: ${traffic}`)
  const requests = Math.min(limit, traffic.requests)
  return (seed) => workloadOf([generateTraffic({ ...traffic, requests, seed })], speed)
})

/** Runs a comparison, and shows how far it is. Interruptible between two replays. */
const showing = Effect.fnUntraced(function* (
  { err, errColumns }: Surroundings,
  running: Generator<Progress, Comparison>
): Effect.fn.Return<Comparison> {
  let saidMs = systemTimers.nowMs()
  const say = ({ done, policy, seed, total }: Progress): void => {
    const line = `${done}/${total} replays  ${policy}, seed ${seed}`
    if (errColumns !== undefined) return err(`\r${line.slice(0, errColumns - 1).padEnd(errColumns - 1)}`)
    if (systemTimers.nowMs() - saidMs < LINE_MS) return
    saidMs = systemTimers.nowMs()
    err(`${line}\n`)
  }
  while (true) {
    const { done, value } = running.next()
    if (done === true) {
      if (errColumns !== undefined) err(`\r${" ".repeat(errColumns - 1)}\r`)
      return value
    }
    say(value)
    yield* Effect.yieldNow
  }
})

const titleOf = (flags: SimulateFlags, { repeatedShare, requests }: Comparison): string => {
  const { engine, preset, seeds, sloTpot, sloTtft, speed, warmUp, workers } = flags
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
  return [
    `${flags.trace ?? flags.generate} at speed ${speed}: ${requests.toLocaleString("en-US")} requests counted after the first ${percent(warmUp)}; ${percent(repeatedShare)} of their prompt tokens came before`,
    `${workers} workers ${engine}; targets: TTFT ${sloTtft} ms, TPOT ${sloTpot} ms; placements run in the pipeline "${preset}"; ${seeds === 1 ? "one seed" : `${seeds} seeds, ± to the farther end of the 95 % interval`}`
  ].join("\n")
}

/** As JSON has it: each measure of a policy beside its name. */
const documentOf = ({ bounds, results, ...facts }: Comparison): object => ({
  ...facts,
  results: results.map(({ estimates, policy }) => ({ policy, ...estimates })),
  bounds: {
    ...bounds,
    sharedCache: { policy: bounds.sharedCache.policy, ...bounds.sharedCache.estimates }
  }
})
