import * as Effect from "effect/Effect"
import { generateTraffic } from "../../simulator/replay/generate.ts"
import { type Workload, workloadOf } from "../../simulator/replay/Workload.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import type { Shell } from "../cli/Shell.ts"
import { readTrace } from "../readTrace.ts"
import { generatedTraffic } from "./generated.ts"

export interface TrafficFlags {
  /** Files, separated by commas. */
  readonly trace: string | undefined
  readonly generate: string | undefined
  readonly limit: number
  readonly skipBad: boolean
}

/** The traffic that was asked for, at any speed: what was recorded is the same for all seeds. */
export const trafficOf = Effect.fnUntraced(function* (
  flags: TrafficFlags
): Effect.fn.Return<(seed: number, speed: number) => Workload, CliFailure, Shell> {
  const { generate, limit, trace } = flags
  if (trace !== undefined && generate !== undefined)
    return yield* misused("--trace and --generate both say what the traffic is: give one of them.")
  if (trace !== undefined) {
    const names = trace.split(",").map((name) => name.trim())
    const traces = yield* Effect.forEach(names, (name) => readTrace(name, flags))
    if (traces.every(({ requests }) => requests.length === 0))
      return yield* misused(`${trace} has no requests.`)
    return (_, speed) => workloadOf(traces, speed)
  }
  if (generate === undefined)
    return yield* misused("What is the traffic? Give --trace FILE, or --generate rate=20 to make some up.")
  const traffic = generatedTraffic(generate)
  if (typeof traffic === "string") return yield* misused(`--generate: ${traffic}`)
  const requests = Math.min(limit, traffic.requests)
  return (seed, speed) => workloadOf([generateTraffic({ ...traffic, requests, seed })], speed)
})
