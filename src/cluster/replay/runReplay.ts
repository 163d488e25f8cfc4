import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AdminConnection, type Client, connect, connectAdmin } from "../../client/index.ts"
import type { Assignment } from "../../domain/config/assign.ts"
import type { BalancerSnapshot } from "../../domain/Snapshot.ts"
import type { Targets } from "../../policies/pipelines.ts"
import { attempt, opened } from "../cli/attempt.ts"
import { type CliFailure, failed, misused } from "../cli/CliFailure.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { write, Shell } from "../cli/Shell.ts"
import { readAddress } from "../readAddress.ts"
import { readTrace, saidOf } from "../readTrace.ts"
import { SLOW_START_MS } from "../../policies/estimators/SlowStart.ts"
import { agreement, without } from "./agreement.ts"
import { comparison, type Comparison, pathOf } from "./comparison.ts"
import { inVirtualTime, type LiveReplay, nudged } from "./inVirtualTime.ts"
import { Journal, type Sent } from "./Journal.ts"
import { type ReplayReport, reportText } from "./report.ts"
import { sendTrace } from "./sendTrace.ts"
import { Tally } from "./Tally.ts"
import { ownTarget, runningTarget } from "./target.ts"

export interface ReplayFlags {
  readonly trace: string
  /** `host:port` of a running cluster; left out for one of our own. */
  readonly address: string | undefined
  readonly config: string | undefined
  readonly speed: number
  readonly timeScale: number
  readonly limit: number
  readonly skipBad: boolean
  readonly model: string | undefined
  /** In ms of trace time; Infinity for no target. */
  readonly sloTtft: number
  readonly sloTpot: number
  /** Settings of a cluster of our own. */
  readonly options: ReadonlyArray<Assignment>
  /** Whether the same requests are replayed in virtual time too, to be compared. */
  readonly againstReplay: boolean
  readonly json: boolean
}

/** Workers report their counters with a heartbeat: how often we look, and how long we wait for the last one. */
const COUNTERS_POLL_MS = 100
const COUNTERS_WAIT_MS = 3_000
/** Replays that tell what differs by chance. */
const NUDGED = 8

/** Replays a trace and reports. Fails when nothing was answered, or when the workers' own counters tell another story. */
export const runReplay = Effect.fnUntraced(function* (
  flags: ReplayFlags
): Effect.fn.Return<void, CliFailure, Shell | Scope.Scope> {
  const shell = yield* Shell
  const { speed, timeScale } = flags
  const trace = yield* readTrace(flags.trace, flags)
  if (trace.requests.length === 0) return yield* misused(`${saidOf(flags.trace)} has no requests.`)
  if (flags.againstReplay && flags.address !== undefined)
    return yield* misused(
      "--against-replay is for a cluster started for the purpose, whose configuration is known: leave --address out."
    )
  if (flags.address !== undefined) {
    yield* readAddress(flags.address)
    const given = [
      ...(flags.config === undefined ? [] : ["--config"]),
      ...flags.options.map(({ origin }) => origin)
    ]
    if (given.length > 0)
      return yield* misused(
        `${given.join(", ")}: for a cluster started for the purpose. The one at ${flags.address} is configured already: leave this out, or --address.`
      )
  }
  const own =
    flags.address === undefined
      ? yield* ownTarget({ config: flags.config, flags: flags.options, timeScale })
      : undefined
  if (flags.againstReplay && own!.config.models.length > 1)
    return yield* misused("--against-replay is for a configuration with one model.")
  const target = own ?? runningTarget(flags.address!, shell)
  const { address } = target
  const client = yield* opened(() => connect({ address, credential: target.client }))
  const admin = yield* opened(() => connectAdmin({ address, credential: target.admin }))
  const modelOf = yield* modelChoice(client, flags.model)
  const slo = { ttftMs: flags.sloTtft, tpotMs: flags.sloTpot }
  const tally = new Tally(timeScale, slo)
  const journal = flags.againstReplay ? new Journal(timeScale) : undefined

  const first = yield* attempt(() => admin.snapshot())
  if (first.timeScale !== timeScale)
    return yield* misused(
      `The cluster at ${address} runs at time scale ${first.timeScale}: give --time-scale ${first.timeScale}, or start it with cluster.timeScale and engine.timeScale of ${timeScale}.`
    )
  const counted = counters(admin, first)
  // Virtual time begins when no worker is spared any more for having joined.
  if (journal !== undefined) yield* Effect.sleep(SLOW_START_MS / timeScale)
  yield* sendTrace({ client, trace, modelOf, compression: speed * timeScale, tally, journal, shell })
  const figures = yield* counted(tally)
  const workers = Object.keys(figures.workers)
  const report: ReplayReport = {
    trace: trace.header.name,
    speed,
    timeScale,
    ...figures,
    againstReplay: journal === undefined ? null : against({ ...own!, journal, trace, workers }, slo)
  }

  yield* write(flags.json ? jsonLine(report) : `${reportText(report)}\n`)
  if (report.done === 0) return yield* failed("No request was answered.")
  if (!report.agreement.equal)
    return yield* failed("The workers' own counters differ from the answers that arrived.")
}, Effect.scoped)

const against = (
  { journal, ...live }: Omit<LiveReplay, "hopMs" | "sent"> & { readonly journal: Journal },
  slo: Targets
): Comparison => {
  const { pathsMs, seen, sent } = journal
  const path = pathOf(pathsMs)
  const { hopMs } = path
  const replayed = (as: ReadonlyArray<Sent>) => inVirtualTime({ ...live, sent: as, hopMs })
  const others = Array.from({ length: NUDGED }, (_, i) => replayed(nudged(sent, hopMs, i)))
  return comparison(path, seen, replayed(sent), others, slo)
}

/** Which served model a request goes to: the one it was recorded with, where it is served. */
const modelChoice = Effect.fnUntraced(function* (
  { models: served }: Client,
  asked: string | undefined
): Effect.fn.Return<(recorded: string | undefined) => string, CliFailure> {
  const model = asked ?? served[0]
  if (model === undefined) return yield* failed("The cluster serves no model.")
  if (!served.includes(model)) return yield* misused(`--model must be one of ${served.join(", ")}.`)
  return (recorded) => (recorded !== undefined && served.includes(recorded) ? recorded : model)
})

/**
 * What compares the workers' counters with those of the `first` snapshot: when they agree, or had every chance to. Those of a cluster that
 * is gone by then are lost with it.
 */
const counters = (admin: AdminConnection, first: BalancerSnapshot) => {
  const before = without(first, first)
  return Effect.fnUntraced(function* (tally: Tally) {
    for (let waitedMs = 0; ; waitedMs += COUNTERS_POLL_MS) {
      const last = yield* Effect.orElseSucceed(
        attempt(() => admin.snapshot()),
        (): BalancerSnapshot => ({ ...before, workers: [] })
      )
      const after = without(first, last)
      const isGone = after.workers.length === 0
      const figures = tally.figures((isGone ? before : after).workers.map(({ name }) => name))
      const found = agreement(figures, before, after)
      const isSettled = found.equal && found.surplus.length === 0 && found.lost.length === 0
      if (isSettled || isGone || waitedMs >= COUNTERS_WAIT_MS) return { ...figures, agreement: found }
      yield* Effect.sleep(COUNTERS_POLL_MS)
    }
  })
}
