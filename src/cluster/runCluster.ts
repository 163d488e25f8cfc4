import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Config } from "../domain/Config.ts"
import { logging } from "../observability/Logging.ts"
import { announce } from "./announce.ts"
import type { CliFailure } from "./cli/CliFailure.ts"
import type { Shell } from "./cli/Shell.ts"
import { type RunningBalancer, startBalancer } from "./startBalancer.ts"
import { startCluster } from "./startCluster.ts"

/** Starts, says that it is up, and runs until it is interrupted. */
const running =
  (start: (config: Config) => Effect.Effect<RunningBalancer, CliFailure, Scope.Scope>) =>
  (config: Config, json: boolean): Effect.Effect<void, CliFailure, Shell> =>
    Effect.gen(function* () {
      const balancer = yield* start(config)
      yield* announce(config, balancer, json)
      return yield* balancer.ended
    }).pipe(Effect.scoped, Effect.provide(logging(config.log)))

/** Runs balancer, pool managers, autoscaler, workers and HTTP listener until it is interrupted; then drains them. */
export const runCluster = running(startCluster)

/** Runs a balancer without workers of its own until it is interrupted; then drains it. */
export const runBalancer = running((config) =>
  Effect.tap(startBalancer(config), ({ drain }) => Effect.addFinalizer(() => drain))
)
