import { describe, expect, test } from "bun:test"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

/** Of these prompts 8 % take longer to read than a first token may take; the workers are busy for a third of the time. */
const workload = workloadOf([
  generateTraffic({
    seed: 1,
    requests: 2000,
    requestsPerSecond: 2,
    promptTokens: { mean: 8000, variation: 1 },
    outputTokens: { mean: 500, variation: 1 }
  })
])

const served = (pipeline: PipelineChoice) => {
  const { outcomes, totals } = replay({
    workload,
    workers: Array.from({ length: 16 }, (_, i) => ({ name: `worker-${i}`, preset: presets["70b-4xa100"] })),
    pipeline,
    seed: 1
  })
  const { arrivedMs, firstMs } = outcomes
  const inTime = [...arrivedMs.keys()].filter((i) => firstMs[i]! >= 0 && firstMs[i]! - arrivedMs[i]! <= 5000)
  return { refused: 1 - totals.done / workload.requests.length, inTime: inTime.length }
}

describe("with little to do", () => {
  test("hardly anybody is refused, and as many have their first token in time as where each worker is asked alone", () => {
    const ours = choiceOf(pipelines.default)
    const alone = ours.admission.map((each) =>
      each.policy === "prefill-budget" ? { ...each, options: { ...each.options, spare: 0 } } : each
    )
    const [shared, apart] = [served(ours), served({ ...ours, admission: alone })]
    expect(apart.refused).toBeGreaterThan(0.05)
    expect(shared.refused).toBeLessThan(0.02)
    expect(shared.inTime).toBeGreaterThan(0.995 * apart.inTime)
  })
})
