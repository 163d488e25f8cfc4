import { describe, expect, test } from "bun:test"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic, type TrafficOptions } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"
import { mean } from "../../src/structures/mean.ts"

interface Shared {
  readonly workers: number
  readonly sharedPrefix: NonNullable<TrafficOptions["sharedPrefix"]>
  readonly requestsPerSecond: number
}

/** Under the default pipeline: mean times of those that were done of the second half, by when every cache is warm, and their share. */
const served = ({ workers, ...traffic }: Shared, sharedCache: boolean) => {
  const workload = workloadOf([
    generateTraffic({
      ...traffic,
      seed: 1,
      requests: 3000,
      promptTokens: { mean: 500, variation: 1 },
      outputTokens: { mean: 200, variation: 1 }
    })
  ])
  const { outcomes } = replay({
    workload,
    workers: Array.from({ length: workers }, (_, i) => ({ name: `worker-${i}`, preset: presets["8b-h100"] })),
    pipeline: choiceOf(pipelines.default),
    seed: 1,
    sharedCache
  })
  const { arrivedMs, endedMs, firstMs } = outcomes
  const half = [...arrivedMs.keys()].slice(arrivedMs.length / 2)
  const done = half.filter((number) => firstMs[number]! >= 0)
  return {
    ttftMs: mean(done.map((number) => firstMs[number]! - arrivedMs[number]!)),
    e2eMs: mean(done.map((number) => endedMs[number]! - arrivedMs[number]!)),
    done: done.length / half.length
  }
}

/** Followed to where it was first, each of these makes some workers slow while others do nothing. */
describe.each([
  [
    "one short text",
    { workers: 8, requestsPerSecond: 60, sharedPrefix: { count: 1, tokens: 2048, share: 1 } }
  ],
  [
    "four long ones",
    { workers: 16, requestsPerSecond: 20, sharedPrefix: { count: 4, tokens: 20_000, share: 1 } }
  ],
  [
    "one that takes longer to read than a first token may take",
    { workers: 2, requestsPerSecond: 1, sharedPrefix: { count: 1, tokens: 100_000, share: 1 } }
  ]
] as const)("what all requests begin with is soon cached at all workers: %s", (_, shared) => {
  test("nearly as if they had one cache", () => {
    const [ours, ideal] = [served(shared, false), served(shared, true)]
    expect(ours.done).toBeGreaterThan(0.99)
    expect(ours.ttftMs).toBeLessThan(1.1 * ideal.ttftMs)
    expect(ours.e2eMs).toBeLessThan(1.25 * ideal.e2eMs)
  })
})
