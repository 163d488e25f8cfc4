import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { startBalancerNode } from "../actors/BalancerNode.ts"
import { RETRY_BUDGET } from "../actors/BalancerState.ts"
import { Dispatcher } from "../actors/runtime/Dispatcher.ts"
import type { Config } from "../domain/Config.ts"
import { DemandMeter } from "../policies/DemandMeter.ts"
import { makePipeline } from "../policies/pipelines.ts"
import { bunTransport } from "../protocol/BunTransport.ts"
import type { ConnectionContext } from "../protocol/Connection.ts"
import { gate } from "../protocol/credentials.ts"
import { defaultLimits } from "../protocol/Limits.ts"
import { systemTimers } from "../protocol/Timers.ts"
import { Turn } from "../protocol/Turn.ts"
import { makeRng } from "../structures/Rng.ts"
import { formatAddress } from "../client/address.ts"
import { randomU32 } from "../client/randomU32.ts"
import { unbound } from "./cli/CliFailure.ts"
import type { EventLog } from "./eventLog.ts"
import { followsLoad } from "./followsLoad.ts"
import { heartbeatMsOf } from "./heartbeatMsOf.ts"
import { startRecording } from "./recording.ts"
import { secretsOf } from "./secretsOf.ts"

/** Long request frames held in total, workers, and streams of one connection: bounds that need no option. */
const HELD_BYTES_MAX = 512 * 1024 * 1024
const WORKERS_MAX = 1024
const STREAMS_MAX = 16_384

/** A balancer with its pool managers and its listener, as the configuration says. It ends with the scope. */
export const startNode = Effect.fnUntraced(function* (config: Config, log: EventLog) {
  const timers = systemTimers
  const turn = new Turn()
  const dispatcher = new Dispatcher(turn, timers.nowMs)
  const limits = {
    ...defaultLimits,
    frameBytes: config.limits.frameBytes,
    outboxBytes: config.limits.outboxBytes
  }
  const context: ConnectionContext = { turn, timers, limits, violation: log.violation, defect: log.defect }
  const { timeScale, seed = randomU32() } = config.cluster
  let pools = 0
  const meters = new Map(
    config.models
      .filter((model) => followsLoad(config, model))
      .map(({ name }) => [name, new DemandMeter(timers.nowMs() * timeScale)])
  )
  const wallMs = yield* Clock.currentTimeMillis
  // Ends after the node, whose last requests it has then heard of.
  const recording = yield* startRecording(config)
  const node = yield* startBalancerNode({
    host: {
      name: config.cluster.name,
      incarnation: randomU32(),
      // Seconds. Two processes may share one: what the first was about does not outlive its connections.
      epoch: Math.floor(wallMs / 1000) >>> 0,
      timeScale,
      context,
      models: config.models.map(({ name }) => name),
      pipeline: (model) => {
        const pipeline = makePipeline(config.pipeline, makeRng(seed + pools++))
        const meter = meters.get(model)
        meter?.restarted(timers.nowMs() * timeScale)
        return meter === undefined ? pipeline : { ...pipeline, admissions: [meter, ...pipeline.admissions] }
      },
      usesPrefixes: makePipeline(config.pipeline, makeRng(seed)).usesPrefixes,
      blockTokens: config.prefixes.blockTokens,
      prefixBytesMax: config.prefixes.bytes,
      salt: prefixSalt(config),
      weightOf: (tenant) => config.tenants.find(({ name }) => name === tenant)?.weight ?? 1,
      gate: gate({
        client: yield* secretsOf(config, "client"),
        worker: yield* secretsOf(config, "worker"),
        admin: yield* secretsOf(config, "admin")
      }),
      requestsMax: config.limits.requests,
      heldBytesMax: HELD_BYTES_MAX,
      workersMax: WORKERS_MAX,
      streamsMax: STREAMS_MAX,
      requestTimeoutMs: config.limits.requestTimeoutMs,
      attemptsMax: config.retry.attempts,
      retryBudget: RETRY_BUDGET,
      decisions: keptDecisions(config),
      faultsEnabled: config.faults.enabled,
      workerSeen: log.worker,
      recorder: recording.recorder
    },
    dispatcher,
    transport: bunTransport,
    listenHost: config.listen.host,
    listenPort: config.listen.port,
    connectionsMax: config.limits.connections,
    heartbeatMs: heartbeatMsOf(config),
    suspectMs: config.failure.suspectAfterMs,
    lostMs: config.failure.lostAfterMs,
    onEvent: log.supervision
  }).pipe(
    Effect.catchTags({
      BindFailed: (error) => unbound(error, "--port"),
      Escalated: (escalated) => Effect.die(escalated)
    })
  )
  return { ...node, dispatcher, meters, recording, address: formatAddress(node.server) }
})

/** The same with what was made for it. */
export type RunningNode = Effect.Success<ReturnType<typeof startNode>>

/** Of how many requests decisions are kept, if of any. */
const keptDecisions = ({ observability: { decisions: kept }, pipeline: choice }: Config) =>
  kept === 0 ? undefined : { kept, choice }

/** The configured one, or one that nobody can guess. */
const prefixSalt = ({ prefixes: { salt } }: Config): string =>
  salt[0] === undefined ? `${randomU32()}-${randomU32()}-${randomU32()}` : Redacted.value(salt[0])
