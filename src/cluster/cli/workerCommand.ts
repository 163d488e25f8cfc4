import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Command, Flag } from "effect/cli"
import { identityPattern } from "../../domain/identity.ts"
import { heartbeatMsOf } from "../heartbeatMsOf.ts"
import { loadConfig } from "../loadConfig.ts"
import { misused } from "./CliFailure.ts"
import { configFlag, jsonFlag, textFlag } from "./flags.ts"
import { engineFlags } from "./optionFlag.ts"

/** `parallax worker`: one worker in this process, which dials a balancer. */
export const workerCommand = Command.make(
  "worker",
  {
    config: configFlag,
    json: jsonFlag("one line when the worker is ready"),
    name: textFlag("name", "Name of the worker, unique in the cluster. Default: worker- and the process id."),
    model: textFlag("model", "Model to serve, one of the configuration. Default: its first."),
    address: textFlag(
      "address",
      "Address of the balancer. Default: listen.host and listen.port of the configuration.",
      "host:port"
    ),
    role: Flag.Literals("role", ["both", "prefill", "decode"]).pipe(
      Flag.withDescription(
        "What it does: whole requests, or one part of split ones: reading prompts, or producing answers."
      ),
      Flag.withDefault("both")
    ),
    engine: engineFlags()
  },
  Effect.fnUntraced(function* ({ config: file, json, name, model: modelName, address, role, engine }) {
    if (name !== undefined && !identityPattern.test(name))
      return yield* misused(
        "--name must be 1 to 128 letters, digits and . _ : @ / -, beginning with a letter or digit."
      )
    const flags = Object.values(engine).flat()
    const first = yield* loadConfig({ file, flags })
    const at = modelName === undefined ? 0 : first.config.models.findIndex(({ name }) => name === modelName)
    if (at === -1)
      return yield* misused(
        `--model must be one of ${first.config.models.map(({ name }) => name).join(", ")}.`
      )
    // Engine flags are written for the first model; they belong to the one that is served.
    const moved = flags.map((flag) => ({ ...flag, keys: ["models", String(at), ...flag.keys.slice(2)] }))
    const { config } = at === 0 ? first : yield* loadConfig({ file, flags: moved })
    const { name: model, engine: engineConfig } = config.models[at]!
    const credential = config.auth.workers[0]
    const { runWorker } = yield* Effect.promise(() => import("../runWorker.ts"))
    yield* runWorker({
      name: name ?? `worker-${process.pid}`,
      model,
      role,
      address: address ?? `${config.listen.host}:${config.listen.port}`,
      owned: false,
      json,
      credential: credential === undefined ? undefined : Redacted.value(credential),
      engine: engineConfig,
      heartbeatMs: heartbeatMsOf(config),
      drainTimeoutMs: config.drain.timeoutMs,
      frameBytes: config.limits.frameBytes,
      log: config.log
    })
  })
).pipe(
  Command.withDescription(
    "Run one worker, until Ctrl-C. It serves a model of the configuration for the balancer at --address."
  )
)
