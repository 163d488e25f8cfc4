import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { KV_KEPT_MS } from "../../src/engines/Engine.ts"
import type { PolicyChoice } from "../../src/domain/config/pipeline.ts"
import { presets, stepMs, transferTokenMs } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import {
  HEARTBEAT_MS,
  type Outcomes,
  Replay,
  replay,
  type ReplayOptions
} from "../../src/simulator/replay/Replay.ts"
import type { ReplayWorkerOptions } from "../../src/simulator/replay/ReplayWorker.ts"
import { boundsOf } from "../../src/simulator/report/bounds.ts"
import { figuresOf } from "../../src/simulator/report/figuresOf.ts"
import { contend, groundOf, type Setting, workersOf } from "../../src/simulator/report/ground.ts"
import { plotsOf } from "../../src/simulator/report/plots.ts"
import { replays } from "../support/replays.ts"

const preset = presets["8b-h100"]
const { cost } = preset
const NETWORK_MS = 0.5

/** Some that do both, and two of either part. */
const fleet = (whole: number, more: Partial<ReplayWorkerOptions> = {}): ReplayOptions["workers"] =>
  (["prefill", "prefill", "decode", "decode", ...new Array<"both">(whole).fill("both")] as const).map(
    (role, i) => ({ name: `worker-${i}`, role, preset, ...more })
  )

const disaggregated = { policy: "disaggregated", options: { threshold: 1, bandwidth: 1_000_000 } }
const pipeline = { ...choiceOf(pipelines.simple), placement: disaggregated }

const one = (promptTokens: number, outputTokens: number, keys = new Float64Array(0), arrivalMs = 0) => ({
  arrivalMs,
  promptTokens,
  outputTokens,
  maxTokens: outputTokens,
  tenant: 0,
  sessionHigh: 0,
  sessionLow: 0,
  keys
})

const optionsOf = (
  requests: ReadonlyArray<ReturnType<typeof one>>,
  workers: ReplayOptions["workers"]
): ReplayOptions => ({
  workload: { name: "made", blockTokens: 256, tenants: ["default"], requests },
  workers,
  pipeline,
  seed: 1,
  networkMs: NETWORK_MS
})

const targets = { ttftMs: 1000, tpotMs: 100 }

const roleOf = ({ workers }: ReplayOptions, at: number): string => workers[at]!.role ?? "both"

/** To be compared: NaN where it never came so far. */
const timesOf = ({ firstMs, endedMs }: Outcomes): ReadonlyArray<string> =>
  [...firstMs, ...endedMs].map(String)

/** A replay in which a last small request comes when all that was said is heard, and all that was kept has had its time. */
const runOut = (options: ReplayOptions) => {
  const { workload } = options
  const lastMs = Math.max(...replay(options).outcomes.endedMs) + KV_KEPT_MS + 1_000
  const requests = [...workload.requests, one(1, 1, new Float64Array(0), lastMs)]
  const made = new Replay({ ...options, workload: { ...workload, requests } })
  return { ...made.run(), made: made.workers }
}

