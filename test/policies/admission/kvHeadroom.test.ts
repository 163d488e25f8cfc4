import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { KvBatch } from "../../../src/policies/KvBatch.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { charge, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Batch = Pick<KvBatch, "add" | "remove" | "peakWith">
type Make = () => Batch

interface Running {
  readonly request: RequestView
  readonly end: number
}

/** The most KV tokens held at one time, step by step: each produces a token a step until its end, then is gone. */
const simulated = (running: ReadonlyArray<Running>): number => {
  let sequences = running.map(({ request, end }) => ({
    held: request.promptTokens + request.outputTokens,
    left: Math.max(1, end - request.outputTokens)
  }))
  let peak = 0
  while (sequences.length > 0) {
    sequences = sequences.map(({ held, left }) => ({ held: held + 1, left: left - 1 }))
    peak = Math.max(
      peak,
      sequences.reduce((sum, { held }) => sum + held, 0)
    )
    sequences = sequences.filter(({ left }) => left > 0)
  }
  return peak
}

const command = fc.oneof(
  fc.record({
    act: fc.constant("add" as const),
    promptTokens: fc.nat(100),
    end: fc.integer({ min: 1, max: 40 })
  }),
  fc.record({ act: fc.constant("remove" as const), which: fc.nat() }),
  fc.record({ act: fc.constant("produce" as const), which: fc.nat(), tokens: fc.nat(30) }),
  fc.record({
    act: fc.constant("peak" as const),
    promptTokens: fc.nat(100),
    end: fc.integer({ min: 1, max: 40 })
  })
)

const laws = [
  {
    id: "kv-peak",
    statement: "the peak is that of a simulation token by token, whatever joined, left and produced before",
    check: (make: Make) =>
      holds(
        fc.property(fc.array(command, { maxLength: 30 }), (commands) => {
          const batch = make()
          const running: Array<Running> = []
          for (const [slot, each] of commands.entries()) {
            const at = "which" in each && running.length > 0 ? each.which % running.length : -1
            if (each.act === "add") {
              const request = { ...oneRequest, slot, promptTokens: each.promptTokens }
              batch.add(request, each.end)
              running.push({ request, end: each.end })
            } else if (each.act === "peak") {
              const joining = {
                request: { ...oneRequest, promptTokens: each.promptTokens },
                end: each.end
              }
              expect(batch.peakWith(each.promptTokens, each.end, 10 * slot)).toBe(
                simulated([...running, joining])
              )
            } else if (at >= 0 && each.act === "remove") {
              expect(batch.remove(running[at]!.request.slot)).toBe(true)
              expect(batch.remove(running[at]!.request.slot)).toBe(false)
              running.splice(at, 1)
            } else if (at >= 0 && each.act === "produce") {
              const { request } = running[at]!
              Object.assign(request, { outputTokens: request.outputTokens + each.tokens })
            }
          }
        })
      )
  }
]

/** A batch over a plain array, whose formula a defect may change: of requests by falling tokens left. */
const plain =
  (formula: (sorted: ReadonlyArray<{ readonly held: number; readonly left: number }>) => number): Make =>
  () => {
    let running: Array<Running> = []
    return {
      add: (request, end) => void running.push({ request, end }),
      remove: (slot) => {
        const { length } = running
        running = running.filter(({ request }) => request.slot !== slot)
        return running.length < length
      },
      peakWith: (promptTokens, end) =>
        formula(
          [...running, { request: { ...oneRequest, promptTokens }, end }]
            .map((each) => ({
              held: each.request.promptTokens + each.request.outputTokens,
              left: Math.max(1, each.end - each.request.outputTokens)
            }))
            .toSorted((a, b) => b.left - a.left)
        )
    }
  }

type Sorted = ReadonlyArray<{ readonly held: number; readonly left: number }>
const peakOf = (sorted: Sorted): number => {
  let [held, peak] = [0, 0]
  for (const [i, each] of sorted.entries()) peak = Math.max(peak, (held += each.held) + (i + 1) * each.left)
  return peak
}

const defects: ReadonlyArray<Planted<Make>> = [
  [
    "adds up what all will hold at their ends",
    "kv-peak",
    plain((all) => all.reduce((sum, { held, left }) => sum + held + left, 0))
  ],
  ["looks at this moment alone", "kv-peak", plain((all) => all.reduce((sum, { held }) => sum + held, 0))],
  ["sorts the wrong way round", "kv-peak", plain((all) => peakOf(all.toReversed()))],
  [
    "counts one request too few",
    "kv-peak",
    plain((all) => peakOf(all.map((each, i) => (i === 0 ? { ...each, held: each.held - each.left } : each))))
  ]
]

describe("KvBatch", () => keepsAll(laws, () => new KvBatch()))
describe("the formula", () => keepsAll(laws, plain(peakOf)))
describe("planted defects", () => findsAll(laws, defects))

