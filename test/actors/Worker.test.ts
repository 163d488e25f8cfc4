import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import fc from "fast-check"
import { startWorker, stopped, Worker, type WorkerOptions } from "../../src/actors/Worker.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import { type Engine, type EngineRequest, type EngineSink, KV_KEPT_MS } from "../../src/engines/Engine.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { tokenText } from "../../src/engines/simulated/tokenText.ts"
import { SimulatedEngine } from "../../src/engines/SimulatedEngine.ts"
import { bunTransport } from "../../src/protocol/BunTransport.ts"
import { encodeFrame } from "../../src/protocol/Codec.ts"
import { gate } from "../../src/protocol/credentials.ts"
import { Flag, Type } from "../../src/protocol/Header.ts"
import { defaultLimits } from "../../src/protocol/Limits.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { Turn } from "../../src/protocol/Turn.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { VirtualWorld } from "../client/support/VirtualWorld.ts"
import { live } from "../support/effectTest.ts"
import { EPOCH, StubBalancer, type StubBalancerOptions } from "./support/StubBalancer.ts"

/** An engine that says what the test wants it to. */
class PuppetEngine implements Engine {
  readonly models = ["m", "n"]
  readonly capacity = 8
  readonly maxSequences = 4
  readonly kvCapacityTokens = 1000
  timeScale = 1
  readonly runs: Array<{
    readonly request: EngineRequest
    readonly sink: EngineSink
    cancels: number
    told: number
  }> = []
  /** Tokens told during `submit`. */
  eager = 0
  readonly submit = (request: EngineRequest, sink: EngineSink): (() => void) => {
    const run = { request: { ...request, chain: Buffer.from(request.chain) }, sink, cancels: 0, told: 0 }
    this.runs.push(run)
    this.tokens(this.runs.length - 1, this.eager)
    return () => void run.cancels++
  }
  readonly load = () => ({ ...idleLoad, running: this.runs.length })
  tokens(which: number, count: number): void {
    const run = this.runs[which]!
    for (let i = 0; i < count; i++) run.sink.token(`${run.told++} `)
  }
  finish(which: number): void {
    const run = this.runs[which]!
    run.sink.finished({
      reason: "stop",
      outputTokens: run.told,
      cachedTokens: 3,
      queueMs: 1,
      prefillMs: 2,
      totalMs: 3.5
    })
  }
}

/** Texts of the puppet's tokens `[0, count)`. */
const texts = (count: number): string => Array.from({ length: count }, (_, index) => `${index} `).join("")

const makeRig = (
  options: Partial<WorkerOptions> = {},
  stub: Partial<StubBalancerOptions> = {},
  seed?: number,
  connected = true
) => {
  const world = new VirtualWorld(seed)
  const { transport, timers, turn } = world
  const balancer = new StubBalancer({ transport, timers, turn, ...stub })
  const engine = new PuppetEngine()
  const states: Array<string> = []
  const worker = new Worker({
    name: "w1",
    incarnation: 5,
    engine,
    address: { host: "virtual", port: 7420 },
    transport,
    context: { turn, timers, limits: defaultLimits },
    rng: makeRng(3),
    onState: (state, why) => states.push(why === "" ? state : `${state}: ${why}`),
    ...options
  })
  worker.start()
  if (connected) world.settle()
  return { world, balancer, engine, worker, states }
}

const ended = (balancer: StubBalancer, stream: number, attempt = 1) =>
  balancer.answer(stream, attempt).ends.map(({ type, a, c }) => ({ type, a, c }))

