import * as Effect from "effect/Effect"
import { explainReplay } from "../../simulator/explain/explainReplay.ts"
import { workersOf } from "../../simulator/report/ground.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { write, Shell } from "../cli/Shell.ts"
import { counterfactualText, explanationText } from "../explanationText.ts"
import type { SimulateFlags } from "./runSimulate.ts"
import { competitionOf, factsOf, settingOf } from "./setting.ts"
import { trafficOf } from "./traffic.ts"

/** Replays traffic under one policy and prints why a request, given by its number from 1 on, went where it went. */
export const runExplain = Effect.fnUntraced(function* (
  flags: SimulateFlags,
  asked: number
): Effect.fn.Return<void, CliFailure, Shell> {
  const { err, errColumns } = yield* Shell
  const { csv, json, report, seed, speed } = flags
  if (csv || report !== undefined) return yield* misused("--explain is written as text or --json alone.")
  const { contenders } = yield* competitionOf(flags)
  const { name: policy, pipeline } = contenders[0]!
  const traffic = yield* trafficOf(flags)
  const workload = traffic(seed, speed)
  const { length } = workload.requests
  if (asked > length)
    return yield* misused(`--explain: there is no request ${asked}. Give a number from 1 to ${length}.`)
  const setting = yield* settingOf(flags)
  const running = explainReplay(
    { ...setting.world, workload, workers: workersOf(setting, seed), pipeline, seed },
    asked - 1
  )
  let step = running.next()
  for (; step.done !== true; step = running.next()) {
    const { done, total } = step.value
    if (errColumns !== undefined) err(`\r${done}/${total} replays`)
    yield* Effect.yieldNow
  }
  if (errColumns !== undefined) err(`\r${" ".repeat(errColumns - 1)}\r`)
  const { elsewhere, explanation } = step.value
  const text = json
    ? `${JSON.stringify({ ...factsOf({ ...flags, seeds: 1 }), speed, policy, number: asked, explanation, elsewhere })}\n`
    : `Request ${asked} of ${workload.name} at speed ${speed}, under "${policy}"\n${explanationText(explanation)}${counterfactualText(elsewhere)}`
  yield* write(text)
})