describe("kv-headroom", () => {
  const queue = { queuedCount: 0, queuedPromptTokens: 0, expectedWaitMs: 0 }
  const options = { quantile: 0.5, watermark: 0 }

  /** Expects half of `maxTokens`. */
  const request = (slot: number, promptTokens: number, maxTokens: number, rank = 0): RequestView => ({
    ...oneRequest,
    slot,
    promptTokens,
    maxTokens,
    class: rank
  })

  const started = (kvCapacityTokens: number, count = 1) => {
    const pool = poolOf(equalWorkers(count, { inFlight: 0, kvCapacityTokens }))
    const admission = findAdmission("kv-headroom").make(options, makeRng(1))
    const admit = (one: RequestView, worker: number): RequestView => {
      admission.admitted?.(one, pool, 0)
      const placed = charge(pool, worker, one)
      admission.placed?.(placed, worker, pool, 0)
      return placed
    }
    const ask = (one: RequestView) => admission.decide(one, pool, queue, 0)
    return { pool, admission, admit, ask }
  }

  test("lets in exactly what fits at the peak, by class", () => {
    holds(
      fc.property(
        fc.array(fc.tuple(fc.nat(100), fc.integer({ min: 1, max: 80 })), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 600 }),
        fc.nat(3),
        ([first, ...others], capacity, rank) => {
          const { admit, ask } = started(capacity)
          const running = others.map(([promptTokens, maxTokens], slot) => {
            const one = request(slot, promptTokens, maxTokens)
            return { request: admit(one, 0), end: Math.ceil(maxTokens / 2) }
          })
          const asked = request(99, ...first!, rank)
          const peak = simulated([...running, { request: asked, end: Math.ceil(asked.maxTokens / 2) }])
          const fits = peak <= capacity * [1, 0.9, 0.7][Math.min(rank, 2)]!
          expect(ask(asked) === null).toBe(running.length === 0 || fits)
        }
      )
    )
  })

  test("one worker with room is enough; a full one says kv_full with a wait", () => {
    const { admit, ask } = started(1000, 2)
    admit(request(0, 900, 100), 0)
    expect(ask(request(1, 500, 100))).toBeNull()
    admit(request(1, 900, 100), 1)
    expect(ask(request(2, 500, 100))).toMatchObject({ reason: Reason.kvFull })
    expect(ask(request(2, 40, 20))).toBeNull()
  })

  test("what waits is spread over the workers, and counts where it is placed from then on", () => {
    const { pool, admission, ask } = started(1000, 2)
    const waiting = [0, 1].map((slot) => request(slot, 550, 100))
    for (const one of waiting) admission.admitted?.(one, pool, 0)
    expect(ask(request(2, 350, 100))).toBeNull()
    expect(ask(request(2, 351, 100))).not.toBeNull()
    for (const [worker, one] of waiting.entries())
      admission.placed?.(charge(pool, worker, one), worker, pool, 0)
    expect(ask(request(2, 350, 100))).toBeNull()
    expect(ask(request(2, 351, 100))).not.toBeNull()
  })

  test("a second copy counts at its worker, and nothing is left when both have gone", () => {
    const { pool, admission, admit, ask } = started(1000, 2)
    const one = admit(request(0, 600, 100), 0)
    admission.placed?.(charge(pool, 1, one), 1, pool, 0)
    expect(ask(request(1, 500, 100))).not.toBeNull()
    admission.released?.(one, 1, Reason.cancelled, pool, 0)
    expect(ask(request(1, 500, 100))).toBeNull()
    admission.released?.(one, 0, Reason.workerLost, pool, 0)
    expect(ask(request(1, 700, 200))).not.toBeNull()
    admission.ended?.(one, Reason.workerLost, pool, 0)
    expect(ask(request(1, 700, 200))).toBeNull()
  })

  test("a split request counts where it was handed over to, from then on", () => {
    const { pool, admission, admit, ask } = started(1000, 2)
    admit(request(1, 900, 100), 1)
    const one = admit(request(0, 600, 100), 0)
    expect(ask(request(2, 500, 100))).not.toBeNull()
    admission.released?.(request(1, 900, 100), 1, Reason.none, pool, 0)
    admission.ended?.(request(1, 900, 100), Reason.none, pool, 0)
    admission.handedOver?.(one, 0, 1, pool, 0)
    expect(ask(request(2, 900, 100))).toBeNull()
    admit(request(2, 900, 100), 0)
    expect(ask(request(3, 500, 100))).not.toBeNull()
    admission.released?.(one, 1, Reason.none, pool, 0)
    expect(ask(request(3, 500, 100))).toBeNull()
  })

  test("a worker of unknown size takes anything", () => {
    const { admit, ask } = started(0)
    admit(request(0, 1e6, 100), 0)
    expect(ask(request(1, 1e6, 100))).toBeNull()
  })
})
