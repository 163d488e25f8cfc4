import * as Effect from "effect/Effect"
import { stat } from "node:fs/promises"
import { resolve } from "node:path"
import { presets } from "../../engines/simulated/CostModel.ts"
import { generateTraffic } from "../../simulator/replay/generate.ts"
import { closedLoop } from "../../simulator/replay/Loop.ts"
import { faster, type Workload, workloadOf } from "../../simulator/replay/Workload.ts"
import { boundsOf } from "../../simulator/report/bounds.ts"
import { memoized } from "../../structures/memoized.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { Shell } from "../cli/Shell.ts"
import { readTrace, saidOf, STANDARD_INPUT } from "../readTrace.ts"
import { generatedTraffic } from "./generated.ts"

/** Generated traffic that is kept, by its seed: a sweep comes back to each. */
const SEEDS_MAX = 8

export interface TrafficFlags {
  /** Names of traces, separated by commas. */
  readonly trace: string | undefined
  readonly generate: string | undefined
  readonly limit: number
  readonly skipBad: boolean
  /** Clients wait for their answers where they are told to, and where only so many may be there. */
  readonly closedLoop?: boolean
  readonly clients?: number
  readonly engine: keyof typeof presets
  /** One way between balancer and worker. */
  readonly networkMs: number
}

/** The names of recorded traffic. */
export const tracesOf = ({ trace }: TrafficFlags): ReadonlyArray<string> =>
  trace === undefined ? [] : trace.split(",").map((name) => name.trim())

/** Fails where a trace can be read but once, as what comes from another command. Standard input is kept. */
export const checkReadAgain = Effect.fnUntraced(function* (
  flags: TrafficFlags
): Effect.fn.Return<void, CliFailure, Shell> {
  const { directory } = yield* Shell
  for (const name of tracesOf(flags)) {
    if (name === STANDARD_INPUT) continue
    // What is not there says so where it is read.
    const there = yield* Effect.promise(() => stat(resolve(directory, name)).catch(() => undefined))
    if (there?.isFIFO() !== true) continue
    return yield* misused(
      `--trace: ${name} is a pipe, which can be read but once, and each of several threads reads it, as does --report. Send it to standard input: zcat trace.gz | bun run simulate --trace -`
    )
  }
})

/** What people are told of the traffic by. */
export const trafficName = (flags: TrafficFlags): string =>
  flags.generate ?? tracesOf(flags).map(saidOf).join(",")

/** The traffic that was asked for, at any speed: what was recorded is the same for all seeds. */
export const trafficOf = Effect.fnUntraced(function* (
  flags: TrafficFlags
): Effect.fn.Return<(seed: number, speed: number) => Workload, CliFailure, Shell> {
  const { generate, limit, trace } = flags
  if (trace !== undefined && generate !== undefined)
    return yield* misused("--trace and --generate both say what the traffic is: give one of them.")
  if (trace !== undefined) {
    const traces = yield* Effect.forEach(tracesOf(flags), (name) => readTrace(name, flags))
    if (traces.every(({ requests }) => requests.length === 0))
      return yield* misused(`${trafficName(flags)} has no requests.`)
    const recorded = looped(workloadOf(traces), flags)
    return (_, speed) => faster(recorded, speed)
  }
  if (generate === undefined)
    return yield* misused("What is the traffic? Give --trace FILE, or --generate rate=20 to make some up.")
  const traffic = generatedTraffic(generate)
  if (typeof traffic === "string") return yield* misused(`--generate: ${traffic}`)
  const requests = Math.min(limit, traffic.requests)
  const made = memoized(SEEDS_MAX, (seed: number) =>
    looped(workloadOf([generateTraffic({ ...traffic, requests, seed })]), flags)
  )
  return (seed, speed) => faster(made(seed), speed)
})

/** Whether clients wait for their answers, so that these say how fast requests come. */
export const clientsWait = ({ clients = Number.POSITIVE_INFINITY, closedLoop }: TrafficFlags): boolean =>
  closedLoop === true || clients < Number.POSITIVE_INFINITY

/**
 * With clients that wait, where that is asked for. What was made up has its think times; of what was recorded they are often not known, and
 * then answers are taken to have come as fast as those of an idle worker do.
 */
const looped = (workload: Workload, flags: TrafficFlags): Workload => {
  const { clients: clientsMax = Number.POSITIVE_INFINITY, engine, networkMs, trace } = flags
  if (!clientsWait(flags)) return workload
  if (trace === undefined) return closedLoop(workload, { clientsMax })
  const workers = [{ name: "alone", preset: presets[engine] }]
  const { tpotMs, ttftMs } = boundsOf({ workload, workers, networkMs })
  const answerMs = (number: number): number => {
    const further = workload.requests[number]!.outputTokens - 1
    const ms = ttftMs[number]! + (further > 0 ? further * tpotMs[number]! : 0)
    // Some fit nowhere.
    return Number.isFinite(ms) ? ms : 0
  }
  return closedLoop(workload, { clientsMax, answerMs })
}
