import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { RequestView } from "../../../src/domain/RequestView.ts"
import { KvBatch } from "../../../src/policies/KvBatch.ts"
import { findAdmission } from "../../../src/policies/registry.ts"
import { makeRng } from "../../../src/structures/Rng.ts"
import { holds } from "../../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../../support/planted.ts"
import { charge, emptyQueue, equalWorkers, oneRequest, poolOf } from "../../support/pools.ts"

type Batch = Pick<KvBatch, "add" | "remove" | "started" | "observed" | "fits" | "peakWith">
type Make = () => Batch

interface Running {
  readonly request: RequestView
  readonly end: number
  /** Prompts of one family begin alike; that of nobody shares nothing. */
  readonly family?: number | undefined
  started?: boolean
}

/** Prompts of one family are alike up to here. */
const ALIKE = 60

/** What prompts take that have what is alike in them once. */
const distinctTokens = (running: ReadonlyArray<Running>): number => {
  const longest = new Map<number, number>()
  let own = 0
  for (const { family, request } of running) {
    const alike = family === undefined ? 0 : Math.min(ALIKE, request.promptTokens)
    own += request.promptTokens - alike
    if (family !== undefined) longest.set(family, Math.max(alike, longest.get(family) ?? 0))
  }
  return [...longest.values()].reduce((sum, tokens) => sum + tokens, own)
}

const usedTokens = (running: ReadonlyArray<Running>): number =>
  distinctTokens(running) + running.reduce((sum, { request }) => sum + request.outputTokens, 0)

const wholeTokens = (running: ReadonlyArray<Running>): number =>
  running.reduce((sum, { request }) => sum + request.promptTokens + request.outputTokens, 0)

/** The most KV tokens held at one time, step by step: each produces a token a step until its end, then is gone. */
const simulated = (running: ReadonlyArray<Running>, heldBy = wholeTokens): number => {
  let sequences = running
  let peak = 0
  while (sequences.length > 0) {
    sequences = sequences.map((one) => ({
      ...one,
      request: { ...one.request, outputTokens: one.request.outputTokens + 1 }
    }))
    peak = Math.max(peak, heldBy(sequences))
    sequences = sequences.filter(({ end, request }) => end > request.outputTokens)
  }
  return peak
}

const promptTokens = fc.nat(100)
const end = fc.integer({ min: 1, max: 40 })
const family = fc.constantFrom(0, 1, undefined)
const which = fc.nat()
const joining = (tokens: number, until: number): Running => ({
  request: { ...oneRequest, promptTokens: tokens },
  end: until
})

const command = fc.oneof(
  fc.record({ act: fc.constant("add" as const), promptTokens, end }),
  fc.record({ act: fc.constant("remove" as const), which }),
  fc.record({ act: fc.constant("produce" as const), which, tokens: fc.nat(30) }),
  fc.record({ act: fc.constant("peak" as const), promptTokens, end })
)

const sharingCommand = fc.oneof(
  fc.record({ act: fc.constant("add" as const), promptTokens, end, family }),
  fc.record({ act: fc.constant("start" as const), which, all: fc.boolean() }),
  fc.record({ act: fc.constant("remove" as const), which }),
  fc.record({ act: fc.constant("produce" as const), which, tokens: fc.nat(30) }),
  // Prompts are being read beside those who have started, or one of these was thrown out.
  fc.record({
    act: fc.constant("beat" as const),
    which,
    besides: fc.constantFrom("none", "reading", "thrown out")
  }),
  fc.record({
    act: fc.constant("peak" as const),
    promptTokens,
    end,
    besideTokens: fc.integer({ min: -60, max: 60 })
  })
)
const sharingCommands = fc.array(sharingCommand, { maxLength: 40, size: "max" })
type SharingCommand = typeof sharingCommand extends fc.Arbitrary<infer A> ? A : never
type Peak = Extract<SharingCommand, { readonly act: "peak" }>

