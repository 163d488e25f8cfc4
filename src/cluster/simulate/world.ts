import * as Effect from "effect/Effect"
import { didYouMean } from "../../domain/config/Option.ts"
import type { PolicyChoice } from "../../domain/config/pipeline.ts"
import { DURATION_RULE, parseDuration } from "../../domain/config/duration.ts"
import { TRANSFER_GBPS } from "../../engines/simulated/CostModel.ts"
import { scalings } from "../../policies/registry.ts"
import type { Crash, SlowDown } from "../../simulator/replay/faults.ts"
import { HEARTBEAT_MS, NETWORK_MS } from "../../simulator/replay/Replay.ts"
import type { Roles, World } from "../../simulator/report/ground.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { optionsOf } from "./contenders.ts"
import type { TrafficFlags } from "./traffic.ts"
import { type WeightFlags, weightsOf } from "./weights.ts"

/** What is said of the workers and of the world around them. */
export interface WorldFlags extends WeightFlags {
  readonly workers: number
  /** How many of them do one part of requests, and what the network gives to one hand-over between them. */
  readonly roles: string | undefined
  readonly transferGbps: number | undefined
  /** Infinite where the engine says it. */
  readonly kvTokens: number
  readonly networkMs: number
  readonly heartbeatMs: number
  /** Lists of what befalls workers. */
  readonly crash: string | undefined
  readonly lose: string | undefined
  readonly slow: string | undefined
  /** A policy that decides how many workers there are, up to how many, and how long one takes to start. */
  readonly scale: string | undefined
  readonly workersMax: number | undefined
  readonly coldStart: string | undefined
}

type SaidFlags = WorldFlags & Pick<TrafficFlags, "clients" | "closedLoop" | "limit">

/** How long a worker takes to start where nothing is said. */
const COLD_START = "30s"

/** Workers there may be. */
export const mostWorkers = ({ workers, workersMax = workers }: WorldFlags): number =>
  Math.max(workers, workersMax)

/** What was said of it and is not usual, by the names of the flags. */
export const worldFacts = (flags: SaidFlags): Readonly<Record<string, unknown>> => {
  const { clients, closedLoop, coldStart, heartbeatMs, kvTokens, limit, networkMs, roles, scale } = flags
  const said = {
    limit: finite(limit),
    roles,
    transferGbps: roles === undefined ? undefined : (flags.transferGbps ?? TRANSFER_GBPS),
    kvTokens: finite(kvTokens),
    networkMs: networkMs === NETWORK_MS ? undefined : networkMs,
    heartbeatMs: heartbeatMs === HEARTBEAT_MS ? undefined : heartbeatMs,
    crash: flags.crash,
    lose: flags.lose,
    slow: flags.slow,
    scale,
    workersMax: flags.workersMax,
    coldStart: scale === undefined ? undefined : (coldStart ?? COLD_START),
    weights: flags.weights,
    closedLoop: closedLoop === true ? true : undefined,
    clients: finite(clients)
  }
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined))
}

/** A flag that is infinite where it is not given. */
const finite = (count = Number.POSITIVE_INFINITY): number | undefined =>
  Number.isFinite(count) ? count : undefined

/** The same, as it was said. */
export const worldTexts = (flags: SaidFlags): ReadonlyArray<string> =>
  Object.entries(worldFacts(flags)).map(([name, value]) => {
    const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
    return value === true ? flag : `${flag} ${String(value)}`
  })

/** What they say, as a replay is told it. */
export const worldOf = Effect.fnUntraced(function* (flags: WorldFlags): Effect.fn.Return<World, CliFailure> {
  const { heartbeatMs, networkMs } = flags
  const crashes = [...(yield* crashesOf(flags, "crash")), ...(yield* crashesOf(flags, "lose"))]
  const slowDowns = yield* slowDownsOf(flags)
  const scaling = yield* scalingOf(flags)
  const weights = yield* weightsOf(flags)
  const weightOf = (tenant: string): number => weights.get(tenant) ?? 1
  return { networkMs, heartbeatMs, crashes, slowDowns, scaling, weightOf }
})

const roleForm = /^(prefill|decode)=([1-9]\d*)$/