describe("a split request in virtual time", () => {
  test("alone takes the closed-form time: read, handed over, answered", () => {
    const [prompt, output] = [2000, 4]
    const { outcomes, workers } = replay(optionsOf([one(prompt, output)], fleet(0)))
    const readMs = stepMs(cost, prompt, prompt * (prompt / 2), 0, 0)
    const firstMs =
      4 * NETWORK_MS + readMs + transferTokenMs(preset) * prompt + stepMs(cost, 1, prompt - 0.5, 0, 0)
    expect(outcomes.placedMs[0]).toBe(0)
    expect(outcomes.firstMs[0]).toBeCloseTo(firstMs, 9)
    let decodeMs = 0
    for (let token = 1; token < output; token++) decodeMs += stepMs(cost, 0, 0, 1, prompt + token - 1)
    expect(outcomes.endedMs[0]).toBeCloseTo(firstMs + decodeMs, 9)
    expect(outcomes.cachedTokens[0]).toBe(0)
    const work = workers.map(({ promptTokens, outputTokens, stepPrefillTokens }) =>
      [promptTokens, outputTokens, stepPrefillTokens].join(" ")
    )
    expect(work.slice(0, 2).toSorted()).toEqual(["0 0 0", `${prompt} 0 ${prompt}`])
    expect(work.slice(2).toSorted()).toEqual(["0 0 0", `0 ${output} 1`])
  })

  test("is work of who reads it and of who answers it", () => {
    const options = optionsOf([one(2000, 4)], fleet(0))
    const { outcomes, ...result } = replay(options)
    expect([outcomes.readers[0]!, outcomes.workers[0]!].map((at) => roleOf(options, at))).toEqual([
      "prefill",
      "decode"
    ])
    const played = { ...result, outcomes }
    const yardstick = { bounds: boundsOf(options), from: 0, goodputMax: 1, targets }
    expect(figuresOf(played, yardstick).imbalanceMaxOverMean).toBeCloseTo(2000 / (2004 / 4), 9)
    const { binMs, inFlightMean } = plotsOf(played, yardstick).timeline
    const atWorkersMs = inFlightMean.reduce((sum, mean) => sum + 4 * mean * binMs, 0)
    expect(atWorkersMs).toBeCloseTo(outcomes.firstMs[0]! + outcomes.endedMs[0]!, 6)
  })

  test("reports what its reader had cached", () => {
    const keys = Float64Array.from({ length: 7 }, (_, i) => (i + 1) * 2 ** 32 + 5)
    const requests = [one(2000, 4, keys), one(2000, 4, keys, 1000)]
    const { outcomes } = replay(optionsOf(requests, fleet(0)))
    expect([...outcomes.cachedTokens]).toEqual([0, 7 * 256])
  })

  test("is answered by whoever has to compute its prompt again, where the network is too slow", () => {
    const options = optionsOf([one(2000, 4)], fleet(0, { transferGbps: 0.1 }))
    const { workers, totals } = replay(options)
    expect(totals.done).toBe(1)
    expect(workers.slice(2).reduce((sum, { stepPrefillTokens }) => sum + stepPrefillTokens, 0)).toBe(2000)
  })

  test("waits in the queue for as long as its answer would have no place", () => {
    const requests = [0, 1, 2].map(() => one(500, 50))
    const { outcomes } = replay(optionsOf(requests, fleet(0, { capacity: 1 })))
    const [first, second] = [outcomes.endedMs[0]!, outcomes.endedMs[1]!].toSorted((a, b) => a - b)
    expect(outcomes.placedMs[2]).toBe(first)
    expect(second).toBeLessThan(outcomes.endedMs[2]!)
  })

  test("leaves room where it was read as soon as its answer begins", () => {
    const workers = fleet(0, { kvCapacityTokens: 5_000 }).filter((_, i) => i !== 1)
    const { outcomes } = replay(optionsOf([one(3_000, 50), one(3_000, 50)], workers))
    const [first, second] = [outcomes.firstMs[0]!, outcomes.firstMs[1]!].toSorted((a, b) => a - b)
    const readMs = stepMs(cost, 2_048, 2_048 * 1_024, 0, 0) + stepMs(cost, 952, 952 * 2_524, 0, 0)
    const transferMs = transferTokenMs(preset) * 3_000
    const answerMs = stepMs(cost, 1, 2_999.5, 0, 0)
    expect(first).toBeCloseTo(4 * NETWORK_MS + readMs + transferMs + answerMs, 6)
    expect(second! - first!).toBeCloseTo(4 * NETWORK_MS + readMs + transferMs + answerMs, 6)
  })

  test("whose KV cache nobody asks for leaves room for others after its time", () => {
    // The answer waits behind another one, for longer than its KV cache is kept.
    const workers = fleet(0, { kvCapacityTokens: 40_000, maxNumSeqs: 1 }).filter((_, i) => i % 2 === 0)
    const long = one(300, 3000)
    const requests = [long, one(30_000, 2), one(30_000, 2, new Float64Array(0), 100)]
    const readMs: Array<number> = []
    const adapted: ReplayOptions["adapted"] = (chosen) => ({
      ...chosen,
      placement: {
        ...chosen.placement,
        handedOver: (_request, _from, _worker, _pool, nowMs) => readMs.push(nowMs - NETWORK_MS)
      }
    })
    const { outcomes, workers: loads } = replay({ ...optionsOf(requests, workers), adapted })
    expect([...outcomes.reasons]).toEqual([Reason.none, Reason.none, Reason.none])
    expect(outcomes.firstMs[1]).toBeGreaterThan(KV_KEPT_MS)
    // As live, that is at the first heartbeat afterwards: then the third prompt begins to be read.
    let chunksMs = 0
    for (let at = 0; at < 30_000; at += 2_048) {
      const n = Math.min(2_048, 30_000 - at)
      chunksMs += stepMs(cost, n, n * (at + n / 2), 0, 0)
    }
    const beatMs = (Math.floor((readMs[1]! + KV_KEPT_MS) / HEARTBEAT_MS) + 1) * HEARTBEAT_MS
    expect(readMs[2]! - chunksMs).toBeCloseTo(beatMs, 6)
    // Each answer of the last two came too late for its KV cache, and computed the prompt again.
    expect(loads[1]!.stepPrefillTokens).toBe(1 + 30_000 + 30_000)
  })

  test("in any traffic: same seed, same result; each token comes from who produces, and no KV cache stays pinned", () => {
    let split = 0
    fc.assert(
      fc.property(
        replays,
        fc.nat({ max: 2 }),
        fc.constantFrom(100, 1, 0.01),
        (given, whole, transferGbps) => {
          const worker: ReplayWorkerOptions = given.workers[0]!
          const options = {
            ...given,
            pipeline: { ...given.pipeline, placement: disaggregated },
            workers: fleet(whole, { ...worker, transferGbps }).map((each, i) => ({ ...each, name: `w${i}` }))
          }
          const { outcomes, totals, workers, made } = runOut(options)
          expect(timesOf(runOut(options).outcomes)).toEqual(timesOf(outcomes))
          let due = 0
          const { requests } = given.workload
          for (const [number, request] of [...requests, one(1, 1)].entries()) {
            if (outcomes.workers[number]! < 0 || outcomes.reasons[number] !== Reason.none) continue
            const role = roleOf(options, outcomes.workers[number]!)
            expect(role).toBeOneOf(["both", "decode"])
            if (role === "decode") split++
            due += request.outputTokens
          }
          expect(totals.outputTokens).toBe(due)
          for (const [at, { promptTokens, outputTokens }] of workers.entries()) {
            if (roleOf(options, at) === "prefill") expect(outputTokens).toBe(0)
            if (roleOf(options, at) === "decode") expect(promptTokens).toBe(0)
          }
          // Of the last request, the word that it is over may be on its way.
          let pages = 0
          for (const { attempts } of made)
            for (const { phase, request } of attempts.values()) {
              if (phase === "ended") continue
              expect(request.request).toBe(requests.length)
              pages++
            }
          const usedPages = made.reduce((sum, { batch }) => sum + batch.cache.usedPages, 0)
          expect(usedPages).toBeLessThanOrEqual(pages)
        }
      ),
      { numRuns: 60 }
    )
    expect(split).toBeGreaterThan(100)
  })
})

