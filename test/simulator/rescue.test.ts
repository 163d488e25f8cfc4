import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

const workloads = [1, 2, 3].map((seed) =>
  workloadOf([
    generateTraffic({
      seed,
      requests: 1500,
      requestsPerSecond: 6,
      promptTokens: { mean: 2000, variation: 1 },
      outputTokens: { mean: 100, variation: 1 }
    })
  ])
)

/** Mean time to first token over four workers, of which the last is 20 times slower than it should be, where nothing asks for work. */
const ttftMsMean = (rescue: ReadonlyArray<string>, placement = "power-of-two"): number => {
  let sum = 0
  let count = 0
  for (const workload of workloads) {
    const { outcomes } = replay({
      workload,
      workers: [1, 1, 1, 20].map((slowFactor, i) => ({
        name: `w${i}`,
        preset: presets["8b-a100"],
        slowFactor
      })),
      pipeline: {
        ...choiceOf(pipelines.simple),
        admission: [],
        placement: { policy: placement, options: {} },
        rescue: rescue.map((policy) => ({ policy, options: {} }))
      },
      seed: 1
    })
    expect(outcomes.reasons.every((reason) => reason === Reason.none)).toBe(true)
    for (const [number, firstMs] of outcomes.firstMs.entries()) sum += firstMs - outcomes.arrivedMs[number]!
    count += workload.requests.length
  }
  return sum / count
}

describe("with a worker that is 20 times slower than the others", () => {
  test("requests placed by the less loaded of two start sooner with each rescue, and soonest where work is stolen", () => {
    const alone = ttftMsMean([])
    const stolen = ttftMsMean(["steal"])
    for (const rescue of ["requeue-stragglers", "hedge"]) {
      const rescued = ttftMsMean([rescue])
      expect(rescued).toBeLessThan(alone)
      expect(stolen).toBeLessThan(rescued)
    }
  })

  test("requests placed by predictions are not held up by any", () => {
    const alone = ttftMsMean([], "predicted-completion")
    const rescued = ttftMsMean(["requeue-stragglers", "steal", "hedge"], "predicted-completion")
    expect(rescued).toBeLessThan(1.05 * alone)
  })
})
