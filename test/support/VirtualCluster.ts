import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { startBalancer } from "../../src/actors/Balancer.ts"
import { RETRY_BUDGET } from "../../src/actors/BalancerState.ts"
import { BalancerHost } from "../../src/actors/BalancerHost.ts"
import { startPoolManager } from "../../src/actors/PoolManager.ts"
import { Dispatcher } from "../../src/actors/runtime/Dispatcher.ts"
import { FailureDetector } from "../../src/actors/runtime/FailureDetector.ts"
import { Worker } from "../../src/actors/Worker.ts"
import { Client } from "../../src/client/Client.ts"
import { Journal } from "../../src/cluster/replay/Journal.ts"
import { openLoop } from "../../src/cluster/replay/openLoop.ts"
import { heartbeatMsOf } from "../../src/cluster/heartbeatMsOf.ts"
import { workerNameOf } from "../../src/cluster/workerNames.ts"
import type { Config } from "../../src/domain/Config.ts"
import { limitOf, type Trace } from "../../src/domain/Trace.ts"
import { traceChain } from "../../src/domain/traceChain.ts"
import { SimulatedEngine } from "../../src/engines/SimulatedEngine.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { makePipeline } from "../../src/policies/pipelines.ts"
import { openGate } from "../../src/protocol/credentials.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { serve } from "../../src/protocol/Server.ts"
import type { Register } from "../../src/protocol/Message.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { VirtualWorld } from "../client/support/VirtualWorld.ts"

/** A clock with a last digit cannot wait for less than that. */
const LAST_DIGIT_MS = 1e-9

/**
 * A live cluster, its client included, but for time and the network: balancer, pool managers, workers with their engines and links as they
 * are, in one virtual world in which a message takes `hopMs` from one process to the next. All times are in trace time, which passes as
 * many times faster than the world's as the configuration says.
 */
export class VirtualCluster {
  readonly world: VirtualWorld
  readonly host: BalancerHost
  private readonly startedMs: number
  private readonly config: Config
  private readonly client: Client

  constructor(config: Config, seed: number, salt: string, hopMs: number) {
    const { timeScale } = config.cluster
    const world = new VirtualWorld(undefined, hopMs / timeScale)
    const { transport, timers, turn } = world
    const dispatcher = new Dispatcher(turn, timers.nowMs)
    const context = { turn, timers, limits: defaultLimits, violation: unexpected }
    const { limits, pipeline, prefixes, retry } = config
    const heartbeatMs = heartbeatMsOf(config)
    this.world = world
    this.config = config
    this.host = new BalancerHost({
      name: "balancer",
      timeScale,
      incarnation: 1,
      epoch: 1,
      context,
      models: config.models.map(({ name }) => name),
      pipeline: () => makePipeline(pipeline, makeRng(seed)),
      usesPrefixes: makePipeline(pipeline, makeRng(seed)).usesPrefixes,
      blockTokens: prefixes.blockTokens,
      prefixBytesMax: prefixes.bytes,
      salt,
      weightOf: () => 1,
      gate: openGate,
      requestsMax: limits.requests,
      heldBytesMax: 2 ** 29,
      workersMax: 64,
      streamsMax: 16_384,
      requestTimeoutMs: limits.requestTimeoutMs,
      attemptsMax: retry.attempts,
      retryBudget: RETRY_BUDGET,
      faultsEnabled: false,
      poolWanted: (pool, model) => {
        const detector = (nowMs: number) => new FailureDetector(nowMs)
        keep(startPoolManager({ host: this.host, dispatcher, pool, model, detector, checkMs: 250 }))
      }
    })
    this.startedMs = world.nowMs
    keep(startBalancer({ host: this.host, dispatcher }))
    serve({ transport, context, host: "virtual", port: 0, connectionsMax: 64, greet: this.host.greet })
    // Their first heartbeats leave when they have been greeted.
    world.advance(heartbeatMs - 2 * world.hopMs)
    for (const [name, role] of rolesOf(config)) {
      new Worker({
        name,
        incarnation: 1,
        engine: this.engineOf(),
        address: { host: "virtual", port: 7420 },
        transport,
        context,
        role,
        heartbeatMs,
        rng: makeRng(1)
      }).start()
      // One after the other, as processes start.
      world.advance(heartbeatMs / rolesOf(config).length)
    }
    this.client = new Client({ address: "virtual:7420", transport, timers, turn, randomU32: drawing(7) })
    void this.client.open()
  }