/** How many workers do one part of requests, where some do. Who reads prompts needs somebody who writes the answers, and the reverse. */
export const rolesOf = ({
  roles,
  scale,
  transferGbps,
  workers
}: WorldFlags): Effect.Effect<Roles | undefined, CliFailure> => {
  if (roles === undefined)
    return transferGbps === undefined
      ? Effect.undefined
      : misused(
          "--transfer-gbps is for --roles: say who reads and who writes, as in --roles prefill=1,decode=1."
        )
  const items = itemsOf(roles)
  const counts = new Map(
    items.map((item) => {
      const [, role, count] = roleForm.exec(item) ?? []
      return [role, Number(count)]
    })
  )
  const [prefill = Number.NaN, decode = Number.NaN] = [counts.get("prefill"), counts.get("decode")]
  // Without one that does both, a policy would see no load that it could scale by.
  const most = scale === undefined ? workers : workers - 1
  return items.length === 2 && prefill + decode <= most
    ? Effect.succeed({ prefill, decode })
    : misused(
        `--roles: "${roles}" must be prefill=count,decode=count, each at least 1 and together at most ${most}, as in prefill=1,decode=${Math.max(1, most - 1)}: --workers is ${workers}${scale === undefined ? "" : ", and --scale needs one that does both"}.`
      )
}

const SECOND_MS = 1_000
const number = String.raw`(\d+(?:\.\d+)?)`
const crashForm = new RegExp(String.raw`^(\d+)@${number}(?:\+${number})?$`)
const slowForm = new RegExp(String.raw`^(\d+)@${number}-${number}\*${number}$`)

const crashesOf = (
  flags: WorldFlags,
  flag: "crash" | "lose"
): Effect.Effect<ReadonlyArray<Crash>, CliFailure> =>
  Effect.forEach(itemsOf(flags[flag]), (item) => {
    const [, worker, at, gone] = crashForm.exec(item) ?? []
    const most = mostWorkers(flags)
    if (worker === undefined || Number(worker) >= most)
      return misused(
        `--${flag}: "${item}" must be worker@second, and +seconds where the worker comes back after so many, as in ${most - 1}@60+30. ${countText(most)}`
      )
    return Effect.succeed({
      worker: Number(worker),
      atMs: SECOND_MS * Number(at),
      goneMs: gone === undefined ? undefined : SECOND_MS * Number(gone),
      silent: flag === "lose"
    })
  })

const slowDownsOf = (flags: WorldFlags): Effect.Effect<ReadonlyArray<SlowDown>, CliFailure> =>
  Effect.forEach(itemsOf(flags.slow), (item) => {
    const [worker = Number.NaN, from, to, factor] = (slowForm.exec(item)?.slice(1) ?? []).map(Number)
    const most = mostWorkers(flags)
    if (!(worker < most && from! < to! && factor! >= 1))
      return misused(
        `--slow: "${item}" must be worker@second-second*factor, the factor at least 1, as in ${most - 1}@30-90*4. ${countText(most)}`
      )
    return Effect.succeed({ worker, fromMs: SECOND_MS * from!, toMs: SECOND_MS * to!, factor: factor! })
  })

const itemsOf = (list = ""): ReadonlyArray<string> =>
  list === "" ? [] : list.split(",").map((item) => item.trim())

const countText = (most: number): string =>
  most === 1 ? "The only worker is 0." : `Workers are counted from 0 to ${most - 1}.`

const scalingOf = ({
  coldStart,
  scale,
  workers,
  workersMax
}: WorldFlags): Effect.Effect<World["scaling"], CliFailure> => {
  if (scale === undefined) {
    if (workersMax === undefined && coldStart === undefined) return Effect.undefined
    const flag = workersMax === undefined ? "--cold-start" : "--workers-max"
    return misused(`${flag} is for --scale: say which policy decides, as in --scale queue-driven.`)
  }
  if (workersMax === undefined || workersMax < workers)
    return misused(
      `--scale: give --workers-max as well, at least as many as --workers, as in --workers-max ${2 * workers}.`
    )
  const policy = scalingChoice(scale)
  if (typeof policy === "string") return misused(`--scale: ${policy}`)
  const coldStartMs = parseDuration(coldStart ?? COLD_START)
  if (coldStartMs === undefined) return misused(`--cold-start: "${coldStart}" ${DURATION_RULE}.`)
  return Effect.succeed({ policy, least: workers, coldStartMs })
}

/** A policy with options behind it, such as `queue-driven:drain=10s`, or what is wrong with it. */
const scalingChoice = (text: string): PolicyChoice | string => {
  const [name = "", ...settings] = text.split(":")
  const entry = scalings.find((each) => each.name === name)
  if (entry === undefined) {
    const known = scalings.map((each) => each.name)
    return `"${name}" is no scaling policy. ${didYouMean(name, known) ?? `There are ${known.join(", ")}.`}`
  }
  const options = optionsOf(entry, settings)
  return typeof options === "string" ? options : { policy: name, options }
}
