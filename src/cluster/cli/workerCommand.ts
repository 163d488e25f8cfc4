import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Command, Flag } from "effect/cli"
import { formatAddress } from "../../client/address.ts"
import { randomU32 } from "../../client/randomU32.ts"
import type { Assignment } from "../../domain/config/assign.ts"
import { loadConfig } from "../loadConfig.ts"
import { misused } from "./CliFailure.ts"
import { configFlag, identityFlag, jsonFlag, textFlag } from "./flags.ts"
import { engineFlags } from "./optionFlag.ts"
import { configuredOptions } from "./WorkerOptions.ts"

/** `parallax worker`: one worker in this process, which dials a balancer. */
export const workerCommand = Command.make(
  "worker",
  {
    config: configFlag,
    json: jsonFlag("one line when the worker is ready"),
    name: identityFlag("Name of the worker, unique in the cluster. Default: worker- and random digits."),
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
    // It does not listen, so that the rules for who does are not its own.
    const load = (flags: ReadonlyArray<Assignment>) => loadConfig({ file, flags, insecure: true })
    const { models } = (yield* load([])).config
    const at = modelName === undefined ? 0 : models.findIndex(({ name }) => name === modelName)
    if (at === -1)
      return yield* misused(`--model must be one of ${models.map(({ name }) => name).join(", ")}.`)
    // Engine flags are written for the first model; they belong to the one that is served.
    const flags = Object.values(engine).flat()
    const { config } = yield* load(
      flags.map((flag) => ({ ...flag, keys: ["models", String(at), ...flag.keys.slice(2)] }))
    )
    const credential = config.auth.workers[0]
    const { runWorker } = yield* Effect.promise(() => import("../runWorker.ts"))
    yield* runWorker({
      ...configuredOptions(config, config.models[at]!),
      // Not the process id: in containers that is often the same.
      name: name ?? `worker-${randomU32().toString(16)}`,
      role,
      address: address ?? formatAddress(config.listen),
      owned: false,
      json,
      credential: credential && Redacted.value(credential)
    })
  })
).pipe(
  Command.withDescription(
    "Run one worker, until Ctrl-C. It serves a model of the configuration for the balancer at --address."
  )
)
