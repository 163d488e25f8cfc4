import { describe, expect, test } from "bun:test"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { ContinuousBatch } from "../../src/engines/simulated/ContinuousBatch.ts"
import { type PresetName, presets } from "../../src/engines/simulated/CostModel.ts"
import type { BatchRequest } from "../../src/engines/simulated/Sequence.ts"

/** Measured vLLM runs, beside the repository: where they are missing, this file says so and tests nothing. */
const folder = join(import.meta.dir, "../../../shared/traces/calibration")

const fields = ["queueMs", "ttftMs", "e2eMs"] as const

interface Measured {
  readonly t: number
  readonly in: number
  readonly out: number
  readonly blocks: ReadonlyArray<number>
  readonly queueMs: number
  readonly ttftMs: number
  readonly e2eMs: number
}

interface Run {
  readonly blockSize: number
  readonly engine: { readonly maxNumSeqs: number; readonly maxBatchedTokens: number }
  readonly requests: ReadonlyArray<Measured>
}

const load = (file: string): Run => {
  const lines = gunzipSync(readFileSync(join(folder, file)))
    .toString()
    .trim()
    .split("\n")
  const [header, ...requests] = lines.map((line) => JSON.parse(line))
  return { ...header, requests }
}

interface Entry extends BatchRequest {
  readonly measured: Measured
}

/** Sends the run's requests to the engine core, each at its own time. Returns the means, and the mean errors request by request. */
const replay = (run: Run, preset: PresetName) => {
  const { cost, kvCapacityTokens } = presets[preset]
  const sums = { queueMs: 0, ttftMs: 0, e2eMs: 0 }
  const errors = { queueMs: 0, ttftMs: 0, e2eMs: 0 }
  let finished = 0
  const batch = new ContinuousBatch<Entry>(
    { cost, kvCapacityTokens, blockTokens: run.blockSize, ...run.engine },
    {
      token: () => undefined,
      finished: ({ request, submittedMs, admittedMs, firstTokenMs }, nowMs) => {
        finished++
        const times = {
          queueMs: admittedMs - submittedMs,
          ttftMs: firstTokenMs - submittedMs,
          e2eMs: nowMs - submittedMs
        }
        for (const field of fields) {
          sums[field] += times[field] / run.requests.length
          errors[field] += Math.abs(times[field] - request.measured[field]) / run.requests.length
        }
      }
    }
  )
  let stepEndMs = Infinity
  let next = 0
  while (next < run.requests.length || stepEndMs < Infinity) {
    const measured = run.requests[next]
    const stepping = measured === undefined || stepEndMs <= measured.t
    const nowMs = stepping ? stepEndMs : measured.t
    if (!stepping) {
      next++
      const request = {
        promptTokens: measured.in,
        outputTokens: measured.out,
        chain: Float64Array.from(measured.blocks),
        measured
      }
      expect(batch.submit(request, nowMs)).toBeDefined()
    }
    if (!stepping && stepEndMs < Infinity) continue
    const durationMs = batch.step(nowMs)
    stepEndMs = durationMs === 0 ? Infinity : nowMs + durationMs
  }
  expect(finished).toBe(run.requests.length)
  return { means: sums, errors }
}

const mean = (run: Run, field: (typeof fields)[number]): number =>
  run.requests.reduce((sum, request) => sum + request[field], 0) / run.requests.length

/** The costs were fitted to 60 % of these requests: what is tested is that this engine schedules as the measured one did. */
const runs: ReadonlyArray<readonly [file: string, preset: PresetName]> = [
  ["vllm-llama31-8b-rtxpro6000.jsonl.gz", "8b-rtxpro6000"],
  ["vllm-qwen3-32b-rtxpro6000x2.jsonl.gz", "qwen3-32b-2xrtxpro6000"]
]

describe("the simulated engine against measured vLLM runs", () => {
  if (!existsSync(folder)) {
    console.log(`skipped: no measured runs at ${folder}`)
    return
  }
  test.each(runs)("%s: mean TTFT and end-to-end time within 5 %%", (file, preset) => {
    const run = load(file)
    const simulated = replay(run, preset)
    console.log(preset)
    for (const field of fields) {
      const measured = mean(run, field)
      const error = simulated.means[field] / measured - 1
      const percent = (part: number) => `${(100 * part).toFixed(2)} %`
      const figures = `measured ${measured.toFixed(1)} ms, simulated ${simulated.means[field].toFixed(1)} ms, error ${percent(error)}`
      console.log(
        `  mean ${field.padEnd(7)} ${figures}; of single requests ${percent(simulated.errors[field] / measured)}`
      )
      if (field !== "queueMs") expect(Math.abs(error)).toBeLessThan(0.05)
    }
  })
})
