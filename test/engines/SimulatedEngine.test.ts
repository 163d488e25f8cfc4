import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import {
  type CacheSink,
  type EngineFinish,
  type EngineRequest,
  KV_COMES_MS
} from "../../src/engines/Engine.ts"
import { SimulatedEngine, type SimulatedEngineOptions } from "../../src/engines/SimulatedEngine.ts"
import { chainKeys } from "../../src/engines/simulated/chainKeys.ts"
import { ContinuousBatch } from "../../src/engines/simulated/ContinuousBatch.ts"
import { type EnginePreset, presets } from "../../src/engines/simulated/CostModel.ts"
import { tokenText } from "../../src/engines/simulated/tokenText.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { makeRng } from "../../src/structures/Rng.ts"

/** A clock that moves when told. Timers run late by whatever `move` jumps over. */
class ManualClock {
  now = 5000
  private timers: Array<{ readonly atMs: number; readonly run: () => void }> = []
  readonly nowMs = () => this.now
  readonly after = (delayMs: number, run: () => void) => {
    const timer = { atMs: this.now + delayMs, run }
    this.timers.push(timer)
    return () => {
      this.timers = this.timers.filter((other) => other !== timer)
    }
  }
  readonly soon = (run: () => void) => void this.after(0, run)
  /** Runs what is due, then jumps ahead. */
  move(byMs: number): void {
    this.now += byMs
    for (let round = 0; round < 10_000; round++) {
      const due = this.timers.filter((timer) => timer.atMs <= this.now)
      if (due.length === 0) return
      this.timers = this.timers.filter((timer) => timer.atMs > this.now)
      for (const timer of due) timer.run()
    }
    expect().fail("timers never come to an end")
  }
  get pending(): number {
    return this.timers.length
  }
  /** Until nobody waits for anything. */
  rest(): void {
    while (this.pending > 0) this.move(10)
  }
}

/** Every step takes 10 ms, whatever is in it. */
const even: EnginePreset = {
  cost: { baseMs: 10, prefillTokenMs: 0, prefillAttentionMs: 0, decodeSequenceMs: 0, decodeContextMs: 0 },
  kvCapacityTokens: 100_000,
  kvBytesPerToken: 1
}

const noChain = Buffer.alloc(0)
const asked = (fields: Partial<EngineRequest> = {}): EngineRequest => ({
  model: 0,
  prompt: null,
  promptTokens: 100,
  maxTokens: 5,
  outputTokens: undefined,
  chain: noChain,
  idHigh: 1,
  idLow: 2,
  ...fields
})

const makeRig = (options: Partial<SimulatedEngineOptions> = {}) => {
  const clock = new ManualClock()
  const engine = new SimulatedEngine({ models: ["m"], preset: even, clock, rng: makeRng(1), ...options })
  const submit = (fields: Partial<EngineRequest> = {}) => {
    const answer = {
      tokens: [] as Array<string>,
      atMs: [] as Array<number>,
      finish: undefined as EngineFinish | undefined,
      failed: undefined as Reason | undefined,
      cancel: () => {}
    }
    answer.cancel = engine.submit(asked(fields), {
      token: (text) => {
        answer.tokens.push(text)
        answer.atMs.push(clock.now - 5000)
      },
      finished: (finish) => (answer.finish = finish),
      failed: (reason) => (answer.failed = reason)
    })
    return answer
  }
  return { clock, engine, submit }
}

