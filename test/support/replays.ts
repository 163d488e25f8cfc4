import * as fc from "fast-check"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import type { PipelineChoice } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import type { ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

const chosen = (policy: string, options = {}) => ({ policy, options })

/** Pipelines that use every part of the core: each alone is enough, what they do together is not the point. */
const pipeline: fc.Arbitrary<PipelineChoice> = fc.record({
  admission: fc.constantFrom(
    [],
    [chosen("queue-bounds", { maxQueued: 3 })],
    [chosen("slo-feasible"), chosen("kv-headroom")]
  ),
  ordering: fc.constantFrom("arrival", "virtual-token-counter", "shortest-job").map((name) => chosen(name)),
  batching: fc.constantFrom("none", "same-turn", "window").map((name) => chosen(name)),
  placement: fc
    .constantFrom("random", "round-robin", "least-connections", "prefix-locality", "predicted-completion")
    .map((name) => chosen(name)),
  rescue: fc.constantFrom(
    [],
    [chosen("steal", { guard: 0 })],
    [chosen("requeue-stragglers", { after: 50, budget: 1 })],
    [chosen("hedge", { after: 20, budget: 1, tokenBudget: 1, saturation: 1 })]
  ),
  pendingTokensMax: fc.constantFrom(undefined, 2048)
})

/** Some seconds of traffic at few small workers: some wait, some are refused, caches overflow, and now and then nothing happens. */
export const replays: fc.Arbitrary<ReplayOptions> = fc
  .record({
    seed: fc.nat(1000),
    requests: fc.integer({ min: 1, max: 40 }),
    requestsPerSecond: fc.constantFrom(1, 8, 100),
    promptTokens: fc.constantFrom(100, 3000),
    outputTokens: fc.constantFrom(1, 20),
    pipeline,
    slowFactors: fc.array(fc.constantFrom(1, 1, 2, 20), { minLength: 1, maxLength: 4 }),
    kvCapacityTokens: fc.constantFrom(6000, 100_000),
    capacity: fc.constantFrom(2, 256),
    maxNumSeqs: fc.constantFrom(1, 64),
    networkMs: fc.constantFrom(0, 0.5, 30),
    heartbeatMs: fc.constantFrom(20, 250),
    requestTimeoutMs: fc.constantFrom(300, 60_000)
  })
  .map(
    ({
      capacity,
      kvCapacityTokens,
      maxNumSeqs,
      outputTokens,
      promptTokens,
      requests,
      requestsPerSecond,
      slowFactors,
      ...rest
    }) => ({
      ...rest,
      workload: workloadOf([
        generateTraffic({
          seed: rest.seed,
          requests,
          requestsPerSecond,
          promptTokens: { mean: promptTokens, variation: 0.7 },
          outputTokens: { mean: outputTokens, variation: 0.5 },
          tenants: { count: 2, skew: 1 },
          sharedPrefix: { count: 2, tokens: 1024, share: 0.5 },
          sessions: { share: 0.3, turns: 3, thinkMs: 300 }
        })
      ]),
      workers: slowFactors.map((slowFactor, i) => ({
        name: `worker-${i}`,
        preset: presets["8b-h100"],
        slowFactor,
        speed: 1 / slowFactor,
        capacity,
        kvCapacityTokens,
        maxNumSeqs
      }))
    })
  )

const roles = ["prefill", "decode", "both"] as const
const splitting = chosen("disaggregated", { threshold: 1, bandwidth: 1_000_000 })

/** The same with some requests read by one worker and answered by another, where there are two. */
export const split = ({ pipeline, workers, ...rest }: ReplayOptions): ReplayOptions => ({
  ...rest,
  pipeline: { ...pipeline, placement: splitting },
  workers:
    workers.length < 2 ? workers : workers.map((worker, i) => ({ ...worker, role: roles[i % roles.length]! }))
})