describe("a worker and the part it does of requests", () => {
  const { prefillOnly, handedOver } = Flag
  const prompt = { promptTokens: 50, flags: prefillOnly }
  const answer = { promptTokens: 50, flags: handedOver, kvTokens: 50 }
  const prefilled = (balancer: StubBalancer) =>
    balancer.frames
      .filter(({ type }) => type === Type.prefilled)
      .map(({ stream, a, b }) => ({ stream, a, b }))

  test.each([
    ["both", { whole: [], prompt: [], answer: [] }],
    ["prefill", { whole: [Reason.workerRefused], prompt: [], answer: [Reason.workerRefused] }],
    ["decode", { whole: [Reason.workerRefused], prompt: [Reason.workerRefused], answer: [] }]
  ] as const)("a worker for %s says so, and refuses what is not its part", (role, refused) => {
    const { world, balancer, engine } = makeRig({ role })
    expect(balancer.frames[0]!.payload).toMatchObject({ role })
    balancer.assign(1)
    balancer.assign(2, prompt)
    balancer.assign(3, answer)
    world.settle()
    const reasons = [1, 2, 3].map((stream) => ended(balancer, stream).map(({ a }) => a))
    expect(reasons).toEqual([[...refused.whole], [...refused.prompt], [...refused.answer]])
    const parts: Readonly<Record<number, string | undefined>> = { 2: "prefill", 3: "decode" }
    for (const { request } of engine.runs)
      expect(request.part as string | undefined).toBe(parts[request.idLow])
    expect(engine.runs).toHaveLength(reasons.filter((reason) => reason.length === 0).length)
  })

  test("an answer is refused where the KV cache is not that of its prompt", () => {
    const { world, balancer } = makeRig({ role: "decode" })
    balancer.assign(1, { ...answer, kvTokens: 49 })
    world.settle()
    expect(ended(balancer, 1)).toMatchObject([{ a: Reason.workerRefused }])
  })

  test("a prompt that is read is PREFILLED at once, and is the engine's to keep until its CANCEL", () => {
    const { world, balancer, engine, worker } = makeRig({ role: "prefill" })
    balancer.assign(1, prompt)
    world.settle()
    engine.finish(0)
    world.settle()
    expect(prefilled(balancer)).toEqual([{ stream: 1, a: 50, b: 3 }])
    expect(ended(balancer, 1)).toEqual([])
    worker.drain()
    world.advance(1_000)
    expect([engine.runs[0]!.cancels, balancer.goodbyes]).toEqual([0, []])
    balancer.cancel(1)
    balancer.cancel(1)
    world.settle()
    expect(engine.runs[0]!.cancels).toBe(1)
    expect(balancer.goodbyes).toHaveLength(1)
  })

  test.each([1, 4])(
    "what nobody asks for any more is let go after its time, and with the link (time scale %d)",
    (timeScale) => {
      const { world, balancer, engine } = makeRig({ role: "prefill" })
      engine.timeScale = timeScale
      balancer.assign(1, prompt)
      world.settle()
      engine.finish(0)
      world.advance(KV_KEPT_MS / timeScale)
      expect(engine.runs[0]!.cancels).toBe(0)
      world.advance(500)
      expect(engine.runs[0]!.cancels).toBe(1)
      expect(ended(balancer, 1)).toEqual([])
      balancer.assign(2, prompt)
      world.settle()
      engine.finish(1)
      world.settle()
      balancer.connection!.cut("gone")
      world.settle()
      expect(engine.runs.map(({ cancels }) => cancels)).toEqual([1, 1])
    }
  )

  test("what is kept takes no place, up to as much again", () => {
    const { world, balancer, engine } = makeRig({ role: "prefill" })
    for (let stream = 1; stream <= 9; stream++) balancer.assign(stream, prompt)
    world.settle()
    expect(ended(balancer, 9)).toMatchObject([{ a: Reason.workerRefused }])
    for (let run = 0; run < 8; run++) engine.finish(run)
    world.settle()
    balancer.assign(10, prompt)
    world.settle()
    expect(ended(balancer, 10)).toMatchObject([{ a: Reason.workerRefused }])
    balancer.cancel(1)
    balancer.assign(11, prompt)
    world.settle()
    expect(ended(balancer, 11)).toEqual([])
    expect(engine.runs).toHaveLength(9)
  })
})

