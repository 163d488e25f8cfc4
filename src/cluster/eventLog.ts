import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SupervisionEvent } from "../actors/runtime/Supervisor.ts"
import { systemTimers, type Timers } from "../protocol/Timers.ts"
import { counted } from "../structures/counted.ts"
import { LineLimit } from "./LineLimit.ts"

/** What the synchronous parts of a process tell its log. */
export interface EventLog {
  readonly violation: (kind: string, hint: string) => void
  readonly defect: (error: unknown) => void
  readonly supervision: (event: SupervisionEvent) => void
  /** As `BalancerHostOptions.workerSeen`. */
  readonly worker: (worker: string, gone?: string, code?: string) => void
  /** Broken protocol rules so far, by kind. */
  readonly violations: ReadonlyMap<string, number>
  /** Restarts by supervisors so far, by child. */
  readonly restarts: ReadonlyMap<string, number>
}

/** One line per kind of broken rule in so long a time: a hostile peer must not fill the log. */
const QUIET_MS = 10_000

/** Turns events into counts and log lines of the fiber that made it. */
export const eventLog = Effect.fnUntraced(function* (timers: Timers = systemTimers) {
  const fork = Effect.runForkWith(yield* Effect.context())
  const violations = new Map<string, number>()
  const restarts = new Map<string, number>()
  const saidMs = new Map<string, number>()
  const violation = (kind: string, hint: string): void => {
    violations.set(kind, (violations.get(kind) ?? 0) + 1)
    const nowMs = timers.nowMs()
    if (nowMs - (saidMs.get(kind) ?? -QUIET_MS) < QUIET_MS) return
    saidMs.set(kind, nowMs)
    fork(Effect.logWarning(`a peer broke the protocol: ${hint}`).pipe(Effect.annotateLogs({ kind })))
  }
  const defect = (error: unknown): void => {
    fork(Effect.logError("a connection was cut because of a defect", Cause.die(error)))
  }
  const supervision = (event: SupervisionEvent): void => {
    const { supervisor, child, exit } = event
    if (event._tag === "Restarted") restarts.set(child, (restarts.get(child) ?? 0) + 1)
    const why =
      exit !== undefined && Exit.isFailure(exit) ? `: ${Cause.pretty(exit.cause).split("\n")[0]}` : ""
    const line = `${child} ${verbs[event._tag]}${why}`
    const level = isOrderly(event) ? Effect.logInfo : levels[event._tag]
    fork(level(line).pipe(Effect.annotateLogs({ supervisor })))
  }
  /** Says of workers what is important to one degree. */
  const teller = (level: (line: string) => Effect.Effect<void>): ((name: string, line: string) => void) => {
    const limit = new LineLimit(timers, (lines) =>
      fork(level(`left out: ${counted(lines, "more line")} about workers that come and go`))
    )
    return (name, line) => {
      if (limit.allows(name)) fork(level(line))
    }
  }
  const orderly = teller(Effect.logDebug)
  const alarming = teller(Effect.logWarning)
  const worker = (name: string, gone?: string, code?: string): void => {
    const line = `worker ${name} ${gone === undefined ? "is connected" : `is gone: ${gone}`}`
    const wasExpected = gone === undefined || code === "done" || code === "drain"
    const tell = wasExpected ? orderly : alarming
    tell(name, line)
  }
  return { violation, defect, supervision, worker, violations, restarts } satisfies EventLog
})

const verbs: Readonly<Record<SupervisionEvent["_tag"], string>> = {
  Started: "started",
  Restarted: "was restarted",
  StartFailed: "could not be started",
  Ended: "ended",
  Stopped: "stopped",
  Abandoned: "did not stop and was abandoned",
  Escalated: "failed too often"
}

/** A child that was done and left. */
const isOrderly = ({ _tag, exit }: SupervisionEvent): boolean =>
  _tag === "Ended" && exit !== undefined && Exit.isSuccess(exit)

/** What goes well is said to those who ask. */
const levels: Readonly<Record<SupervisionEvent["_tag"], (line: string) => Effect.Effect<void>>> = {
  Started: Effect.logDebug,
  Restarted: Effect.logInfo,
  StartFailed: Effect.logWarning,
  Ended: Effect.logWarning,
  Stopped: Effect.logDebug,
  Abandoned: Effect.logWarning,
  Escalated: Effect.logError
}
