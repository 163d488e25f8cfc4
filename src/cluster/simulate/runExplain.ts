import * as Effect from "effect/Effect"
import { requestIdOf } from "../../domain/requestId.ts"
import { explainReplay } from "../../simulator/explain/explainReplay.ts"
import type { Workload } from "../../simulator/replay/Workload.ts"
import { workersOf, workersUnder } from "../../simulator/report/ground.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { write, Shell } from "../cli/Shell.ts"
import { counterfactualText, explanationText } from "../explanationText.ts"
import type { SimulateFlags } from "./runSimulate.ts"
import { competitionOf, factsOf, settingOf } from "./setting.ts"
import { trafficOf } from "./traffic.ts"
import { checkTenants } from "./weights.ts"

/** Which request it is about: the number it has in the traffic, from 1 on, or its id. */
export type Asked = { readonly number: number } | { readonly id: bigint }

/** Replays traffic under one policy and prints why a request went where it went. */
export const runExplain = Effect.fnUntraced(function* (
  flags: SimulateFlags,
  asked: Asked
): Effect.fn.Return<void, CliFailure, Shell> {
  const { err, errColumns } = yield* Shell
  const { csv, json, report, seed, seeds, speed, timeDecisions } = flags
  if (csv || report !== undefined) return yield* misused("--explain is written as text or --json alone.")
  if (seeds > 1 || timeDecisions === true)
    return yield* misused(
      "--explain is about one replay with --seed: leave --seeds and --time-decisions out."
    )
  const { contenders } = yield* competitionOf(flags)
  const { name: policy, pipeline } = contenders[0]!
  const traffic = yield* trafficOf(flags)
  const workload = traffic(seed, speed)
  const number = yield* numberOf(workload, asked)
  const setting = yield* settingOf(flags)
  yield* checkTenants(flags, () => workload)
  const workers = workersUnder(pipeline, workersOf(setting, seed))
  const running = explainReplay({ ...setting.world, workload, workers, pipeline, seed }, number - 1)
  let step = running.next()
  for (; step.done !== true; step = running.next()) {
    const { done, total } = step.value
    if (errColumns !== undefined) err(`\r${done}/${total} replays`)
    yield* Effect.yieldNow
  }
  if (errColumns !== undefined) err(`\r${" ".repeat(errColumns - 1)}\r`)
  const { elsewhere } = step.value
  const id = workload.ids?.[number - 1]
  const explanation = id ? { ...step.value.explanation, id: requestIdOf(id) } : step.value.explanation
  const text = json
    ? `${JSON.stringify({ ...factsOf({ ...flags, seeds: 1 }), speed, policy, number, explanation, elsewhere })}\n`
    : `Request ${number} of ${workload.name} at speed ${speed}, under "${policy}"\n${explanationText(explanation)}${counterfactualText(elsewhere)}`
  yield* write(text)
})

/** Of several requests of one id the last, as in a running cluster: a client that asks again does so under the same one. */
const numberOf = (
  { ids, name, requests: { length } }: Workload,
  asked: Asked
): Effect.Effect<number, CliFailure> => {
  if ("number" in asked)
    return asked.number <= length
      ? Effect.succeed(asked.number)
      : misused(`--explain: there is no request ${asked.number}. Give a number from 1 to ${length}.`)
  if (ids === undefined)
    return misused(`--explain: ${name} has no ids of requests. Give a number from 1 to ${length}.`)
  const at = ids.lastIndexOf(asked.id)
  return at >= 0
    ? Effect.succeed(at + 1)
    : misused(
        `--explain: ${name} has no request of the id ${requestIdOf(asked.id)}. It may be in another file of the recording, or not recorded: bun run explain knows recent ones of a running cluster.`
      )
}
