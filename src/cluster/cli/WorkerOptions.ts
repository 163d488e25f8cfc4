import type { WorkerCommand } from "../../actors/Launcher.ts"
import type { Config, EngineConfig, ModelConfig } from "../../domain/Config.ts"
import type { Register } from "../../protocol/Message.ts"
import { heartbeatMsOf } from "../heartbeatMsOf.ts"

/** All that one worker process must know. Plain data, so that a parent can hand it over as JSON. */
export interface WorkerOptions {
  /** Unique in the cluster, and the same after a restart. */
  readonly name: string
  readonly model: string
  /** What it does of its model's requests. */
  readonly role: Register["role"]
  /** `host:port` of the balancer. */
  readonly address: string
  /** Whether a parent started it, without which it has no reason to live: it leaves when its standard input ends. */
  readonly owned: boolean
  /** Whether one line says on standard output that it is ready. */
  readonly json: boolean
  readonly credential: string | undefined
  readonly engine: EngineConfig
  readonly heartbeatMs: number
  /** Silence after which the balancer gives it up. */
  readonly lostMs: number
  readonly drainTimeoutMs: number
  readonly log: Config["log"]
}

/** What a worker of `model` takes over from the configuration, whoever starts it. */
export const configuredOptions = (config: Config, { engine, name }: ModelConfig) =>
  ({
    model: name,
    engine,
    heartbeatMs: heartbeatMsOf(config),
    lostMs: config.failure.lostAfterMs,
    drainTimeoutMs: config.drain.timeoutMs,
    log: config.log
  }) satisfies Partial<WorkerOptions>

/** Where a parent puts the options of a worker it starts: an environment variable, since a command line is public. */
const VARIABLE = "PARALLAX_WORKER"

/** The command that starts an owned worker, and what to add to its environment. */
export const ownedCommand = (options: Omit<WorkerOptions, "owned" | "json">): WorkerCommand => ({
  name: options.name,
  command: [process.execPath, new URL("../main.ts", import.meta.url).pathname, "worker", "--owned"],
  env: { [VARIABLE]: JSON.stringify({ ...options, owned: true, json: false }) }
})

/** The options a parent handed over, as it wrote them; `undefined` when there are none. */
export const readOwned = (
  environment: Readonly<Record<string, string | undefined>>
): WorkerOptions | undefined => {
  const text = environment[VARIABLE]
  // Written by `ownedCommand` of the same build.
  return text === undefined ? undefined : (JSON.parse(text) as WorkerOptions)
}