/** Batches live through commands; `asked` hears of each peak that is asked for. */
const live = (
  batches: ReadonlyArray<Batch>,
  commands: ReadonlyArray<SharingCommand>,
  asked: (running: ReadonlyArray<Running>, peak: Peak, nowMs: number) => void
): void => {
  const running: Array<Running> = []
  let nowMs = 0
  for (const [slot, each] of commands.entries()) {
    const at = "which" in each && running.length > 0 ? each.which % running.length : -1
    if (each.act === "add") {
      const request = { ...oneRequest, slot, promptTokens: each.promptTokens }
      for (const batch of batches) batch.add(request, each.end)
      running.push({ request, end: each.end, family: each.family })
    } else if (each.act === "start") {
      for (const one of each.all ? running : running.slice(at, at + 1)) {
        for (const batch of batches) batch.started(one.request.slot)
        one.started = true
      }
    } else if (each.act === "remove" && at >= 0) {
      for (const batch of batches) batch.remove(running[at]!.request.slot)
      running.splice(at, 1)
    } else if (each.act === "produce" && running[at]?.started === true) {
      const { request } = running[at]
      Object.assign(request, { outputTokens: request.outputTokens + each.tokens })
      // What was seen of it before is too old by then.
      nowMs += 10
    } else if (each.act === "beat") {
      const isReading = each.besides === "reading"
      const isThere = ({ started }: Running, i: number) =>
        (started === true || isReading) && (each.besides !== "thrown out" || i !== at)
      const here = running.filter(isThere)
      for (const batch of batches) batch.observed(here.length, usedTokens(here))
    } else if (each.act === "peak") asked(running, each, nowMs)
  }
}

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
              expect(batch.peakWith(each.promptTokens, each.end, 10 * slot)).toBe(
                simulated([...running, joining(each.promptTokens, each.end)])
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
  },
  {
    id: "kv-shared",
    statement:
      "the peak is at least that of a simulation that keeps shared prefixes once, whatever heartbeats came, and at most that of one that does not",
    check: (make: Make) =>
      holds(
        fc.property(sharingCommands, (commands) => {
          const batch = make()
          live([batch], commands, (running, { promptTokens: tokens, end: until }, nowMs) => {
            const all = [...running, joining(tokens, until)]
            const peak = batch.peakWith(tokens, until, nowMs)
            expect(peak).toBeGreaterThanOrEqual(simulated(all, usedTokens))
            expect(peak).toBeLessThanOrEqual(simulated(all))
          })
        })
      )
  },
  {
    id: "kv-shared-rule",
    statement:
      "the peak is that of the formula, with what heartbeats tell of sharing, and what fits is what stays within the room",
    check: (make: Make) =>
      holds(
        fc.property(sharingCommands, (commands) => {
          const [batch, list] = [make(), plain()()]
          live([batch, list], commands, (_, { promptTokens: tokens, end: until, besideTokens }, nowMs) => {
            const peak = list.peakWith(tokens, until, nowMs)
            const roomTokens = peak + besideTokens
            expect(batch.fits(tokens, until, roomTokens, nowMs)).toBe(peak <= roomTokens)
            expect(batch.peakWith(tokens, until, nowMs)).toBe(peak)
          })
        })
      )
  },
  {
    id: "kv-shared-once",
    statement:
      "where all have started and end together, a heartbeat makes it the peak of a simulation that keeps what prompts share once",
    check: (make: Make) =>
      holds(
        fc.property(
          fc.array(fc.tuple(promptTokens, fc.nat(30), family), { maxLength: 8 }),
          promptTokens,
          end,
          (others, ownTokens, left) => {
            const batch = make()
            const running = others.map(([tokens, outputTokens, each], slot): Running => {
              const request = { ...oneRequest, slot, promptTokens: tokens, outputTokens }
              batch.add(request, outputTokens + left)
              batch.started(slot)
              return { request, end: outputTokens + left, family: each }
            })
            batch.observed(running.length, usedTokens(running))
            expect(batch.peakWith(ownTokens, left, 0)).toBe(
              simulated([...running, joining(ownTokens, left)], usedTokens)
            )
          }
        )
      )
  }
]

interface Weighed {
  readonly prompt: number
  readonly produced: number
  readonly left: number
  readonly isThere: boolean
}
type Sorted = ReadonlyArray<Weighed>

const peakOf = (sorted: Sorted, sharedTokens: number): number => {
  const distinct = sorted.reduce((sum, { isThere, prompt }) => sum + (isThere ? prompt : 0), -sharedTokens)
  let [there, others, peak] = [0, 0, 0]
  for (const [i, each] of sorted.entries()) {
    if (each.isThere) there += each.prompt
    else others += each.prompt
    others += each.produced
    peak = Math.max(peak, Math.min(there, distinct) + others + (i + 1) * each.left)
  }
  return peak
}

/** What is learned of sharing: from a heartbeat, where so many run and use so much, and when one with such a prompt leaves. */
const learning = {
  observed: (known: number, running: ReadonlyArray<Running>, count: number, used: number): number => {
    const started = running.filter((each) => each.started === true)
    return count < started.length ? known : Math.max(0, wholeTokens(started) - used)
  },
  removed: (known: number, prompt: number): number => Math.max(0, known - prompt)
}