describe("the simulated engine in real time", () => {
  test("an answer comes token by token, at the ends of the steps", () => {
    const { clock, submit } = makeRig()
    const answer = submit()
    for (let ms = 0; ms < 60; ms++) clock.move(1)
    expect(answer.atMs).toEqual([10, 20, 30, 40, 50])
    expect(answer.finish).toEqual({
      reason: "length",
      outputTokens: 5,
      cachedTokens: 0,
      queueMs: 0,
      prefillMs: 10,
      totalMs: 50
    })
  })

  test("late timers do not add up, and steps that are due together are told in order", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 10, maxLength: 60 }), (jumps) => {
        const { clock, submit } = makeRig()
        const one = submit({ maxTokens: 1000 })
        const two = submit({ maxTokens: 7, idLow: 3 })
        let elapsed = 0
        for (const jump of jumps) {
          clock.move(jump)
          elapsed += jump
          expect(one.tokens.length).toBe(Math.floor(elapsed / 10))
        }
        expect(one.tokens).toEqual(one.tokens.map((_, index) => tokenText(1 ^ 2, index)))
        expect(two.tokens.length).toBe(Math.min(7, Math.max(0, Math.floor(elapsed / 10) - 1)))
      })
    )
  })

  test("a request that comes while timers are late waits for the step that is under way by then", () => {
    const asked = fc.record({ gapMs: fc.nat(40), maxTokens: fc.integer({ min: 1, max: 9 }) })
    const finishes = (requests: ReadonlyArray<{ gapMs: number; maxTokens: number }>, punctual: boolean) => {
      const { clock, submit } = makeRig()
      const answers = requests.map(({ gapMs, maxTokens }, idLow) => {
        if (punctual) for (let ms = 0; ms < gapMs; ms++) clock.move(1)
        else clock.now += gapMs
        return submit({ maxTokens, idLow })
      })
      clock.rest()
      return answers.map(({ finish }) => finish)
    }
    fc.assert(
      fc.property(fc.array(asked, { minLength: 1, maxLength: 20 }), (requests) =>
        expect(finishes(requests, false)).toEqual(finishes(requests, true))
      )
    )
  })

  test("runs the schedule of the pure core, at any time scale", () => {
    const preset = presets["8b-h100"]
    const request = fc.record({
      gapMs: fc.integer({ min: 0, max: 100 }),
      promptTokens: fc.integer({ min: 1, max: 4000 }),
      maxTokens: fc.integer({ min: 1, max: 30 })
    })
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 8 }),
        fc.constantFrom(1, 4, 32),
        (requests, timeScale) => {
          const { clock, submit } = makeRig({ preset, timeScale })
          const answers = requests.map(({ gapMs, ...fields }) => {
            for (let ms = 0; ms < gapMs; ms++) clock.move(1 / timeScale)
            return submit(fields)
          })
          for (let ms = 0; ms < 20_000 && answers.some((answer) => answer.finish === undefined); ms++)
            clock.move(1 / timeScale)

          const totals: Array<number> = []
          const batch = new ContinuousBatch(
            { cost: preset.cost, kvCapacityTokens: preset.kvCapacityTokens, blockTokens: 256 },
            {
              token: () => undefined,
              finished: (sequence, nowMs) => totals.push(nowMs - sequence.submittedMs)
            }
          )
          let stepEndMs = Infinity
          let arrivalMs = 0
          const runUntil = (untilMs: number) => {
            while (stepEndMs <= untilMs) {
              const durationMs = batch.step(stepEndMs)
              stepEndMs = durationMs === 0 ? Infinity : stepEndMs + durationMs
            }
          }
          for (const { gapMs, promptTokens, maxTokens } of requests) {
            arrivalMs += gapMs
            runUntil(arrivalMs)
            batch.submit({ promptTokens, outputTokens: maxTokens, chain: new Float64Array(0) }, arrivalMs)
            if (stepEndMs === Infinity) stepEndMs = arrivalMs + batch.step(arrivalMs)
          }
          runUntil(Number.MAX_SAFE_INTEGER)
          const measured = answers.map((answer) => answer.finish!.totalMs).toSorted((a, b) => a - b)
          for (const [i, total] of totals.toSorted((a, b) => a - b).entries())
            expect(measured[i]).toBeCloseTo(total, 6)
        }
      ),
      { numRuns: 30 }
    )
  })

  test("no time of an answer is negative, however late the timers are", () => {
    const step = fc.oneof(
      fc.record({ move: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ submit: fc.integer({ min: 1, max: 6 }) })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { clock, submit } = makeRig()
        const answers: Array<ReturnType<typeof submit>> = []
        for (const step of steps) {
          // Time goes by without a timer: the next submit finds steps that are due.
          if ("move" in step) clock.now += step.move
          else answers.push(submit({ maxTokens: step.submit }))
          if (step === steps[steps.length >> 1]) clock.move(0)
        }
        for (let i = 0; i < 100; i++) clock.move(10)
        for (const { finish } of answers) {
          expect(finish!.queueMs).toBeGreaterThanOrEqual(0)
          expect(finish!.prefillMs).toBeGreaterThan(0)
          expect(finish!.totalMs).toBeGreaterThanOrEqual(finish!.queueMs + finish!.prefillMs)
        }
      })
    )
  })

  test("an engine that was frozen goes on from where it is, and does not make up for it", () => {
    const { clock, submit } = makeRig()
    const answer = submit({ maxTokens: 10_000 })
    clock.move(100)
    expect(answer.tokens.length).toBe(10)
    clock.move(30_000)
    expect(answer.tokens.length).toBe(11)
    clock.move(10)
    expect(answer.tokens.length).toBe(12)
  })

  test("an engine that cannot keep up lets the sockets have their turn", () => {
    const clock = new ManualClock()
    // Every look at the clock takes as long as two steps.
    const nowMs = () => (clock.now += 0.02)
    const { submit } = makeRig({
      clock: { nowMs, after: clock.after, soon: clock.soon },
      timeScale: 1000
    })
    const answer = submit({ maxTokens: 10_000 })
    expect(answer.tokens.length).toBeGreaterThan(10)
    expect(answer.tokens.length).toBeLessThan(100)
    expect(clock.pending).toBe(1)
  })

  test.each([
    ["the answer's own length ends it", { outputTokens: 3, maxTokens: 5 }, 3, "stop"],
    ["the limit cuts it", { outputTokens: 9, maxTokens: 5 }, 5, "length"],
    ["an unknown length means the limit", { maxTokens: 4 }, 4, "length"],
    ["at least one token", { outputTokens: 0, maxTokens: 0 }, 1, "stop"]
  ] as const)("%s", (_, fields, tokens, reason) => {
    const { clock, submit } = makeRig()
    const answer = submit(fields)
    clock.move(200)
    expect(answer.tokens.length).toBe(tokens)
    expect(answer.finish?.reason).toBe(reason)
    expect(answer.finish?.outputTokens).toBe(tokens)
  })

  test("a request that can never fit is refused at once; the engine stays usable", () => {
    const { clock, engine, submit } = makeRig({ kvCapacityTokens: 1000 })
    expect(submit({ promptTokens: 998, maxTokens: 20 }).failed).toBe(Reason.contextLength)
    const answer = submit({ promptTokens: 900, maxTokens: 20 })
    clock.move(500)
    expect(answer.finish?.outputTokens).toBe(20)
    expect(engine.load()).toMatchObject({ requestsDone: 1, requestsFailed: 1, running: 0, kvUsedTokens: 0 })
  })

  test("a cancelled request is told nothing more, frees its place within a step, and may be cancelled again", () => {
    const { clock, engine, submit } = makeRig({ maxNumSeqs: 1 })
    const first = submit({ maxTokens: 100 })
    const second = submit({ maxTokens: 2 })
    const third = submit({ maxTokens: 2 })
    clock.move(35)
    first.cancel()
    third.cancel()
    first.cancel()
    clock.move(5)
    expect(engine.load()).toMatchObject({ running: 1, waiting: 0 })
    clock.move(100)
    expect([first.tokens.length, second.tokens.length, third.tokens.length]).toEqual([3, 2, 0])
    second.cancel()
    expect(engine.load()).toMatchObject({
      requestsDone: 1,
      requestsCancelled: 2,
      outputTokens: 5,
      running: 0,
      waiting: 0
    })
  })

  test("counts what it did: prompts, cached prompts, answers", () => {
    const { clock, engine, submit } = makeRig({ blockTokens: 32 })
    const chain = Buffer.from([1, 2, 3].flatMap((hash) => [0, 0, 0, hash, 0, 0, 0, 0]))
    for (const maxTokens of [4, 6]) {
      submit({ chain, maxTokens })
      clock.move(200)
    }
    // A chain of more blocks than the prompt has was made with other blocks.
    submit({ chain: Buffer.concat([chain, chain]), maxTokens: 1 })
    clock.move(200)
    expect(engine.load()).toMatchObject({
      requestsDone: 3,
      promptTokens: 300,
      cachedPromptTokens: 96,
      outputTokens: 11
    })
  })

  describe("faults", () => {
    test("slow: steps take as many times longer", () => {
      const { clock, engine, submit } = makeRig()
      engine.faults.slowFactor = 3
      const answer = submit({ maxTokens: 100 })
      clock.move(90)
      expect(answer.tokens.length).toBe(3)
      engine.faults.slowFactor = 1
      clock.move(30)
      expect(answer.tokens.length).toBe(4)
      clock.move(30)
      expect(answer.tokens.length).toBe(7)
      expect(engine.load()).toMatchObject({ steps: 8, busyMs: 4 * 30 + 4 * 10 })
    })

    test("stall: nothing happens for so long, busy or idle; then it goes on", () => {
      const { clock, engine, submit } = makeRig()
      const answer = submit({ maxTokens: 100 })
      clock.move(25)
      engine.faults.stall(400)
      // Half of a step was left.
      clock.move(404)
      expect(answer.tokens.length).toBe(2)
      clock.move(1)
      expect(answer.tokens.length).toBe(3)

      const idle = makeRig()
      idle.engine.faults.stall(400)
      const late = idle.submit()
      idle.clock.move(409)
      expect(late.tokens.length).toBe(0)
      idle.clock.move(1)
      expect(late.tokens.length).toBe(1)
    })

    test("fail fast: that share of the requests fails at once", () => {
      const { engine, submit } = makeRig()
      engine.faults.failFastShare = 0.25
      const failed = Array.from({ length: 2000 }, () => submit().failed).filter(
        (reason) => reason === Reason.workerFailed
      )
      expect(Math.abs(failed.length - 500)).toBeLessThan(100)
      engine.faults.failFastShare = 1
      expect(submit().failed).toBe(Reason.workerFailed)
    })

    test("crash: does what the worker gave it", () => {
      let crashes = 0
      const { engine } = makeRig({ crash: () => crashes++ })
      engine.faults.crash()
      expect(crashes).toBe(1)
    })
  })

  test("burning: every step costs its time in CPU, in pieces between which the sockets have their turn", () => {
    const pieces: Array<number> = []
    const clock = new ManualClock()
    const { submit } = makeRig({
      clock,
      timeScale: 2,
      burn: (cpuMs) => {
        pieces.push(cpuMs)
        clock.now += cpuMs
      }
    })
    const answer = submit({ maxTokens: 3 })
    let turns = 0
    for (; clock.pending > 0; turns++) clock.move(0)
    expect(answer.finish?.outputTokens).toBe(3)
    expect(pieces.reduce((a, b) => a + b, 0)).toBeCloseTo((3 * 10) / 2, 9)
    expect(Math.max(...pieces)).toBeLessThanOrEqual(1)
    expect(answer.finish?.totalMs).toBeCloseTo(30, 9)
  })

  test.each([[undefined], [() => undefined]])("closed, it does nothing more", (burn) => {
    const { clock, engine, submit } = makeRig({ burn })
    const answer = submit({ maxTokens: 100 })
    engine.close()
    clock.move(1000)
    expect(answer.tokens.length).toBe(0)
    expect(clock.pending).toBe(0)
  })
})