describe("a fleet of which some read and others write", () => {
  const setting: Setting = {
    workers: 4,
    roles: { prefill: 2, decode: 2 },
    transferGbps: 10,
    preset,
    targets,
    world: { networkMs: NETWORK_MS },
    warmUp: 0
  }

  test("hands over as fast as its network is, whatever the policy takes that for; who splits nothing has none", () => {
    const { workload } = optionsOf([one(3000, 4)], [])
    const ttftMs = (placement: PolicyChoice, transferGbps = 10): number => {
      const ground = groundOf({ ...setting, transferGbps }, 1, workload)
      return contend(ground, workload, { name: "", pipeline: { ...pipeline, placement } }, 1).figures
        .ttftMsMean
    }
    // Two chunks: 2,048 tokens, and 952 behind them.
    const readMs = 2 * 6.4 + 0.024 * 3000 + 1.3e-6 * (2048 * 1024 + 952 * (2048 + 476))
    const lastTokenMs = 6.4 + 0.024 + 1.3e-6 * 2999.5
    // 131,072 bytes a token; 10 Gbit/s are 10⁷ bits in a millisecond.
    const transferMs = (3000 * 131_072 * 8) / 1e7
    const splitMs = readMs + transferMs + lastTokenMs + 4 * NETWORK_MS
    expect(ttftMs(disaggregated)).toBeCloseTo(splitMs, 9)
    const mistaken = { policy: "disaggregated", options: { bandwidth: 1, kvBytesPerToken: 1 } }
    expect(ttftMs(mistaken)).toBeCloseTo(splitMs, 9)
    expect(ttftMs(disaggregated, 20)).toBeCloseTo(splitMs - transferMs / 2, 9)
    expect(ttftMs({ policy: "round-robin", options: {} })).toBeCloseTo(readMs + 2 * NETWORK_MS, 9)
  })

  test.each([
    ["reads crashes", 0, false],
    ["reads falls silent", 0, true],
    ["writes crashes", 2, false],
    ["writes falls silent", 2, true]
  ])("loses nothing but begun answers where one that %s", (_, worker, silent) => {
    const requests = Array.from({ length: 60 }, (_, i) => one(3000, 40, new Float64Array(0), 50 * i))
    const [atMs, goneMs] = [1000, 1000]
    const { lives, outcomes } = replay({
      ...optionsOf(requests, workersOf(setting, 1)),
      crashes: [{ worker, atMs, goneMs, silent }]
    })
    expect(lives.filter((life) => life.worker === worker)).toHaveLength(2)
    const { arrivedMs, firstMs, placedMs, readers, reasons } = outcomes
    let [again, lost] = [0, 0]
    for (const number of requests.keys()) {
      if (reasons[number] === Reason.none) {
        expect(readers[number]).toBeOneOf([0, 1])
        expect(outcomes.workers[number]).toBeOneOf([2, 3])
        if (arrivedMs[number]! < atMs && placedMs[number]! >= atMs) again++
        continue
      }
      lost++
      expect([outcomes.workers[number], reasons[number]]).toEqual([worker, Reason.workerLost])
      expect(firstMs[number]!).toBeLessThan(atMs + NETWORK_MS)
    }
    expect(again).toBeGreaterThan(0)
    expect(lost > 0).toBe(worker === 2)
    // Once it is back it is as good as new.
    expect([...readers, ...outcomes.workers].lastIndexOf(worker)).toBeGreaterThan(40)
  })
})