  /**
   * Sends the requests of a trace and goes on until all have ended. The first comes to the balancer `afterMs` after this has begun, which
   * should be a whole number of ticks and of heartbeats: there a replay begins.
   */
  play(trace: Trace, afterMs: number): Journal {
    const { world, client, config } = this
    const { timers } = world
    const { timeScale } = config.cluster
    const journal = new Journal(timeScale)
    const { requests } = trace
    const aheadMs = (afterMs - requests[0]!.arrivalMs) / timeScale - world.hopMs
    world.advance(this.startedMs + aheadMs - world.nowMs)
    const ended = new Set<number>()
    openLoop(
      timers,
      requests.map(({ arrivalMs }) => arrivalMs / timeScale),
      (index) => {
        const request = requests[index]!
        const { outputTokens, promptTokens, session, tenant } = request
        let [firstMs, lastMs] = [-1, -1]
        const sentMs = timers.nowMs()
        const { id } = client.start(
          {
            model: config.models[0]!.name,
            prompt: null,
            promptTokens,
            maxTokens: limitOf(request),
            outputTokens,
            chain: traceChain(request, trace.header.blockSize),
            session,
            tenant
          },
          {
            token: () => {
              lastMs = timers.nowMs()
              if (firstMs < 0) firstMs = lastMs
            },
            ended: (ending) => {
              ended.add(index)
              journal.ended(index, request, ending, lastMs - firstMs)
            }
          }
        )
        journal.left(index, id, sentMs)
      }
    )
    while (ended.size < requests.length) world.advance(1000)
    return journal
  }

  private engineOf(): SimulatedEngine {
    const { timers, turn } = this.world
    const { batchTokens, capacity, kvCapacityTokens, maxSequences, preset, timeScale, transferGbps } =
      this.config.models[0]!.engine
    return new SimulatedEngine({
      models: [this.config.models[0]!.name],
      preset: presets[preset as keyof typeof presets],
      maxNumSeqs: maxSequences,
      maxBatchedTokens: batchTokens,
      transferGbps,
      timeScale,
      ...(kvCapacityTokens === undefined ? {} : { kvCapacityTokens }),
      ...(capacity === undefined ? {} : { capacity }),
      clock: {
        nowMs: timers.nowMs,
        after: (delayMs, run) => timers.after(Math.max(delayMs, LAST_DIGIT_MS), run),
        soon: (run) => turn.soon({ run })
      },
      rng: makeRng(1)
    })
  }
}

const rolesOf = ({ models }: Config): ReadonlyArray<readonly [name: string, role: Register["role"]]> => {
  const { decodeWorkers, name, prefillWorkers, workers } = models[0]!
  const named = (role: Register["role"], count: number) =>
    Array.from({ length: count }, (_, index) => [workerNameOf(name, role, index), role] as const)
  return [...named("both", workers), ...named("prefill", prefillWorkers), ...named("decode", decodeWorkers)]
}

const drawing = (seed: number): (() => number) => {
  const rng = makeRng(seed)
  return () => rng.int(2 ** 32)
}

const unexpected = (kind: string, hint: string): never => {
  throw new Error(`${kind}: ${hint}`)
}

const keep = (start: Effect.Effect<unknown, unknown, Scope.Scope>): void =>
  void Effect.runFork(Effect.scoped(Effect.andThen(start, Effect.never)))
