import * as Effect from "effect/Effect"
import type { Config } from "../domain/Config.ts"
import type { CliFailure } from "./cli/CliFailure.ts"
import type { Shell } from "./cli/Shell.ts"
import { logging } from "../observability/Logging.ts"
import { announce } from "./announce.ts"
import { startCluster } from "./startCluster.ts"

/** Runs balancer, pool managers, autoscaler, workers and HTTP listener until it is interrupted; then drains them. */
export const runCluster = (options: {
  readonly config: Config
  readonly flags: { readonly json: boolean }
}): Effect.Effect<void, CliFailure, Shell> =>
  Effect.scoped(
    Effect.gen(function* () {
      const cluster = yield* startCluster(options.config)
      yield* announce(options, cluster, cluster.workers)
      return yield* cluster.ended
    })
  ).pipe(Effect.provide(logging(options.config.log)))
