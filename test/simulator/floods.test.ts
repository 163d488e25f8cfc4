import { describe, expect, test } from "bun:test"
import { Reason } from "../../src/domain/Outcome.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines, type Preset } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"

const SECONDS = 120
/** The pool learns whose traffic is whose, and fills up. */
const FROM_MS = 20_000
const WORKERS = 2
/** Requests a second that the workers serve at most. */
const CAPACITY = 30

/** Traffic of one tenant. */
const tenantTraffic = (tenant: string, requestsPerSecond: number, seed: number) => {
  const { header, requests } = generateTraffic({
    seed,
    requests: requestsPerSecond * SECONDS,
    requestsPerSecond,
    promptTokens: { mean: 2000, variation: 1 },
    outputTokens: { mean: 200, variation: 1 }
  })
  return { header: { ...header, name: tenant }, requests: requests.map((each) => ({ ...each, tenant })) }
}

/** By tenant, the share of its requests that was done, and its share of the tokens that were. */
const servedOf = (preset: Preset, rates: ReadonlyArray<number>, weights: ReadonlyArray<number> = []) => {
  const workload = workloadOf(
    rates.map((rate, tenant) => tenantTraffic(`tenant-${tenant}`, rate, tenant + 1))
  )
  const { outcomes } = replay({
    workload,
    workers: Array.from({ length: WORKERS }, (_, i) => ({ name: `worker-${i}`, preset: presets["8b-h100"] })),
    pipeline: choiceOf(preset),
    seed: 1,
    weightOf: (tenant) => weights[Number(tenant.split("-").at(-1))] ?? 1
  })
  const counts = rates.map(() => ({ asked: 0, done: 0, tokens: 0 }))
  for (const [number, { arrivalMs, outputTokens, promptTokens, tenant }] of workload.requests.entries()) {
    // Number 0 is who sends without a name.
    const count = counts[tenant - 1]!
    if (arrivalMs < FROM_MS) continue
    count.asked++
    if (outcomes.reasons[number] !== Reason.none) continue
    count.done++
    count.tokens += promptTokens + 2 * outputTokens
  }
  const tokens = counts.reduce((sum, count) => sum + count.tokens, 0)
  return counts.map((count) => ({ done: count.done / count.asked, share: count.tokens / tokens }))
}

const fairly = [
  ["default", pipelines.default],
  ["fair", pipelines.fair],
  ["slo", pipelines.slo]
] as const

describe.each(fairly)("under %s", (_, preset) => {
  test("floods-light: a tenant that sends little is served whatever another one sends", () => {
    const [light, flood] = servedOf(preset, [2, 5 * CAPACITY])
    expect(light!.done).toBeGreaterThan(0.94)
    expect(flood!.done).toBeLessThan(0.5)
  })

  test("floods-equal: two tenants that send more than there is get about the same, however much more one sends", () => {
    const [much, more] = servedOf(preset, [CAPACITY, 4 * CAPACITY])
    expect(much!.share).toBeGreaterThan(0.42)
    expect(more!.share).toBeGreaterThan(0.42)
  })
})

test("floods-weights: what tenants get follows their weights", () => {
  const [heavy, light] = servedOf(pipelines.default, [2 * CAPACITY, 2 * CAPACITY], [3, 1])
  expect(heavy!.share).toBeGreaterThan(0.65)
  expect(light!.share).toBeGreaterThan(0.2)
})
