import * as Effect from "effect/Effect"
import { type Capacity, sweep } from "../../simulator/report/sweep.ts"
import { aligned } from "../../simulator/report/table.ts"
import type { CliFailure } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { Shell } from "../cli/Shell.ts"
import { factsOf, settingOf, settingText, type SettingFlags } from "./runSimulate.ts"
import { showing } from "./showing.ts"
import { trafficOf } from "./traffic.ts"

export interface SweepFlags extends SettingFlags {
  readonly goal: number
}

/** Finds the fastest traffic with which each of several policies meets the targets, and prints it. */
export const runSweep = Effect.fnUntraced(function* (
  flags: SweepFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const shell = yield* Shell
  const { generate, goal, json, trace, workers } = flags
  const setting = yield* settingOf(flags)
  const workloadOf = yield* trafficOf(flags)
  const { bounds, results } = yield* showing(
    shell,
    sweep({ ...setting, workloadOf, goal }),
    ({ goodput, policy, speed }) => `${policy}: ${shown(100 * goodput)} % at speed ${shown(speed)}`
  )
  if (json)
    return yield* Effect.promise(() => shell.out(jsonLine({ ...factsOf(flags), goal, results, bounds })))
  const best = Math.max(...results.map(({ requestsPerSecond }) => requestsPerSecond))
  const row = (title: string, { goodput, requestsPerSecond, speed }: Capacity) => [
    title,
    `${shown(requestsPerSecond)}${requestsPerSecond === best && best > 0 ? "*" : " "}`,
    shown(requestsPerSecond / workers),
    shown(speed),
    (100 * goodput).toFixed(1)
  ]
  const rows = aligned([
    ["policy", "requests/s ", "per worker", "speed", "goodput %"],
    ...results.map((result) => row(result.policy, result)),
    row("bound", bounds.bound),
    row(`one infinite cache: ${bounds.sharedCache.policy}`, bounds.sharedCache)
  ])
  const text = [
    `${trace ?? generate}: the highest rate at which ${(100 * goal).toFixed(1)} % of all requests meet the targets`,
    settingText(flags),
    "",
    ...rows.slice(0, -2),
    "",
    ...rows.slice(-2),
    ""
  ]
  yield* Effect.promise(() => shell.out(text.join("\n")))
})

const shown = (value: number): string => value.toPrecision(3)
