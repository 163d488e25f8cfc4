import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Assignment } from "../../domain/config/assign.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import type { Shell, Surroundings } from "../cli/Shell.ts"

/** A cluster to replay through, and the credentials it wants. */
export interface Target {
  /** `host:port`. */
  readonly address: string
  readonly client: string | undefined
  readonly admin: string | undefined
}

/** A cluster that runs; the credentials are those of the environment. */
export const runningTarget = (address: string, { environment }: Surroundings): Target => ({
  address,
  client: environment["PARALLAX_AUTH_CLIENTS"]?.split(",")[0],
  admin: environment["PARALLAX_AUTH_ADMINS"]?.split(",")[0]
})

/** A cluster for the purpose, configured as usual but on free ports and with engines at `timeScale`. It ends with the scope. */
export const ownTarget = Effect.fnUntraced(function* (options: {
  readonly config: string | undefined
  readonly flags: ReadonlyArray<Assignment>
  readonly timeScale: number
}): Effect.fn.Return<Target, CliFailure, Shell | Scope.Scope> {
  const { loadConfig } = yield* Effect.promise(() => import("../loadConfig.ts"))
  const { startCluster } = yield* Effect.promise(() => import("../startCluster.ts"))
  const free = (key: string): Assignment => ({ keys: ["listen", key], value: 0, origin: "replay-live" })
  const load = (scaled: ReadonlyArray<Assignment>) =>
    loadConfig({ file: options.config, flags: [...options.flags, free("port"), free("httpPort"), ...scaled] })
  // Which models there are to scale is known only once the configuration is read.
  const { models } = (yield* load([])).config
  if (models.some((model) => model.workers + Math.min(model.prefillWorkers, model.decodeWorkers) === 0))
    return yield* misused(
      "A cluster started for a replay needs workers for each model: set --workers to 1 or more."
    )
  const scaled = models.map((_, index) => ({
    keys: ["models", String(index), "engine", "timeScale"],
    value: options.timeScale,
    origin: "--time-scale"
  }))
  const { config } = yield* load(scaled)
  const { tcp } = yield* startCluster(config)
  const [client, admin] = [config.auth.clients[0], config.auth.admins[0]]
  return {
    address: tcp,
    client: client && Redacted.value(client),
    admin: admin && Redacted.value(admin)
  }
})