/** What a listener knows of the cache: by model and hash, the hash before it. Never a block without its parent. */
class Listener implements CacheSink {
  readonly known = new Map<string, string>()
  readonly stored = (model: number, chain: Uint8Array): void => {
    const [first, ...blocks] = hashesIn(chain).map((hash) => `${model} ${hash}`)
    let parent = first!
    expect(blocks.length).toBeGreaterThan(0)
    if (!parent.endsWith(start)) expect([...this.known.keys()]).toContain(parent)
    for (const block of blocks) {
      expect([...this.known.keys()]).not.toContain(block)
      this.known.set(block, parent)
      parent = block
    }
  }
  readonly removed = (model: number, hashes: Uint8Array): void => {
    for (const hash of hashesIn(hashes)) {
      expect(this.known.delete(`${model} ${hash}`)).toBe(true)
      expect([...this.known.values()]).not.toContain(`${model} ${hash}`)
    }
  }
  /** Blocks at the front of the chain. */
  match(model: number, chain: Uint8Array): number {
    const hashes = hashesIn(chain)
    const end = hashes.findIndex((hash) => !this.known.has(`${model} ${hash}`))
    return end < 0 ? hashes.length : end
  }
}
const start = "0".repeat(16)
const hashesIn = (bytes: Uint8Array): ReadonlyArray<string> =>
  Buffer.from(bytes).toString("hex").match(/.{16}/g) ?? []

