import * as Effect from "effect/Effect"
import { presets } from "../../engines/simulated/CostModel.ts"
import type { Targets } from "../../policies/pipelines.ts"
import { type Competition, type Setting, splits } from "../../simulator/report/ground.ts"
import { counted } from "../../structures/counted.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import type { Shell } from "../cli/Shell.ts"
import { loadConfig } from "../loadConfig.ts"
import { configuredPipeline, contendersOf, isOfConfig, type PresetName, referenceOf } from "./contenders.ts"
import type { TrafficFlags } from "./traffic.ts"
import { mostWorkers, rolesOf, worldFacts, type WorldFlags, worldOf, worldTexts } from "./world.ts"

/** What competes, on what. */
export interface SettingFlags extends TrafficFlags, WorldFlags {
  readonly policies: string
  readonly preset: PresetName
  /** A configuration file. */
  readonly config?: string | undefined
  /** In ms. */
  readonly sloTtft: number
  readonly sloTpot: number
  readonly warmUp: number
  /** Whether it is measured how long decisions take. */
  readonly timeDecisions?: boolean | undefined
  readonly seed: number
  readonly seeds: number
  readonly json: boolean
  /** Replays at a time. */
  readonly jobs: number
  /** A page to write. */
  readonly report: string | undefined
}

/** What the flags say of workers and targets. */
export const settingOf = Effect.fnUntraced(function* (
  flags: SettingFlags
): Effect.fn.Return<Setting, CliFailure> {
  const { engine, kvTokens, timeDecisions = false, transferGbps, warmUp } = flags
  return {
    world: yield* worldOf(flags),
    workers: mostWorkers(flags),
    roles: yield* rolesOf(flags),
    transferGbps,
    preset: presets[engine],
    kvCapacityTokens: Number.isFinite(kvTokens) ? kvTokens : undefined,
    targets: sloTargets(flags),
    warmUp,
    timeDecisions
  }
})

/** What they say of policies. */
export const competitionOf = Effect.fnUntraced(function* (
  flags: SettingFlags
): Effect.fn.Return<Competition, CliFailure, Shell> {
  const { config: file, policies, preset } = flags
  const targets = sloTargets(flags)
  // Nothing listens here.
  const config =
    file === undefined ? undefined : configuredPipeline(yield* loadConfig({ file, insecure: true }))
  const contenders = contendersOf(policies, preset, targets, config)
  if (typeof contenders === "string") return yield* misused(`--policies: ${contenders}`)
  if (config !== undefined && !contenders.some(isOfConfig))
    return yield* misused("--config is for --policies: name config there, as in --policies config,default.")
  if (flags.roles !== undefined && !contenders.some(({ pipeline }) => splits(pipeline)))
    return yield* misused(
      "--roles: none of --policies splits requests. Name one that does, as disaggregated."
    )
  return { contenders, reference: referenceOf(preset, targets), seeds: seedsOf(flags) }
})

/** All of it, as a report repeats it. */
export const factsOf = (flags: SettingFlags): object => {
  const { config, engine, generate, preset, trace, warmUp, workers } = flags
  return {
    trace: trace ?? generate,
    workers,
    world: worldFacts(flags),
    engine,
    preset,
    ...(config === undefined ? {} : { config }),
    slo: sloTargets(flags),
    warmUp,
    seeds: seedsOf(flags)
  }
}

/** Who serves, and what is in time. */
export const settingText = (flags: SettingFlags): string => {
  const { config, engine, preset, seeds, sloTpot, sloTtft, workers } = flags
  const most = mostWorkers(flags)
  return [
    `${most > workers ? `${workers} to ${most} workers` : counted(workers, "worker")} ${engine}`,
    ...worldTexts(flags),
    `targets: TTFT ${sloTtft} ms, TPOT ${sloTpot} ms`,
    `base pipeline "${preset}"`,
    ...(config === undefined ? [] : [`--config ${config}`]),
    seeds === 1 ? "one seed" : `${seeds} seeds`
  ].join("; ")
}

export const sloTargets = ({ sloTpot, sloTtft }: SettingFlags): Targets => ({
  ttftMs: sloTtft,
  tpotMs: sloTpot
})

const seedsOf = ({ seed, seeds }: SettingFlags): ReadonlyArray<number> =>
  Array.from({ length: seeds }, (_, i) => seed + i)
