import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { AdminConnection } from "../../client/index.ts"
import { didYouMean } from "../../domain/config/Option.ts"
import type { WorkerSnapshot } from "../../domain/Snapshot.ts"
import { counted } from "../../structures/counted.ts"
import { attempt } from "./attempt.ts"
import { type CliFailure, failed, misused } from "./CliFailure.ts"
import { jsonLine } from "./jsonLine.ts"
import { type AdminFlags, openAdmin } from "./openAdmin.ts"
import { type Shell, write } from "./Shell.ts"

export interface DrainFlags extends AdminFlags {
  readonly worker: string
  readonly wait: boolean
  readonly json: boolean
}

/** How often we look, and how long: longer than requests live by default. */
const LOOK_MS = 250
const WAIT_MS = 15 * 60_000

/** Has a worker drain and says how many requests it has left; with `wait`, when it has none. Fails when it still has some then. */
export const runDrain = Effect.fnUntraced(function* ({
  json,
  wait,
  worker,
  ...reach
}: DrainFlags): Effect.fn.Return<void, CliFailure, Shell | Scope.Scope> {
  const admin = yield* openAdmin(reach)
  const drained = yield* connected(admin, worker)
  yield* attempt(() => admin.drainWorker(worker))
  const look = Effect.map(
    attempt(() => admin.snapshot()),
    ({ workers }) => inFlightOf(drained, workers)
  )
  let left = yield* look
  if (!json)
    yield* write(
      `${worker} drains: ${left === 0 ? "it has no requests" : `${counted(left, "request")} to finish`}.\n`
    )
  if (wait && left > 0) {
    const repeated = Effect.repeat(look, {
      until: (count) => count === 0,
      schedule: Schedule.spaced(LOOK_MS)
    })
    left = yield* Effect.timeoutOrElse(repeated, { duration: WAIT_MS, orElse: () => look })
    if (left === 0 && !json) yield* write(`${worker} has finished.\n`)
  }
  if (json) yield* write(jsonLine({ worker, inFlight: left }))
  if (wait && left > 0)
    return yield* failed(
      `${worker} still has ${counted(left, "request")} after ${WAIT_MS / 60_000} minutes. It goes on draining.`
    )
}, Effect.scoped)

/** The connected worker of this name. */
const connected = Effect.fnUntraced(function* (
  admin: AdminConnection,
  worker: string
): Effect.fn.Return<WorkerSnapshot, CliFailure> {
  const { workers } = yield* attempt(() => admin.snapshot())
  const there = workers.filter(({ state }) => state !== "lost")
  const found = there.find(({ name }) => name === worker)
  if (found !== undefined) return found
  const names = there.map(({ name }) => name).toSorted()
  const known = names.length === 0 ? "There are none." : `There are ${names.join(", ")}.`
  return yield* misused(`No worker called "${worker}" is connected. ${didYouMean(worker, names) ?? known}`)
})

/** Requests that it has, while it is there: one that has come anew under its name is another worker. */
const inFlightOf = ({ incarnation, name }: WorkerSnapshot, workers: ReadonlyArray<WorkerSnapshot>): number =>
  workers.find((worker) => worker.name === name && worker.incarnation === incarnation)?.inFlight ?? 0
