import { saltOf } from "../../actors/BalancerHost.ts"
import type { Config, ModelConfig } from "../../domain/Config.ts"
import { Reason } from "../../domain/Outcome.ts"
import type { Trace } from "../../domain/Trace.ts"
import { presets } from "../../engines/simulated/CostModel.ts"
import { replay } from "../../simulator/replay/Replay.ts"
import type { ReplayWorkerOptions } from "../../simulator/replay/ReplayWorker.ts"
import { workloadOf } from "../../simulator/replay/Workload.ts"
import { tpotMsOf, ttftMsOf } from "../../simulator/report/figuresOf.ts"
import { makeRng } from "../../structures/Rng.ts"
import { heartbeatMsOf } from "../heartbeatMsOf.ts"
import { roleIn } from "../workerNames.ts"
import { type Seen, type Sent, unanswered } from "./Journal.ts"

/** A live replay that is over, through a cluster of one model. */
export interface LiveReplay {
  readonly config: Config
  /** Of the configuration: what it draws at random, and what keeps tenants apart. */
  readonly seed: number
  readonly salt: string
  readonly trace: Trace
  readonly sent: ReadonlyArray<Sent>
  /** Names, in the order of their slots. */
  readonly workers: ReadonlyArray<string>
  /** What a message takes from one process to the next. */
  readonly hopMs: number
}

/** What becomes of the same requests, sent at the same moments, in virtual time. */
export const inVirtualTime = (live: LiveReplay): ReadonlyArray<Seen> => {
  const { config, hopMs, salt, seed, sent, trace, workers } = live
  const { cluster, limits, models, pipeline, prefixes, retry, tenants } = config
  const workload = workloadOf([trace], (tenant) => saltOf(salt, tenant))
  const requests = workload.requests.map((request, number) => {
    const { atMs, id } = sent[number]!
    return { ...request, arrivalMs: atMs, id }
  })
  const { outcomes } = replay({
    workload: { ...workload, requests },
    workers: workers.map((name) => workerOf(models[0]!, name)),
    pipeline,
    seed,
    networkMs: hopMs,
    heartbeatMs: heartbeatMsOf(config) * cluster.timeScale,
    requestTimeoutMs: limits.requestTimeoutMs,
    prefixBytesMax: prefixes.bytes,
    attemptsMax: retry.attempts,
    weightOf: (tenant) => tenants.find(({ name }) => name === tenant)?.weight ?? 1
  })
  // The client is one hop from the balancer.
  const awayMs = 2 * hopMs
  return requests.map((request, number): Seen => {
    const { promptTokens } = request
    if (outcomes.reasons[number] !== Reason.none) return { ...unanswered, promptTokens }
    return {
      worker: workers[outcomes.workers[number]!],
      ttftMs: ttftMsOf(outcomes, number) + awayMs,
      tpotMs: tpotMsOf(outcomes, number, request),
      e2eMs: outcomes.endedMs[number]! - outcomes.arrivedMs[number]! + awayMs,
      promptTokens,
      cachedTokens: outcomes.cachedTokens[number]!
    }
  })
}

/** The same requests in the same order, each up to `byMs` later: as good a live replay as the one there was. */
export const nudged = (sent: ReadonlyArray<Sent>, byMs: number, seed: number): ReadonlyArray<Sent> => {
  const rng = makeRng(seed)
  let lastMs = 0
  return sent.map(({ atMs, id }) => {
    lastMs = Math.max(lastMs, atMs + byMs * rng.next())
    return { atMs: lastMs, id }
  })
}

const workerOf = ({ engine, name: model }: ModelConfig, name: string): ReplayWorkerOptions => {
  const { batchTokens, capacity, faults, kvCapacityTokens, maxSequences, preset, transferGbps } = engine
  return {
    name,
    role: roleIn(model, name),
    preset: presets[preset as keyof typeof presets],
    slowFactor: faults.slowFactor,
    maxNumSeqs: maxSequences,
    maxBatchedTokens: batchTokens,
    capacity: capacity ?? 2 * maxSequences,
    transferGbps,
    kvCapacityTokens
  }
}
