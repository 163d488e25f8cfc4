import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Config } from "../../domain/Config.ts"
import type { Assignment } from "../../domain/config/assign.ts"
import { type CliFailure, misused } from "../cli/CliFailure.ts"
import { credentialIn } from "../cli/credentialIn.ts"
import type { Shell, Surroundings } from "../cli/Shell.ts"

/** A cluster to replay through, and the credentials it wants. */
export interface Target {
  /** `host:port`. */
  readonly address: string
  readonly client: string | undefined
  readonly admin: string | undefined
}

/** One of our own, whose configuration we know, whatever policies are to draw at random and mix into prefixes included. */
export interface OwnTarget extends Target {
  readonly config: Config
  readonly seed: number
  readonly salt: string
}

/** A cluster that runs; the credentials are those of the environment. */
export const runningTarget = (address: string, shell: Surroundings): Target => ({
  address,
  client: credentialIn(shell, "CLIENTS"),
  admin: credentialIn(shell, "ADMINS")
})

/** Of a cluster of our own, where the configuration states none. */
const SEED = 1
const SALT = "parallax-replay-live"

/** A cluster for the purpose, configured as usual but on free ports and with time at `timeScale`. It ends with the scope. */
export const ownTarget = Effect.fnUntraced(function* (options: {
  readonly config: string | undefined
  readonly flags: ReadonlyArray<Assignment>
  readonly timeScale: number
}): Effect.fn.Return<OwnTarget, CliFailure, Shell | Scope.Scope> {
  const { loadConfig } = yield* Effect.promise(() => import("../loadConfig.ts"))
  const { startCluster } = yield* Effect.promise(() => import("../startCluster.ts"))
  const free = (key: string): Assignment => ({ keys: ["listen", key], value: 0, origin: "replay-live" })
  const load = (scaled: ReadonlyArray<Assignment>) =>
    loadConfig({ file: options.config, flags: [...options.flags, free("port"), free("httpPort"), ...scaled] })
  // Which models there are to scale is known only once the configuration is read.
  const { cluster, models, prefixes } = (yield* load([])).config
  if (models.some((model) => model.workers + Math.min(model.prefillWorkers, model.decodeWorkers) === 0))
    return yield* misused(
      "A cluster started for a replay needs workers for each model: set --workers to 1 or more."
    )
  const seed = cluster.seed ?? SEED
  const salt = prefixes.salt[0] === undefined ? SALT : Redacted.value(prefixes.salt[0])
  const scale = (...keys: ReadonlyArray<string>): Assignment => ({
    keys: [...keys, "timeScale"],
    value: options.timeScale,
    origin: "--time-scale"
  })
  const { config } = yield* load([
    scale("cluster"),
    ...models.map((_, index) => scale("models", String(index), "engine")),
    { keys: ["cluster", "seed"], value: seed, origin: "replay-live" },
    { keys: ["prefixes", "salt"], value: [salt], origin: "replay-live" }
  ])
  const { tcp } = yield* startCluster(config)
  const [client, admin] = [config.auth.clients[0], config.auth.admins[0]]
  return {
    address: tcp,
    client: client && Redacted.value(client),
    admin: admin && Redacted.value(admin),
    config,
    seed,
    salt
  }
})