describe("what is told of the prefix cache", () => {
  const BLOCK = 16
  /** Chains of a family are equal up to the shorter one; families differ in the first bits of a hash, or in the last. */
  const chainOf = (family: number, depth: number): Buffer => {
    const chain = Buffer.alloc(8 * depth)
    for (let i = 0; i < depth; i++) {
      const { high, low } = hash64(`${family >> 1} ${i}`)
      chain.writeUInt32BE(high, 8 * i)
      chain.writeUInt32BE((low ^ ((family & 1) << 11)) >>> 0, 8 * i + 4)
    }
    return chain
  }
  const request = fc.record({
    model: fc.nat(1),
    family: fc.nat(5),
    depth: fc.integer({ min: 1, max: 12 }),
    outputTokens: fc.integer({ min: 1, max: 20 }),
    waitMs: fc.nat(60),
    cancelled: fc.boolean()
  })

  test("is what a request finds there: at every moment closed under prefixes, in the very hashes that came, for each model", () => {
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 40 }),
        fc.integer({ min: 12, max: 60 }),
        fc.nat(20),
        (requests, blocks, late) => {
          const listener = new Listener()
          const { clock, engine, submit } = makeRig({
            models: ["m", "n"],
            blockTokens: BLOCK,
            kvCapacityTokens: BLOCK * blocks
          })
          const ask = (model: number, chain: Buffer, outputTokens: number) =>
            submit({
              model,
              chain,
              outputTokens,
              maxTokens: 100,
              promptTokens: (chain.length / 8) * BLOCK + 1
            })
          for (const [i, { model, family, depth, outputTokens, waitMs, cancelled }] of requests.entries()) {
            // Who begins to listen late hears the rest when it asks for everything.
            if (i === late) engine.watchCache(listener).tellAll()
            const { cancel } = ask(model, chainOf(family, depth), outputTokens)
            clock.move(waitMs)
            if (cancelled) cancel()
          }
          clock.rest()
          if (requests.length <= late) engine.watchCache(listener).tellAll()
          for (const model of [0, 1]) {
            for (let family = 0; family < 6; family++) {
              const chain = chainOf(family, 8)
              const matched = listener.match(model, chain)
              const answer = ask(model, chain, 1)
              clock.rest()
              expect(answer.finish?.cachedTokens).toBe(matched * BLOCK)
            }
          }
          expect(engine["cached"]["rests"].size).toBe(listener.known.size)
          const visitor = new Listener()
          const before = engine.watchCache(new Listener())
          const watch = engine.watchCache(visitor)
          before.tellAll()
          before.stop()
          expect(visitor.known.size).toBe(0)
          watch.tellAll()
          expect(visitor.known).toEqual(listener.known)
          watch.stop()
          ask(0, chainOf(100, 3), 1)
          clock.rest()
          expect(visitor.known).toEqual(listener.known)
        }
      )
    )
  })

  test("contradicting chains are told without a fault, and go with the cache", () => {
    const hash = fc.nat(4).map((n) => BigInt(n))
    fc.assert(
      fc.property(fc.array(fc.array(hash, { minLength: 1, maxLength: 8 }), { maxLength: 20 }), (chains) => {
        const known = new Set<string>()
        const { clock, engine, submit } = makeRig({ blockTokens: BLOCK, kvCapacityTokens: BLOCK * 20 })
        engine.watchCache({
          stored: (_, chain) =>
            hashesIn(chain)
              .slice(1)
              .forEach((each) => known.add(each)),
          removed: (_, hashes) => hashesIn(hashes).forEach((each) => known.delete(each))
        })
        for (const hashes of chains) {
          const chain = Buffer.alloc(8 * hashes.length)
          for (const [i, value] of hashes.entries()) chain.writeBigUInt64BE(value << 20n, 8 * i)
          submit({ chain, promptTokens: hashes.length * BLOCK, outputTokens: 1 })
          clock.rest()
          expect(known.size).toBeLessThanOrEqual(20)
        }
        submit({ promptTokens: BLOCK * 20, outputTokens: 1 })
        clock.rest()
        expect([...known]).toEqual([])
      })
    )
  })
})

