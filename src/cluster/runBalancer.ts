import * as Effect from "effect/Effect"
import type { Config } from "../domain/Config.ts"
import type { CliFailure } from "./cli/CliFailure.ts"
import type { Shell } from "./cli/Shell.ts"
import { logging } from "../observability/Logging.ts"
import { announce } from "./announce.ts"
import { startBalancer } from "./startBalancer.ts"

/** Runs a balancer without workers of its own until it is interrupted; then drains it. */
export const runBalancer = (options: {
  readonly config: Config
  readonly flags: { readonly json: boolean }
}): Effect.Effect<void, CliFailure, Shell> =>
  Effect.scoped(
    Effect.gen(function* () {
      const balancer = yield* startBalancer(options.config)
      yield* Effect.addFinalizer(() => balancer.drain)
      yield* announce(options, balancer, 0)
      return yield* balancer.ended
    })
  ).pipe(Effect.provide(logging(options.config.log)))
