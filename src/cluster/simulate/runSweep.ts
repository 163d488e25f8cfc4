import * as Effect from "effect/Effect"
import type { Run } from "../../simulator/report/Study.ts"
import { notesOf, searches, sweepOf } from "../../simulator/report/sweep.ts"
import { sweepTableOf, tableText } from "../../simulator/report/table.ts"
import { percent } from "../../structures/percent.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { write, type Shell } from "../cli/Shell.ts"
import { openReport, writeReport } from "./reporting.ts"
import { concludeAll } from "./runners.ts"
import { competitionOf, factsOf, type SettingFlags, settingText, sloTargets } from "./setting.ts"
import { trafficName } from "./traffic.ts"
import { mostWorkers } from "./world.ts"

export interface SweepFlags extends SettingFlags {
  readonly goal: number
}

/** Finds the fastest traffic with which each of several policies meets the targets, and prints it. */
export const runSweep = Effect.fnUntraced(function* (
  flags: SweepFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const { goal, json } = flags
  const workers = mostWorkers(flags)
  const competition = yield* competitionOf(flags)
  yield* openReport(flags)
  const all = searches({ ...competition, goal })
  const atOnce = all.length * competition.seeds.length
  const sweep = sweepOf(yield* concludeAll(flags, all, { atOnce, refuse: rateless }))
  const results = sweep.results.map(({ found }) => found)
  const bounds = { bound: sweep.bounds.bound.found, sharedCache: sweep.bounds.sharedCache.found }
  const notes = notesOf(sweep, sloTargets(flags))
  const document = { ...factsOf(flags), goal, results, bounds, notes }
  const title = `${trafficName(flags)}: the highest rate at which ${percent(goal)} % of all requests meet the targets`
  yield* writeReport(flags, { title, lead: [settingText(flags), ...notes], document }, (pages, provenance) =>
    pages.sweepPage(sweep, goal, workers, provenance)
  )
  const text = json
    ? jsonLine(document)
    : [
        title,
        settingText(flags),
        "",
        tableText(sweepTableOf(sweep, workers)),
        "",
        ...notes.flatMap((note) => [note, ""])
      ].join("\n")
  yield* write(text)
})

/** Traffic that takes no time has no rate, at whatever speed. */
const rateless = ({ limits }: Run): CliFailure | undefined =>
  Number.isFinite(limits.requestsPerSecond)
    ? undefined
    : misused(
        "simulate sweep looks for a rate: give traffic of at least two requests, not all at one moment."
      )
