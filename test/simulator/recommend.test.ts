import { describe, expect, test } from "bun:test"
import { type TrafficSummary, summarize } from "../../src/domain/Traffic.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../../src/policies/pipelines.ts"
import { type FleetSummary, recommend } from "../../src/policies/recommend.ts"
import { generateTraffic, type TrafficOptions } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

interface Case {
  readonly traffic: Omit<TrafficOptions, "seed">
  readonly slowFactors: ReadonlyArray<number>
  readonly latencyTarget?: boolean
  readonly preset: string
  /** What a rule of thumb would say, and how many times its figure ours may be. */
  readonly instead: string
  readonly ratio: number
}

const fourEqual = [1, 1, 1, 1]

/** Rates are such that workers are busy and keep up. */
const cases: Readonly<Record<string, Case>> = {
  "alike requests on two equal workers": {
    traffic: {
      requests: 2000,
      requestsPerSecond: 14,
      promptTokens: { mean: 500, variation: 0.2 },
      outputTokens: { mean: 200, variation: 0.3 }
    },
    slowFactors: [1, 1],
    preset: "simple",
    instead: "round-robin",
    ratio: 1.2
  },
  "prompts of very different lengths": {
    traffic: {
      requests: 2000,
      requestsPerSecond: 10,
      promptTokens: { mean: 4000, variation: 2 },
      outputTokens: { mean: 200, variation: 1 }
    },
    slowFactors: fourEqual,
    preset: "default",
    instead: "least-connections",
    ratio: 0.75
  },
  "long prompts": {
    traffic: {
      requests: 800,
      requestsPerSecond: 1.3,
      promptTokens: { mean: 20_000, variation: 2 },
      outputTokens: { mean: 300, variation: 1 }
    },
    slowFactors: fourEqual,
    preset: "default",
    instead: "round-robin",
    ratio: 0.75
  },
  "prompts that begin alike": {
    traffic: {
      requests: 2000,
      requestsPerSecond: 30,
      promptTokens: { mean: 500, variation: 1 },
      outputTokens: { mean: 200, variation: 1 },
      sharedPrefix: { count: 40, tokens: 8192, share: 1 }
    },
    slowFactors: [...fourEqual, ...fourEqual],
    preset: "default",
    instead: "session-affinity",
    ratio: 0.75
  },
  conversations: {
    traffic: {
      requests: 2000,
      requestsPerSecond: 25,
      promptTokens: { mean: 800, variation: 1 },
      outputTokens: { mean: 300, variation: 1 },
      sessions: { share: 1, turns: 8, thinkMs: 20_000 }
    },
    slowFactors: [...fourEqual, ...fourEqual],
    preset: "default",
    instead: "least-connections",
    ratio: 0.75
  },
  "workers of unequal speed": {
    traffic: {
      requests: 2000,
      requestsPerSecond: 30,
      promptTokens: { mean: 2000, variation: 0.2 },
      outputTokens: { mean: 200, variation: 0.3 }
    },
    slowFactors: [1, 1, 1, 1, 2, 2, 0.5, 0.5],
    preset: "default",
    instead: "round-robin",
    ratio: 0.75
  }
}

/** Shares of requests that are done, and of those whose first token came within 5 s, and the mean time to first token of the former. */
const served = (
  traffic: TrafficOptions,
  slowFactors: ReadonlyArray<number>,
  pipeline: PipelineChoice
): { readonly share: number; readonly inTime: number; readonly ttftMs: number } => {
  const workload = workloadOf([generateTraffic(traffic)])
  const workers = slowFactors.map((slowFactor, i) => ({
    name: `worker-${i}`,
    preset: presets["8b-h100"],
    slowFactor,
    speed: 1 / slowFactor
  }))
  const { outcomes } = replay({ workload, workers, pipeline, seed: 1 })
  const waits = [...outcomes.arrivedMs.keys()]
    .filter((i) => outcomes.reasons[i] === 0)
    .map((i) => outcomes.firstMs[i]! - outcomes.arrivedMs[i]!)
  return {
    share: waits.length / workload.requests.length,
    inTime: waits.filter((wait) => wait <= 5000).length / workload.requests.length,
    ttftMs: waits.reduce((sum, wait) => sum + wait, 0) / waits.length
  }
}

describe("what is recommended", () => {
  test.each(Object.entries(cases))("for %s is not behind the rule of thumb", (_, one) => {
    const traffic = { ...one.traffic, seed: 7 }
    const fleet: FleetSummary = {
      workers: one.slowFactors.length,
      speedRatio: Math.max(...one.slowFactors) / Math.min(...one.slowFactors),
      latencyTarget: one.latencyTarget ?? false
    }
    const { pipeline, preset, reasons } = recommend(summarize(generateTraffic(traffic)), fleet)
    expect(preset as string).toBe(one.preset)
    expect(reasons.length).toBeGreaterThan(0)
    const thumb = { ...pipeline, placement: { policy: one.instead, options: {} }, rescue: [] }
    const ours = served(traffic, one.slowFactors, pipeline)
    const theirs = served(traffic, one.slowFactors, thumb)
    expect(ours.ttftMs / theirs.ttftMs).toBeLessThan(one.ratio)
    expect(ours.share).toBeGreaterThan(theirs.share - 0.03)
  })

  test.each([
    ["a tenant that crowds others", { tenants: { count: 4, skew: 2 } }, false],
    ["a latency target", {}, true]
  ] as const)(
    "for %s serves no fewer in time than another preset, when there is too much",
    (_, more, latencyTarget) => {
      const traffic = {
        requests: 3000,
        requestsPerSecond: 80,
        promptTokens: { mean: 2000, variation: 1 },
        outputTokens: { mean: 200, variation: 1 },
        seed: 7,
        ...more
      }
      const { pipeline } = recommend(summarize(generateTraffic(traffic)), {
        workers: 4,
        speedRatio: 1,
        latencyTarget
      })
      const ours = served(traffic, fourEqual, pipeline).inTime
      for (const preset of Object.values(pipelines))
        expect(ours).toBeGreaterThanOrEqual(served(traffic, fourEqual, choiceOf(preset)).inTime)
    }
  )

  const alike: TrafficSummary = {
    requestsPerSecond: 10,
    meanPromptTokens: 500,
    promptTokensP99: 800,
    promptVariation: 0.2,
    meanOutputTokens: 200,
    repeatedShare: 0,
    tenants: 1,
    largestTenantShare: 1,
    models: 1
  }
  const fleet: FleetSummary = { workers: 4, speedRatio: 1, latencyTarget: false }

  test.each([
    [
      "a tenant that crowds others",
      { tenants: 5, largestTenantShare: 0.8 },
      {},
      "default",
      "predicted-completion"
    ],
    ["a latency target", {}, { latencyTarget: true }, "default", "predicted-completion"],
    ["a thousand workers", { promptVariation: 2 }, { workers: 1000 }, "default", "prequal"],
    ["a thousand workers for alike requests", {}, { workers: 1000 }, "simple", "power-of-two"],
    ["several models", { models: 3 }, {}, "simple", "power-of-two"]
  ] as const)("for %s follows from the figures", (_, traffic, workers, preset, placement) => {
    const found = recommend({ ...alike, ...traffic }, { ...fleet, ...workers })
    expect(found.preset).toBe(preset)
    expect(found.pipeline.placement.policy).toBe(placement)
    for (const reason of found.reasons) expect(reason).toMatch(/\.$/)
  })
})