/** A batch over a plain array, whose formula a defect may change: of requests by falling tokens left. */
const plain =
  (formula = peakOf, { observed, removed } = learning): Make =>
  () => {
    let running: ReadonlyArray<Running> = []
    let sharedTokens = 0
    const peakWith = (tokens: number, until: number): number => {
      const sorted = [...running, joining(tokens, until)].map(({ request, end: itsEnd }, i) => ({
        isThere: i < running.length,
        prompt: request.promptTokens,
        produced: request.outputTokens,
        left: Math.max(1, itsEnd - request.outputTokens)
      }))
      return formula(
        sorted.toSorted((a, b) => b.left - a.left),
        sharedTokens
      )
    }
    return {
      add: (request, until) => void (running = [...running, { request, end: until }]),
      remove: (slot) => {
        const gone = running.find(({ request }) => request.slot === slot)
        if (gone === undefined) return false
        running = running.filter((each) => each !== gone)
        sharedTokens = removed(sharedTokens, gone.request.promptTokens)
        return true
      },
      started: (slot) => {
        for (const each of running) if (each.request.slot === slot) each.started = true
      },
      observed: (count, used) => void (sharedTokens = observed(sharedTokens, running, count, used)),
      fits: (tokens, until, roomTokens) => peakWith(tokens, until) <= roomTokens,
      peakWith
    }
  }

const defects: ReadonlyArray<Planted<Make>> = [
  [
    "adds up what all will hold at their ends",
    "kv-peak",
    plain((all) => all.reduce((sum, { prompt, produced, left }) => sum + prompt + produced + left, 0))
  ],
  [
    "looks at this moment alone",
    "kv-peak",
    plain((all) => all.reduce((sum, { prompt, produced }) => sum + prompt + produced, 0))
  ],
  ["sorts the wrong way round", "kv-peak", plain((all) => peakOf(all.toReversed(), 0))],
  [
    "counts one request too few",
    "kv-peak",
    plain((all) =>
      peakOf(
        all.map((each, i) => (i === 0 ? { ...each, produced: each.produced - each.left } : each)),
        0
      )
    )
  ],
  [
    "takes off all that is shared, whoever is left",
    "kv-shared",
    plain((all, shared) => peakOf(all, 0) - shared)
  ],
  [
    "takes what was thrown out for shared",
    "kv-shared",
    plain(peakOf, {
      ...learning,
      observed: (_, running, __, used) =>
        Math.max(0, wholeTokens(running.filter((each) => each.started === true)) - used)
    })
  ],
  [
    "takes what is not there yet for shared",
    "kv-shared",
    plain(peakOf, {
      ...learning,
      observed: (_, running, __, used) => Math.max(0, wholeTokens(running) - used)
    })
  ],
  [
    "believes in sharing with those who have gone",
    "kv-shared",
    plain(peakOf, { ...learning, removed: (known) => known })
  ],
  [
    "takes off what was shared by a prompt that left, and a token more",
    "kv-shared-rule",
    plain(peakOf, { ...learning, removed: (known, prompt) => Math.max(0, known - prompt - 1) })
  ],
  ["counts whole prompts", "kv-shared-once", plain((all) => peakOf(all, 0))]
]

describe("KvBatch", () => keepsAll(laws, () => new KvBatch()))
describe("the formula", () => keepsAll(laws, plain()))
describe("planted defects", () => findsAll(laws, defects))

describe("kv-headroom", () => {
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
    const ask = (one: RequestView) => admission.decide(one, pool, emptyQueue, 0)
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

  test("a prefix that several share counts once where they have started, until they go", () => {
    const { pool, admission, admit, ask } = started(1000)
    const all = [0, 1, 2, 3].map((slot) => admit(request(slot, 400, 40), 0))
    expect(ask(request(9, 100, 20))).not.toBeNull()
    for (const one of all) admission.started?.(one, 0, pool, 0)
    expect(ask(request(9, 100, 20))).not.toBeNull()
    const beat = (usedTokens: number): void => {
      Object.assign(pool.workers, { running: Int32Array.of(4), kvUsedTokens: Float64Array.of(usedTokens) })
      admission.observed?.(0, pool, 0)
    }
    beat(520)
    expect(ask(request(9, 430, 20))).toBeNull()
    expect(ask(request(9, 431, 20))).not.toBeNull()
    beat(521)
    expect(ask(request(9, 430, 20))).not.toBeNull()
    beat(520)
    for (const one of all.slice(1)) {
      admission.released?.(one, 0, Reason.none, pool, 0)
      admission.ended?.(one, Reason.none, pool, 0)
    }
    expect(ask(request(9, 580, 20))).toBeNull()
    expect(ask(request(9, 581, 20))).not.toBeNull()
  })

  test("a worker of unknown size takes anything", () => {
    const { admit, ask } = started(0)
    admit(request(0, 1e6, 100), 0)
    expect(ask(request(1, 1e6, 100))).toBeNull()
  })
})
