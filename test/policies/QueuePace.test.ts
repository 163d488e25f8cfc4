import { expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { QueuePace } from "../../src/policies/estimators/QueuePace.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

test("what was measured halves with every minute in which nobody waits", () => {
  const pace = new QueuePace()
  for (let nowMs = 100_000; nowMs <= 200_000; nowMs += 10_000) pace.departed(nowMs, true)
  expect(pace.gapMs).toBe(10_000)
  const gaps = Array.from({ length: 6 }, (_, i) => {
    pace.departed(201_000 + i * 30_000, false)
    return pace.gapMs
  })
  expect(gaps).toEqual([10_000, 10_000, 5_000, 5_000, 2_500, 2_500])
})

test("a pool that was slow for a minute lets requests wait again", () => {
  const trace = generateTraffic({
    seed: 1,
    requests: 180,
    requestsPerSecond: 0.3,
    promptTokens: { mean: 6000, variation: 1 },
    outputTokens: { mean: 300, variation: 1 }
  })
  const { outcomes } = replay({
    workload: workloadOf([trace]),
    workers: [{ name: "worker", preset: presets["70b-4xa100"] }],
    pipeline: choiceOf(pipelines.fair),
    slowDowns: [{ worker: 0, fromMs: 60_000, toMs: 120_000, factor: 50 }],
    seed: 1
  })
  const refused = outcomes.arrivedMs.filter((_, number) => outcomes.reasons[number] === Reason.waitTooLong)
  expect(refused.length).toBeGreaterThan(0)
  expect(Math.max(...refused)).toBeLessThan(300_000)
})
