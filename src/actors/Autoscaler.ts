import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Launcher, WorkerCommand } from "./Launcher.ts"
import { spawn } from "./runtime/Cell.ts"
import type { Dispatcher } from "./runtime/Dispatcher.ts"
import type { Supervisor } from "./runtime/Supervisor.ts"

/** How many worker processes of a model are wanted on this machine. */
export interface AutoscalerMessage {
  readonly _tag: "Target"
  readonly model: string
  readonly count: number
}

export interface AutoscalerOptions {
  readonly dispatcher: Dispatcher
  /** Keeps the worker processes alive. */
  readonly workers: Supervisor
  readonly launcher: Launcher
  /** How to start worker number `index` of a model; its name is the same for the same number. */
  readonly command: (model: string, index: number) => WorkerCommand
  /** Wait before a worker that ended is started again: doubled each time, up to the longest. */
  readonly restartAfterMs: number
  readonly restartAtMostMs: number
  /** How long a worker may drain before it is killed. */
  readonly shutdownMs: number
}

const MAILBOX_CAPACITY = 64

/**
 * The actor that has as many worker processes run as are wanted: it starts missing ones, lets its supervisor restart those that end, and
 * drains the highest numbers when there are too many.
 */
export const startAutoscaler = (options: AutoscalerOptions) => {
  const { launcher, workers } = options
  const counts = new Map<string, number>()
  const backoff = Schedule.min([
    Schedule.exponential(options.restartAfterMs, 2),
    Schedule.spaced(options.restartAtMostMs)
  ])

  const start = (model: string, index: number) => {
    const command = options.command(model, index)
    return workers.startChild({
      id: command.name,
      start: launcher.launch(command),
      shutdown: options.shutdownMs,
      backoff
    })
  }
  const stop = (model: string, index: number) => workers.stopChild(options.command(model, index).name)
  const scale = Effect.fnUntraced(function* ({ model, count }: AutoscalerMessage) {
    for (let running = counts.get(model) ?? 0; running < count; running++) {
      yield* start(model, running)
      counts.set(model, running + 1)
    }
    for (let running = counts.get(model) ?? 0; running > count; running--) {
      yield* stop(model, running - 1)
      counts.set(model, running - 1)
    }
  })
  return Effect.sync(() =>
    spawn<AutoscalerMessage>({
      id: "autoscaler",
      capacity: MAILBOX_CAPACITY,
      dispatcher: options.dispatcher,
      receive: scale
    })
  )
}
