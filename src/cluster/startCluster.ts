import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { startAutoscaler } from "../actors/Autoscaler.ts"
import { processLauncher, type WorkerCommand } from "../actors/Launcher.ts"
import { supervise } from "../actors/runtime/Supervisor.ts"
import type { Config, ModelConfig } from "../domain/Config.ts"
import type { CliFailure } from "./cli/CliFailure.ts"
import { ownedCommand } from "./cli/WorkerOptions.ts"
import { type RunningBalancer, startBalancer } from "./startBalancer.ts"

/** A cluster whose workers are all ready. */
export interface RunningCluster extends RunningBalancer {
  readonly workers: number
}

/** Restarts of worker processes within 30 s that are taken calmly: their delays grow, and a model without workers says so by itself. */
const RESTARTS_MAX = 10_000
const READY_LOOK_MS = 10
/** A worker may drain as long as the cluster does, and then has this long to leave. */
const LEAVE_MS = 2_000

/**
 * Starts a cluster that lives as long as the scope: balancer, HTTP listener, and the worker processes of this machine. Succeeds when all
 * workers are ready. Closing the scope drains it: no new requests, those in flight end, then workers, listener and balancer stop.
 */
export const startCluster = Effect.fnUntraced(function* (
  config: Config
): Effect.fn.Return<RunningCluster, CliFailure, Scope.Scope> {
  const balancer = yield* startBalancer(config)
  const workers = yield* Effect.orDie(
    supervise({
      id: "workers",
      strategy: "oneForOne",
      children: [],
      intensity: RESTARTS_MAX,
      onEvent: balancer.onEvent
    })
  )
  const models = new Map(config.models.map((model) => [model.name, model]))
  const autoscaler = yield* startAutoscaler({
    dispatcher: balancer.dispatcher,
    workers,
    launcher: processLauncher,
    command: (model, index) => workerCommand(config, models.get(model)!, index, balancer.tcp),
    restartAfterMs: config.scaling.restartAfterMs,
    restartAtMostMs: config.scaling.restartAtMostMs,
    shutdownMs: config.drain.timeoutMs + LEAVE_MS
  })
  yield* Effect.addFinalizer(() => balancer.drain)
  for (const model of config.models)
    autoscaler.tell({ _tag: "Target", model: model.name, count: model.workers })
  const complete = () => config.models.every(({ name, workers }) => balancer.host.readyCount(name) >= workers)
  while (!complete()) yield* Effect.sleep(READY_LOOK_MS)
  return { ...balancer, workers: config.models.reduce((sum, model) => sum + model.workers, 0) }
})

const workerCommand = (config: Config, model: ModelConfig, index: number, address: string): WorkerCommand => {
  const credential = config.auth.workers[0]
  return ownedCommand({
    name: `${model.name}-${index}`,
    model: model.name,
    address,
    credential: credential === undefined ? undefined : Redacted.value(credential),
    engine: model.engine,
    heartbeatMs: config.failure.heartbeatMs,
    drainTimeoutMs: config.drain.timeoutMs,
    frameBytes: config.limits.frameBytes,
    log: config.log
  })
}