describe("a worker and its balancer", () => {
  test("it greets, registers what it offers, and beats at once and then four times a second", () => {
    const { world, balancer, states } = makeRig({ credential: "secret", speed: 0.5 })
    expect(balancer.hellos).toEqual([{ major: 1, minor: 0, role: "worker", identity: "w1", incarnation: 5 }])
    expect(balancer.frames.map(({ type, payload }) => ({ type, payload }))).toEqual([
      {
        type: Type.register,
        payload: {
          models: ["m", "n"],
          role: "both",
          capacity: 8,
          speed: 0.5,
          kvCapacityTokens: 1000,
          maxSequences: 4
        }
      }
    ])
    expect(balancer.heartbeats).toEqual([idleLoad])
    world.advance(10_000)
    expect(balancer.heartbeats.length).toBe(41)
    expect(states).toEqual(["ready"])
    expect(balancer.violations).toEqual([])
  })

  test("an assignment reaches the engine with everything in it, and the answer comes back with its numbers", () => {
    const { world, balancer, engine } = makeRig()
    const chain = Buffer.from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    balancer.assign(900, {
      attempt: 2,
      model: 1,
      promptTokens: 50,
      maxTokens: 7,
      chain,
      payload: { prompt: "hi", outputTokens: 4 }
    })
    world.settle()
    expect(engine.runs[0]!.request).toEqual({
      model: 1,
      prompt: "hi",
      promptTokens: 50,
      maxTokens: 7,
      outputTokens: 4,
      chain,
      idHigh: 0,
      idLow: 900
    })
    engine.tokens(0, 1)
    world.settle()
    engine.tokens(0, 3)
    engine.finish(0)
    world.settle()
    expect(balancer.answer(900, 2)).toMatchObject({ text: texts(4), frames: [1, 3] })
    expect(balancer.answer(900, 2).ends).toEqual([
      {
        type: Type.done,
        stream: 900,
        attempt: 2,
        epoch: EPOCH,
        a: 4,
        b: 3,
        c: 0,
        payload: { reason: "stop", worker: "w1", queueMs: 1, prefillMs: 2, totalMs: 3.5 }
      }
    ])
  })

  test("texts of any length and alphabet arrive as they are", () => {
    const word = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({ minLength: 20, maxLength: 300, size: "max" }),
      fc.integer({ min: 1, max: 70_000 }).map((length) => "\u{20ac}".repeat(length))
    )
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 5 }), (words) => {
        const { world, balancer, engine } = makeRig()
        balancer.assign(1)
        world.settle()
        balancer.credit(1, 256)
        for (const word of words) {
          engine.runs[0]!.sink.token(word)
          if (word.length % 2 === 0) world.settle()
        }
        world.settle()
        expect(balancer.answer(1)).toMatchObject({
          text: words.join("").toWellFormed(),
          tokens: words.length
        })
      }),
      { numRuns: 40 }
    )
  })

  test("no token goes beyond the credit; the end waits for the last token", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    world.settle()
    engine.tokens(0, 1000)
    engine.finish(0)
    world.settle()
    expect(balancer.answer(1)).toMatchObject({ tokens: 256, ends: [] })
    for (const [upTo, tokens] of [
      [300, 300],
      [200, 300],
      [999, 999]
    ]) {
      balancer.credit(1, upTo!)
      world.settle()
      expect(balancer.answer(1)).toMatchObject({ tokens, ends: [] })
    }
    balancer.credit(1, 5000)
    world.settle()
    expect(balancer.answer(1).text).toBe(texts(1000))
    expect(ended(balancer, 1)).toEqual([{ type: Type.done, a: 1000, c: 0 }])
  })

  test("no more than 64 KiB of frames go beyond what was read; what comes is whole and in order", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    world.settle()
    const words = Array.from({ length: 200 }, (_, i) => `${i} `.padEnd(1000, "\u{e9}"))
    for (const word of words) engine.runs[0]!.sink.token(word)
    engine.finish(0)
    world.settle()
    const frameBytes = (count: number) => 38 + Buffer.byteLength(words.slice(0, count).join(""))
    const first = balancer.answer(1).tokens
    expect(frameBytes(first)).toBeLessThanOrEqual(65_536)
    expect(frameBytes(first + 1)).toBeGreaterThan(65_536)
    // Tokens alone are of no use.
    balancer.credit(1, 500, 0)
    world.settle()
    expect(balancer.answer(1).tokens).toBe(first)
    balancer.credit(1, 500, 65_536 + 4_000)
    world.settle()
    expect(balancer.answer(1).tokens).toBe(first + 2)
    balancer.credit(1, 500)
    world.settle()
    expect(balancer.answer(1)).toMatchObject({
      text: words.join(""),
      tokens: 200,
      ends: [{ type: Type.done }]
    })
  })

  test("a token larger than the credit follows small ones of the same turn, before the end", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    world.settle()
    const words = ["a", "b", "x".repeat(100_000)]
    for (const word of words) engine.runs[0]!.sink.token(word)
    engine.finish(0)
    world.settle()
    expect(balancer.answer(1)).toMatchObject({
      text: words.join(""),
      frames: [2, 1],
      ends: [{ type: Type.done }]
    })
    expect(balancer.violations).toEqual([])
  })

  test("a client that does not read for 30 s, or leaves 4,096 tokens, is given up", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    balancer.assign(2)
    world.settle()
    engine.tokens(0, 257)
    engine.tokens(1, 256 + 4096)
    world.settle()
    expect(ended(balancer, 2)).toEqual([])
    engine.tokens(1, 1)
    world.settle()
    expect(ended(balancer, 2)).toEqual([{ type: Type.error, a: Reason.slowConsumer, c: 256 }])
    world.advance(30_000)
    expect(ended(balancer, 1)).toEqual([])
    world.advance(1_000)
    expect(ended(balancer, 1)).toEqual([{ type: Type.error, a: Reason.slowConsumer, c: 256 }])
    expect(engine.runs.map((run) => run.cancels)).toEqual([1, 1])
  })

  test("a cancelled attempt stops and is not answered, whether the CANCEL comes after its ASSIGN or before", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    world.settle()
    engine.tokens(0, 2)
    world.settle()
    balancer.cancel(1)
    balancer.cancel(1)
    world.settle()
    expect(engine.runs[0]!.cancels).toBe(1)
    engine.tokens(0, 2)
    engine.finish(0)

    // In one turn the CANCEL overtakes, as it travels in the control lane.
    balancer.assign(2)
    balancer.cancel(2)
    balancer.assign(3)
    world.settle()
    expect(engine.runs.map((run) => run.request.idLow)).toEqual([1, 3])
    expect(balancer.answer(1)).toMatchObject({ tokens: 2, ends: [] })
    expect(ended(balancer, 2)).toEqual([])
  })

  test("tokens told in the turn of the CANCEL are not sent", () => {
    const { world, balancer, engine } = makeRig()
    engine.eager = 2
    balancer.assign(1)
    balancer.connection!.send(encodeFrame(Type.cancel, { stream: 1, attempt: 1 }))
    balancer.assign(2)
    world.settle()
    expect([balancer.answer(1).tokens, balancer.answer(2).tokens]).toEqual([0, 2])
  })

  test.each([
    ["a payload that is no prompt", { payload: { prompt: 7 } }, Reason.badRequest, "prompt: Expected"],
    ["a payload that is no map", { payload: "text" }, Reason.badRequest, "payload: Expected"],
    ["a model this worker does not have", { model: 2 }, Reason.badRequest, "model: unknown here"],
    ["an older epoch", { epoch: EPOCH - 1 }, Reason.staleEpoch, "this worker has served a newer balancer"]
  ])("%s is refused, and the link stays", (_, over, reason, why) => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    balancer.assign(2, over)
    world.settle()
    expect(ended(balancer, 2)).toEqual([{ type: Type.error, a: reason, c: 0 }])
    expect(balancer.answer(2).ends[0]!.payload).toEqual({ message: expect.stringContaining(why) })
    engine.finish(0)
    world.settle()
    expect(ended(balancer, 1)).toEqual([{ type: Type.done, a: 0, c: 0 }])
  })

  test("what the engine refuses or fails ends in its reason, after the tokens it told", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    world.settle()
    engine.tokens(0, 2)
    engine.runs[0]!.sink.failed(Reason.workerFailed, "x".repeat(5000))
    world.settle()
    expect(balancer.answer(1)).toMatchObject({ tokens: 2 })
    expect(balancer.answer(1).ends).toMatchObject([
      { type: Type.error, a: Reason.workerFailed, c: 2, payload: { message: "x".repeat(1024) } }
    ])
  })

  test("an engine that fails while it takes a request is stopped as at any other time", () => {
    const { world, balancer, engine } = makeRig()
    engine.eager = 256 + 4096 + 1
    balancer.assign(1)
    world.settle()
    expect(ended(balancer, 1)).toEqual([{ type: Type.error, a: Reason.slowConsumer, c: 256 }])
    expect(engine.runs[0]!.cancels).toBe(1)
  })

  test("a full worker refuses; it takes work again when an attempt has ended", () => {
    const { world, balancer, engine } = makeRig()
    for (let stream = 1; stream <= 9; stream++) balancer.assign(stream)
    world.settle()
    expect(ended(balancer, 9)).toEqual([{ type: Type.error, a: Reason.workerRefused, c: 0 }])
    engine.finish(0)
    world.settle()
    balancer.assign(9, { attempt: 2 })
    world.settle()
    expect(engine.runs.length).toBe(9)
  })

  test("a stream given out twice ends the link, and with it all attempts", () => {
    const { world, balancer, engine } = makeRig()
    balancer.assign(1)
    balancer.assign(1, { attempt: 2 })
    world.settle()
    expect(balancer.goodbyes[0]).toStartWith("goodbye: bad_message")
    expect(engine.runs.map((run) => run.cancels)).toEqual([1])
  })

  test("frames that mean nothing here are ignored", () => {
    const { world, balancer } = makeRig()
    balancer.credit(5, 1000)
    balancer.connection!.send(encodeFrame(Type.accepted, { stream: 3 }))
    world.settle()
    world.advance(1000)
    expect([balancer.goodbyes, balancer.violations]).toEqual([[], []])
  })

  test("a lost link ends all attempts and is made again; the new one starts empty", () => {
    const { world, balancer, engine, states } = makeRig()
    balancer.assign(1)
    world.settle()
    world.cutAll()
    expect(engine.runs[0]!.cancels).toBe(1)
    engine.tokens(0, 3)
    engine.finish(0)
    world.advance(100)
    expect(states).toEqual(["ready", "lost: closed", "ready"])
    balancer.assign(1)
    world.settle()
    engine.tokens(1, 2)
    engine.finish(1)
    world.settle()
    expect(balancer.answer(1)).toMatchObject({ text: texts(2), ends: [{ type: Type.done }] })
    expect(balancer.heartbeats.length).toBeGreaterThan(1)
  })

  test.each([
    ["is gone", true],
    ["drops every link", false]
  ])("a balancer that %s is dialled at growing, jittered intervals of at most a second", (_name, isGone) => {
    const { world, balancer } = makeRig()
    world.refusing = isGone
    balancer.connection!.cut("test")
    const dialsMs: Array<number> = []
    for (let dials = world.dials; world.nowMs < 61_000;) {
      world.advance(1)
      if (world.dials > dials) dialsMs.push(world.nowMs)
      dials = world.dials
      balancer.connection?.cut("test")
    }
    const gaps = dialsMs.slice(1).map((ms, index) => ms - dialsMs[index]!)
    for (const [index, gap] of gaps.entries())
      expect(gap).toBeLessThanOrEqual(Math.min(1000, 100 * 2 ** index) + 1)
    const mean = gaps.slice(5).reduce((sum, gap) => sum + gap, 0) / (gaps.length - 5)
    expect(Math.abs(mean - 500)).toBeLessThan(120)
    world.refusing = false
    world.advance(1001)
    expect(balancer.connection?.isOpen).toBe(true)
  })

  test("a balancer that does not answer a dial is dialled again; an answer that comes too late is no second link", () => {
    const { world, balancer, states } = makeRig({}, {}, undefined, false)
    world.silent = true
    world.advance(2_000)
    expect(states).toEqual(["lost: no connection within 2000 ms"])
    world.answerDials()
    world.settle()
    expect(balancer.frames).toEqual([])
    world.advance(1_000)
    expect(states).toEqual(["lost: no connection within 2000 ms", "ready"])
    expect(balancer.frames.filter(({ type }) => type === Type.register)).toHaveLength(1)
  })

  test("it stops for good when another process has taken its name", () => {
    const { world, balancer, engine, states } = makeRig()
    balancer.assign(1)
    world.settle()
    balancer.connection!.goodbye("replaced", "a worker has registered anew under this name")
    world.advance(60_000)
    expect(states).toEqual([
      "ready",
      "lost: goodbye: replaced (a worker has registered anew under this name)",
      "stopped"
    ])
    expect([engine.runs[0]!.cancels, balancer.hellos.length]).toEqual([1, 1])
  })

  test("it proves its credential, and is refused with another one", () => {
    const right = makeRig({ credential: "secret" }, { gate: gate({ worker: ["secret"] }) })
    expect(right.states).toEqual(["ready"])
    const wrong = makeRig({ credential: "secret2" }, { gate: gate({ worker: ["secret"] }) })
    expect(wrong.states).toEqual(["lost: goodbye: unauthorized (not authorised as worker)"])
    const without = makeRig({}, { gate: gate({ worker: ["secret"] }) })
    expect(without.states).toEqual(wrong.states)
  })

  test("a balancer that refuses it is asked again, ever more slowly", () => {
    const { world, balancer, states } = makeRig({}, { refuse: "unauthorized" })
    world.advance(60_000)
    expect(balancer.hellos.length).toBeGreaterThan(60)
    expect(balancer.hellos.length).toBeLessThan(200)
    expect(states).toEqual(["lost: goodbye: unauthorized (no)"])
  })

  test("a refusal is told once, also when there was no balancer before", () => {
    const secret = "secret"
    const { world, balancer, states } = makeRig(
      { credential: "other" },
      { gate: gate({ worker: [secret] }) },
      undefined,
      false
    )
    world.refusing = true
    world.advance(5_000)
    world.refusing = false
    world.advance(5_000)
    world.refusing = true
    world.advance(5_000)
    world.refusing = false
    world.advance(5_000)
    expect(balancer.hellos.length).toBeGreaterThan(6)
    const refused = "lost: goodbye: unauthorized (not authorised as worker)"
    expect(states).toEqual([expect.stringMatching(/^lost: (?!goodbye)/), refused])
  })

  test.each([
    ["two seconds", {}, 0],
    ["two seconds, though it waits less itself,", { lostMs: 500 }, 0],
    ["as long as it waits itself", { lostMs: 5_000 }, 3_000]
  ])("a balancer that is silent for %s is given up, and its work with it", (_, options, moreMs) => {
    const { world, balancer, engine } = makeRig(options)
    balancer.assign(1)
    world.settle()
    // It answers PINGs: the lease holds.
    world.advance(10_000)
    expect(engine.runs[0]!.cancels).toBe(0)
    // The last sign of life is at most a PING and a sweep old.
    Object.assign(balancer.connection!, { data: () => undefined })
    world.advance(1_200 + moreMs)
    expect(engine.runs[0]!.cancels).toBe(0)
    world.advance(1_100)
    expect(engine.runs[0]!.cancels).toBe(1)
  })

  test("muted, it sends no heartbeat and does everything else", () => {
    let muted = false
    const { world, balancer, engine } = makeRig({ muted: () => muted })
    muted = true
    const before = balancer.heartbeats.length
    balancer.assign(1)
    world.settle()
    engine.finish(0)
    world.advance(5_000)
    expect(balancer.heartbeats.length).toBe(before)
    expect(ended(balancer, 1).length).toBe(1)
  })

  describe("draining", () => {
    test.each([
      ["the worker", false],
      ["the balancer", true]
    ])("at the wish of %s: it refuses new work, finishes the old, says goodbye and stops", (_, asked) => {
      const { world, balancer, engine, worker, states } = makeRig()
      let stops = 0
      worker.whenStopped(() => stops++)
      balancer.assign(1)
      world.settle()
      if (asked) balancer.drain()
      else worker.drain()
      world.settle()
      worker.drain()
      balancer.assign(2)
      world.settle()
      expect(balancer.frames.map(({ type }) => type)).toEqual([Type.register, Type.drain, Type.error])
      expect(ended(balancer, 2)).toEqual([{ type: Type.error, a: Reason.draining, c: 0 }])
      world.advance(60_000)
      expect(stops).toBe(0)
      engine.tokens(0, 300)
      engine.finish(0)
      world.settle()
      expect(stops).toBe(0)
      balancer.credit(1, 300)
      world.settle()
      expect(ended(balancer, 1)).toEqual([{ type: Type.done, a: 300, c: 0 }])
      expect(balancer.goodbyes).toEqual(["goodbye: drain (drained)"])
      expect(states).toEqual(["ready", "draining", "stopped"])
      expect(stops).toBe(1)
      expect(world.dials).toBe(1)
    })

    test("with nothing to do, or no link, it stops at once", () => {
      const connected = makeRig()
      connected.worker.drain()
      connected.world.settle()
      expect(connected.states.at(-1)).toBe("stopped")

      const alone = makeRig()
      alone.world.refusing = true
      alone.world.cutAll()
      alone.worker.drain()
      alone.world.advance(10_000)
      expect(alone.states.at(-1)).toBe("stopped")
      expect(alone.world.dials).toBe(1)
    })

    test("losing the link ends it", () => {
      const { world, balancer, worker, states } = makeRig()
      balancer.assign(1)
      world.settle()
      worker.drain()
      world.cutAll()
      world.advance(10_000)
      expect(states).toEqual(["ready", "draining", "stopped"])
      expect(world.dials).toBe(1)
    })
  })

  test("stopped, it leaves at once: no timer, no dial, no attempt remains", () => {
    for (const when of ["dialling", "open", "waiting to dial"]) {
      const { world, balancer, engine, worker, states } = makeRig({}, {}, undefined, when !== "dialling")
      if (when === "open") balancer.assign(1)
      if (when === "waiting to dial") world.cutAll()
      if (when !== "dialling") world.settle()
      worker.stop()
      worker.stop()
      world.advance(10_000)
      expect(states.at(-1)).toBe("stopped")
      expect(engine.runs.map((run) => run.cancels)).toEqual(when === "open" ? [1] : [])
      expect([balancer.connection, world.dials]).toEqual([undefined, 1])
      // The stub's own sweep.
      expect(world.timerCount).toBe(1)
    }
  })

  test("whatever the order of things, every assignment ends exactly once, and no token is lost, doubled or beyond its credit", () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant("assign" as const) }) },
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("tokens" as const),
          which: fc.nat(20),
          count: fc.integer({ min: 1, max: 200 })
        })
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("finish" as const), which: fc.nat(20) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const), which: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(20) }) },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant("credit" as const),
          which: fc.nat(20),
          more: fc.integer({ min: 1, max: 300 })
        })
      },
      { weight: 5, arbitrary: fc.record({ kind: fc.constant("settle" as const) }) }
    )
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 100 }), fc.integer(), (steps, seed) => {
        const { world, balancer, engine, worker } = makeRig({}, {}, seed)
        const over = new Set<number>()
        const cancelled = new Set<number>()
        const credits = new Map<number, number>()
        let stream = 0
        for (const action of steps) {
          const run =
            "which" in action ? engine.runs[action.which % Math.max(1, engine.runs.length)] : undefined
          if (action.kind === "assign") balancer.assign(++stream)
          else if (action.kind === "settle") world.settle()
          else if (action.kind === "cancel") {
            const target = 1 + (action.which % Math.max(1, stream))
            if (stream === 0 || balancer.answer(target).ends.length > 0) continue
            cancelled.add(target)
            balancer.cancel(target)
          } else if (run === undefined || over.has(run.request.idLow) || run.cancels > 0) continue
          else if (action.kind === "tokens") engine.tokens(engine.runs.indexOf(run), action.count)
          else if (action.kind === "credit") {
            const id = run.request.idLow
            credits.set(id, (credits.get(id) ?? 256) + action.more)
            balancer.credit(id, credits.get(id)!)
          } else {
            over.add(run.request.idLow)
            if (action.kind === "fail") run.sink.failed(Reason.workerFailed, "puppet")
            else engine.finish(engine.runs.indexOf(run))
          }
          for (const [id, { tokens }] of [...balancer.answers].map(
            ([key, answer]) => [Number.parseInt(key, 10), answer] as const
          )) {
            expect(tokens).toBeLessThanOrEqual(credits.get(id) ?? 256)
          }
        }
        world.settle()
        // The end: whoever still runs finishes, everyone reads.
        worker.drain()
        for (const run of engine.runs)
          if (run.cancels === 0 && !over.has(run.request.idLow)) engine.finish(engine.runs.indexOf(run))
        for (let id = 1; id <= stream; id++)
          if (balancer.connection !== undefined) balancer.credit(id, 1_000_000)
        world.settle()
        for (let id = 1; id <= stream; id++) {
          const { ends, text, tokens } = balancer.answer(id)
          expect(ends.length).toBeLessThanOrEqual(1)
          if (!cancelled.has(id)) expect(ends.length).toBe(1)
          expect(text).toBe(texts(tokens))
          const run = engine.runs.find(({ request }) => request.idLow === id)
          if (ends[0]?.type === Type.done) expect(tokens).toBe(run!.told)
        }
        expect(balancer.violations).toEqual([])
        expect(balancer.goodbyes).toEqual(["goodbye: drain (drained)"])
      }),
      { numRuns: 60 }
    )
  })

  live("over a real socket, with the simulated engine: 100 answers, whole and in order; then it drains", () =>
    Effect.gen(function* () {
      const turn = new Turn()
      const context = { turn, timers: systemTimers, limits: defaultLimits }
      let left = 100
      const balancer = new StubBalancer({
        transport: bunTransport,
        timers: systemTimers,
        turn,
        told: (frame, stub) => {
          if (frame.type === Type.register)
            for (let stream = 1; stream <= 100; stream++) stub.assign(stream, { maxTokens: 20 })
          if (frame.type === Type.token) stub.credit(frame.stream, frame.a + frame.b + 256)
          if (frame.type === Type.done && --left === 0) stub.drain()
        }
      })
      const engine = new SimulatedEngine({
        models: ["m"],
        preset: presets["8b-h100"],
        timeScale: 50,
        clock: { ...systemTimers, soon: (run) => turn.soon({ run }) },
        rng: makeRng(1)
      })
      const worker = yield* startWorker({
        name: "w1",
        incarnation: 1,
        engine,
        address: { host: "127.0.0.1", port: balancer.server.port },
        transport: bunTransport,
        context,
        rng: makeRng(1)
      })
      yield* stopped(worker)
      for (let stream = 1; stream <= 100; stream++) {
        const { text, tokens, ends } = balancer.answer(stream)
        expect(tokens).toBe(20)
        expect(text).toBe(Array.from({ length: 20 }, (_, index) => tokenText(stream, index)).join(""))
        expect(ends.map(({ type }) => type)).toEqual([Type.done])
      }
      expect(engine.load()).toMatchObject({
        requestsDone: 100,
        outputTokens: 2000,
        running: 0,
        kvUsedTokens: 0
      })
      expect(balancer.violations).toEqual([])
      yield* Effect.callback<void>((resume) => balancer.server.close("over", () => resume(Effect.void)))
    })
  )
})
