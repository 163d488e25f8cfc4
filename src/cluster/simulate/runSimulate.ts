import * as Effect from "effect/Effect"
import { compare, type Comparison } from "../../simulator/report/compare.ts"
import { comparisonCsv, tableOf, tableText } from "../../simulator/report/table.ts"
import { percent } from "../../structures/percent.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { write, type Shell } from "../cli/Shell.ts"
import { openReport, writeReport } from "./reporting.ts"
import { concludeAll } from "./runners.ts"
import { competitionOf, factsOf, type SettingFlags, settingText, sloTargets } from "./setting.ts"
import { clientsWait, trafficName } from "./traffic.ts"

export interface SimulateFlags extends SettingFlags {
  readonly speed: number
  readonly csv: boolean
}

/** For goodput against load a page has each policy replayed once more at each of these multiples of the speed. */
const AROUND = [0.5, Math.SQRT1_2, Math.SQRT2, 2]

/** Replays traffic under several policies and prints how they compare. */
export const runSimulate = Effect.fnUntraced(function* (
  flags: SimulateFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const { csv, json, speed } = flags
  if (json && csv) return yield* misused("--json and --csv are two formats: choose one.")
  const competition = yield* competitionOf(flags)
  yield* openReport(flags)
  const { contenders, seeds } = competition
  const plots = flags.report !== undefined
  const otherSpeeds = plots && !clientsWait(flags) ? AROUND.map((factor) => factor * speed) : []
  const study = compare({ ...competition, speed, plots, otherSpeeds })
  const total = (contenders.length + 1) * seeds.length + contenders.length * otherSpeeds.length
  const comparison = (yield* concludeAll(flags, [study], { atOnce: total, total }))[0]!
  const document = { ...factsOf(flags), speed, ...documentOf(comparison) }
  const lead = leadOf(flags, comparison)
  const title = `${trafficName(flags)}: policies compared`
  yield* writeReport(flags, { title, lead, document }, (pages, provenance) =>
    pages.comparisonPage(comparison, sloTargets(flags), provenance)
  )
  const text = json
    ? jsonLine(document)
    : csv
      ? comparisonCsv(comparison)
      : `${lead.join("\n")}\n\n${tableText(tableOf(comparison))}\n`
  yield* write(text)
})

const leadOf = (flags: SimulateFlags, { repeatedShare, requests }: Comparison): ReadonlyArray<string> => {
  const { seeds, speed, warmUp } = flags
  return [
    `${trafficName(flags)} at speed ${speed}: ${requests.toLocaleString("en-US")} requests counted after the first ${percent(warmUp)} %; ` +
      `${percent(repeatedShare)} % of their prompt tokens came before`,
    `${settingText(flags)}${seeds === 1 ? "" : ", ± to the farther end of the 95 % interval"}`
  ]
}

/** As JSON has it: each measure of a policy beside its name. */
const documentOf = ({ bounds, results, trials: _trials, ...facts }: Comparison): object => ({
  ...facts,
  results: results.map(({ estimates, policy }) => ({ policy, ...estimates })),
  bounds: {
    ...bounds,
    sharedCache: { policy: bounds.sharedCache.policy, ...bounds.sharedCache.estimates }
  }
})
