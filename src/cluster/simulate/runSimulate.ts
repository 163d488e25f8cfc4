import * as Effect from "effect/Effect"
import { presets } from "../../engines/simulated/CostModel.ts"
import { compare, type Comparison } from "../../simulator/report/compare.ts"
import type { Contender, Setting } from "../../simulator/report/ground.ts"
import { comparisonCsv, comparisonTable } from "../../simulator/report/table.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { Shell } from "../cli/Shell.ts"
import { contendersOf, type PresetName, referenceOf } from "./contenders.ts"
import { showing } from "./showing.ts"
import { type TrafficFlags, trafficOf } from "./traffic.ts"

/** What competes, on what. */
export interface SettingFlags extends TrafficFlags {
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
}

export interface SimulateFlags extends SettingFlags {
  readonly speed: number
  readonly csv: boolean
}

/** Replays traffic under several policies and prints how they compare. */
export const runSimulate = Effect.fnUntraced(function* (
  flags: SimulateFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  const { csv, json, speed } = flags
  if (json && csv) return yield* misused("--json and --csv are two formats: choose one.")
  const setting = yield* settingOf(flags)
  const workloadOf = yield* trafficOf(flags)
  const comparison = yield* showing(
    shell,
    compare({ ...setting, workloadOf: (seed) => workloadOf(seed, speed) }),
    ({ done, policy, seed, total }) => `${done}/${total} replays  ${policy}, seed ${seed}`
  )
  const text = json
    ? jsonLine({ ...factsOf(flags), speed, ...documentOf(comparison) })
    : csv
      ? comparisonCsv(comparison)
      : `${titleOf(flags, comparison)}\n\n${comparisonTable(comparison)}\n`
  yield* Effect.promise(() => shell.out(text))
})

/** What the flags say of everything but the traffic. */
export const settingOf = (
  flags: SettingFlags
): Effect.Effect<Setting & { readonly reference: Contender }, CliFailure> => {
  const { engine, kvTokens, policies, preset, seed, seeds, sloTpot, sloTtft, warmUp, workers } = flags
  const targets = { ttftMs: sloTtft, tpotMs: sloTpot }
  const contenders = contendersOf(policies, preset, targets)
  if (typeof contenders === "string") return Effect.fail(misused(`--policies: ${contenders}`))
  return Effect.succeed({
    world: {},
    workers,
    preset: presets[engine],
    kvCapacityTokens: Number.isFinite(kvTokens) ? kvTokens : undefined,
    contenders,
    reference: referenceOf(preset, targets),
    targets,
    warmUp,
    seeds: Array.from({ length: seeds }, (_, i) => seed + i)
  })
}

/** The same, as a report repeats it. */
export const factsOf = (flags: SettingFlags): object => {
  const { engine, generate, preset, seed, seeds, sloTpot, sloTtft, trace, warmUp, workers } = flags
  return {
    trace: trace ?? generate,
    workers,
    engine,
    preset,
    slo: { ttftMs: sloTtft, tpotMs: sloTpot },
    warmUp,
    seeds: Array.from({ length: seeds }, (_, i) => seed + i)
  }
}

/** Who serves, and what is in time. */
export const settingText = ({ engine, preset, seeds, sloTpot, sloTtft, workers }: SettingFlags): string =>
  `${workers} workers ${engine}; targets: TTFT ${sloTtft} ms, TPOT ${sloTpot} ms; placements run in the pipeline "${preset}"; ` +
  (seeds === 1 ? "one seed" : `${seeds} seeds`)

const titleOf = (flags: SimulateFlags, { repeatedShare, requests }: Comparison): string => {
  const { generate, seeds, speed, trace, warmUp } = flags
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`
  return [
    `${trace ?? generate} at speed ${speed}: ${requests.toLocaleString("en-US")} requests counted after the first ${percent(warmUp)}; ` +
      `${percent(repeatedShare)} of their prompt tokens came before`,
    `${settingText(flags)}${seeds === 1 ? "" : ", ± to the farther end of the 95 % interval"}`
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
