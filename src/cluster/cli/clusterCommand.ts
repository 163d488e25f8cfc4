import * as Effect from "effect/Effect"
import { Command } from "effect/cli"
import { loadConfig } from "../loadConfig.ts"
import { configFlag, insecureFlag, jsonFlag } from "./flags.ts"
import { optionFlag } from "./optionFlag.ts"

const listening = {
  config: configFlag,
  json: jsonFlag("one line when everything is ready"),
  port: optionFlag("port", "listen.port"),
  httpPort: optionFlag("http-port", "listen.httpPort"),
  record: optionFlag("record", "record.directory"),
  insecure: insecureFlag
}

/** `parallax cluster`: everything on this machine. */
export const clusterCommand = Command.make(
  "cluster",
  { ...listening, workers: optionFlag("workers", "models[0].workers") },
  Effect.fnUntraced(function* ({ config: file, json, port, httpPort, insecure, record, workers }) {
    const flags = [...port, ...httpPort, ...record, ...workers]
    const { config } = yield* loadConfig({ file, insecure, flags })
    const { runCluster } = yield* Effect.promise(() => import("../runCluster.ts"))
    yield* runCluster(config, json)
  })
).pipe(
  Command.withDescription(
    "Run a balancer, the workers of this machine and the HTTP listener, until Ctrl-C. --workers counts for the first model."
  ),
  Command.withExamples([
    { command: "bun run cluster", description: "One balancer and four simulated workers" },
    { command: "bun run cluster --port 0 --http-port 0 --json", description: "On free ports, for scripts" }
  ])
)

/** `parallax balancer`: without workers, which are started elsewhere. */
export const balancerCommand = Command.make(
  "balancer",
  listening,
  Effect.fnUntraced(function* ({ config: file, json, port, httpPort, insecure, record }) {
    const { config } = yield* loadConfig({ file, insecure, flags: [...port, ...httpPort, ...record] })
    const { runBalancer } = yield* Effect.promise(() => import("../runCluster.ts"))
    yield* runBalancer(config, json)
  })
).pipe(Command.withDescription("Run a balancer alone, until Ctrl-C. Workers are started elsewhere."))