describe("chain keys", () => {
  test("equal hashes give equal keys; hashes that differ in their upper 53 bits give different ones", () => {
    const hash = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
    fc.assert(
      fc.property(fc.array(hash, { maxLength: 20 }), fc.nat(7), (hashes, tail) => {
        const bytes = Buffer.alloc(hashes.length * 8 + tail)
        for (const [i, value] of hashes.entries()) bytes.writeBigUInt64BE(value, i * 8)
        expect([...chainKeys(bytes)]).toEqual(hashes.map((value) => Number(value >> 11n)))
      })
    )
  })
})

describe("a split request", () => {
  /** A token takes 1 ms to another engine. */
  const slow = { transferGbps: 8e-6 }

  test("has the tokens of a whole one, and is counted where its parts were done", () => {
    fc.assert(
      fc.property(
        fc.record({
          promptTokens: fc.integer({ min: 1, max: 3000 }),
          maxTokens: fc.integer({ min: 1, max: 30 }),
          outputTokens: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
          idLow: fc.nat()
        }),
        (fields) => {
          const [whole, reader, producer] = [makeRig(), makeRig(), makeRig()]
          const expected = whole.submit(fields)
          const read = reader.submit({ ...fields, part: "prefill" })
          const answer = producer.submit({ ...fields, part: "decode" })
          for (const { clock } of [whole, reader, producer]) clock.rest()
          expect(read).toMatchObject({ tokens: [], finish: { outputTokens: 0, cachedTokens: 0 } })
          expect(answer.tokens).toEqual(expected.tokens)
          expect(answer.finish!.reason).toBe(expected.finish!.reason)
          const { promptTokens } = fields
          expect(reader.engine.load()).toMatchObject({ promptTokens, outputTokens: 0, requestsDone: 1 })
          expect(producer.engine.load()).toMatchObject({
            promptTokens: 0,
            outputTokens: answer.tokens.length,
            stepPrefillTokens: 1
          })
        }
      )
    )
  })

  test("keeps its KV cache until it is cancelled, which is not counted, and lets those go on who wait for room", () => {
    const { clock, engine, submit } = makeRig({ kvCapacityTokens: 128 })
    const read = submit({ part: "prefill" })
    clock.rest()
    const waiting = submit()
    clock.rest()
    expect([read.finish?.prefillMs, waiting.tokens.length, engine.load().kvUsedTokens]).toEqual([10, 0, 112])
    clock.move(1000)
    read.cancel()
    read.cancel()
    clock.rest()
    expect(waiting.tokens).toHaveLength(5)
    expect(engine.load()).toMatchObject({ kvUsedTokens: 0, requestsCancelled: 0, requestsDone: 2 })
  })

  test.each([1, 4])("begins when its KV cache has come, to the moment, at time scale %d", (timeScale) => {
    const { clock, submit } = makeRig({ ...slow, timeScale })
    const answer = submit({ part: "decode", promptTokens: 50 })
    for (let ms = 0; ms < 100; ms++) clock.move(1 / timeScale)
    expect(answer.atMs).toEqual([60, 70, 80, 90, 100].map((ms) => ms / timeScale))
    expect(answer.finish).toMatchObject({ cachedTokens: 49, queueMs: 0, prefillMs: 60, totalMs: 100 })
  })

  test("begins then also where timers are late", () => {
    const { clock, submit } = makeRig(slow)
    const answer = submit({ part: "decode", promptTokens: 50 })
    for (let ms = 0; ms < 120; ms += 7) clock.move(7)
    expect(answer.finish).toMatchObject({ prefillMs: 60, totalMs: 100 })
  })

  test("that is under way holds up nobody, comes in time whatever else comes, and goes when it is cancelled", () => {
    const { clock, engine, submit } = makeRig(slow)
    const [first, second] = [50, 75].map((promptTokens) => submit({ part: "decode", promptTokens }))
    clock.move(20)
    const whole = submit({ maxTokens: 2 })
    expect(clock.pending).toBe(1)
    for (let ms = 0; ms < 60; ms++) clock.move(1)
    expect(whole.atMs).toEqual([30, 40])
    // Its KV cache came at 50, when the engine was idle.
    expect(first!.atMs.slice(0, 2)).toEqual([60, 70])
    second!.cancel()
    clock.rest()
    expect([first!.tokens.length, second!.tokens.length]).toEqual([5, 0])
    expect(engine.load()).toMatchObject({ kvUsedTokens: 0, running: 0, requestsCancelled: 1 })
  })

  test.each([1, 4])(
    "computes its prompt itself where its KV cache would come too late, at time scale %d",
    (timeScale) => {
      const { clock, engine, submit } = makeRig({ ...slow, timeScale })
      const answer = submit({ part: "decode", promptTokens: KV_COMES_MS + 1 })
      clock.rest()
      expect(answer.tokens).toHaveLength(5)
      expect(answer.atMs[0]).toBeLessThan(200 / timeScale)
      expect(engine.load().stepPrefillTokens).toBe(KV_COMES_MS + 1)
    }
  )
})
