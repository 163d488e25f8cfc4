import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { restartDelays, type ScaledModel, startAutoscaler } from "../actors/Autoscaler.ts"
import { processLauncher, type WorkerCommand } from "../actors/Launcher.ts"
import { supervise, type Supervisor } from "../actors/runtime/Supervisor.ts"
import { randomU32 } from "../client/randomU32.ts"
import type { Config, ModelConfig } from "../domain/Config.ts"
import type { DemandMeter } from "../policies/DemandMeter.ts"
import { findScaling } from "../policies/registry.ts"
import { scaledTimers, systemTimers } from "../protocol/Timers.ts"
import { makeRng } from "../structures/Rng.ts"
import { nodeCredential } from "../protocol/credentials.ts"
import { type CliFailure, failed } from "./cli/CliFailure.ts"
import { configuredOptions, ownedCommand } from "./cli/WorkerOptions.ts"
import { workerNameOf } from "./workerNames.ts"
import { type RunningBalancer, startBalancer } from "./startBalancer.ts"

/**
 * Restarts within 30 s that are taken calmly, of worker processes and of the autoscaler: their delays grow, a model without workers says
 * so by itself, and the workers there are serve on without an autoscaler.
 */
const RESTARTS_MAX = 10_000
const READY_LOOK_MS = 10
/** A worker may drain as long as the cluster does, and then has this long to leave. */
const LEAVE_MS = 2_000

/**
 * Starts a cluster that lives as long as the scope: balancer, HTTP listener, and the worker processes of this machine. Succeeds when all
 * workers are ready, and fails when a supervisor gives up before. Closing the scope drains it: no new requests, those in flight end, then
 * workers, listener and balancer stop.
 */
export const startCluster = Effect.fnUntraced(function* (
  config: Config
): Effect.fn.Return<RunningBalancer, CliFailure, Scope.Scope> {
  const balancer = yield* startBalancer(config)
  const { dispatcher, host, onEvent } = balancer
  const models = new Map(config.models.map((model) => [model.name, model]))
  const scaled = config.models.flatMap((model) =>
    scaledModels(config, model, balancer.meters.get(model.name))
  )
  let workers: Supervisor | undefined
  const workersSpec = Effect.map(
    supervise({
      id: "workers",
      strategy: "oneForOne",
      children: [],
      // Or each that hangs would add its time to the stop of the cluster.
      stopsTogether: true,
      intensity: RESTARTS_MAX,
      onEvent
    }),
    (supervisor) => {
      workers = supervisor
      return supervisor.process
    }
  )
  const autoscaler = Effect.suspend(() =>
    startAutoscaler({
      host,
      dispatcher,
      timers: scaledTimers(systemTimers, config.cluster.timeScale),
      workers: workers!,
      launcher: processLauncher,
      models: scaled,
      command: (model, role, index) => workerCommand(config, models.get(model)!, role, index, balancer.tcp),
      periodMs: config.scaling.periodMs,
      restartAfterMs: config.scaling.restartAfterMs,
      restartAtMostMs: config.scaling.restartAtMostMs,
      startWithinMs: config.scaling.startWithinMs,
      timeScale: config.cluster.timeScale,
      drainMs: config.limits.requestTimeoutMs,
      shutdownMs: config.drain.timeoutMs + LEAVE_MS
    })
  )
  const machine = yield* Effect.orDie(
    supervise({
      id: "machine",
      strategy: "restForOne",
      children: [
        { id: "workers", start: workersSpec, shutdown: "infinity" },
        {
          id: "autoscaler",
          start: autoscaler,
          backoff: restartDelays(config.scaling.restartAfterMs, config.scaling.restartAtMostMs)
        }
      ],
      intensity: RESTARTS_MAX,
      onEvent
    })
  )
  yield* Effect.addFinalizer(() => balancer.drain)
  const complete = () => scaled.every(({ name, role, least }) => host.readyCount(name, role) >= least)
  const ended = Effect.raceFirst(
    balancer.ended,
    Effect.catchTag(machine.join, "Escalated", () =>
      failed("The autoscaler failed too often and gave up; the log says why.")
    )
  )
  const allReady = Effect.gen(function* () {
    while (!complete()) yield* Effect.sleep(READY_LOOK_MS)
  })
  yield* Effect.raceFirst(allReady, ended)
  return { ...balancer, workers: scaled.reduce((sum, { least }) => sum + least, 0), ended }
})

/** The workers of one model, by what they do of its requests; of those for one part there are always as many. */
const scaledModels = (
  { pipeline }: Config,
  { name, workers, workersMax = workers, prefillWorkers, decodeWorkers }: ModelConfig,
  demand: DemandMeter | undefined
): ReadonlyArray<ScaledModel> => {
  const { policy, options } = pipeline.scaling
  const scaling = () => findScaling(policy).make(options, makeRng(randomU32()))
  return [
    { name, role: "both", least: workers, most: workersMax, elastic: demand && { scaling, demand } },
    { name, role: "prefill", least: prefillWorkers, most: prefillWorkers },
    { name, role: "decode", least: decodeWorkers, most: decodeWorkers }
  ]
}

const workerCommand = (
  config: Config,
  model: ModelConfig,
  role: ScaledModel["role"],
  index: number,
  address: string
): WorkerCommand => {
  const secret = config.auth.workers[0]
  const name = workerNameOf(model.name, role, index)
  return ownedCommand({
    ...configuredOptions(config, model),
    name,
    role,
    address,
    credential: secret && nodeCredential(Redacted.value(secret), { role: "worker", identity: name })
  })
}
