import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { ContinuousBatch } from "../../src/engines/simulated/ContinuousBatch.ts"
import { presets, stepMs } from "../../src/engines/simulated/CostModel.ts"
import type { PrefixNode } from "../../src/engines/simulated/KvCache.ts"
import type { BatchRequest, Sequence } from "../../src/engines/simulated/Sequence.ts"

const { cost } = presets["8b-h100"]
const noChain = new Float64Array(0)

interface Entry extends BatchRequest {
  readonly id: number
}

/** An engine with a log of what it told, and every request it was given. */
const makeRig = (options: {
  readonly pages: number
  readonly seqs?: number
  readonly budget?: number
  readonly transferTokenMs?: number
  readonly transferWithinMs?: number
  readonly everyToken?: boolean
}) => {
  const log: Array<string> = []
  const told = new Map<number, number>()
  const batch = new ContinuousBatch<Entry>(
    {
      cost,
      kvCapacityTokens: options.pages * 16,
      blockTokens: 16,
      maxNumSeqs: options.seqs ?? 4,
      maxBatchedTokens: options.budget ?? 64,
      transferTokenMs: options.transferTokenMs ?? 0.5,
      transferWithinMs: options.transferWithinMs ?? Number.POSITIVE_INFINITY,
      everyToken: options.everyToken ?? true
    },
    {
      token: (sequence, index, nowMs) => {
        expect(nowMs).toBeGreaterThanOrEqual(sequence.arrivesMs)
        if (options.everyToken !== false) expect(index).toBe(told.get(sequence.request.id) ?? 0)
        told.set(sequence.request.id, index + 1)
        log.push(`token ${sequence.request.id} ${index} ${nowMs}`)
      },
      finished: (sequence, nowMs) => log.push(`finished ${sequence.request.id} ${nowMs}`)
    }
  )
  let nowMs = 0
  const rig = {
    batch,
    log,
    told,
    sequences: [] as Array<Sequence<Entry>>,
    /** Of all steps begun. */
    sums: {
      steps: 0,
      busyMs: 0,
      stepPrefillTokens: 0,
      stepAttention: 0,
      stepDecodes: 0,
      stepContextTokens: 0
    },
    /** Of an idle engine, waits for the next KV cache. */
    step: (): number => {
      const durationMs = batch.step(nowMs)
      nowMs += durationMs
      if (durationMs === 0 && batch.nextArrivalMs < Number.POSITIVE_INFINITY) nowMs = batch.nextArrivalMs
      return durationMs
    },
    submit: (
      promptTokens: number,
      outputTokens: number,
      chain: Float64Array = noChain,
      handedOver = false
    ): Sequence<Entry> | undefined => {
      const entry = { id: rig.sequences.length, promptTokens, outputTokens, chain, handedOver }
      const sequence = batch.submit(entry, nowMs)
      if (sequence !== undefined) rig.sequences.push(sequence)
      return sequence
    },
    finish: (): number => {
      while (rig.step() > 0 || batch.nextArrivalMs < Number.POSITIVE_INFINITY);
      return nowMs
    }
  }
  return rig
}

const decodes = (sequence: Sequence<Entry>) =>
  sequence.phase === "running" && sequence.computed >= sequence.prefillTokens

/** Everything the machine keeps as running sums, counted again from its sequences. */
const expectSumsHold = (
  rig: ReturnType<typeof makeRig>,
  durationMs: number,
  budget: number,
  seqs: number
) => {
  const { batch, sequences } = rig
  const kept = sequences.filter((sequence) => sequence.phase === "kept")
  const arriving = sequences.filter((sequence) => sequence.phase === "arriving")
  const running = [...sequences.filter((sequence) => sequence.phase === "running"), ...arriving]
  const decoding = running.filter(decodes)
  expect([batch.running, batch.kept]).toEqual([running.length, kept.length])
  expect(batch.nextArrivalMs).toBe(Math.min(...arriving.map(({ arrivesMs }) => arrivesMs)))
  expect(batch.waiting).toBe(sequences.filter((sequence) => sequence.phase === "waiting").length)
  expect(batch.running).toBeLessThanOrEqual(seqs)
  const sum = (of: ReadonlyArray<Sequence<Entry>>, value: (sequence: Sequence<Entry>) => number) =>
    of.reduce((total, sequence) => total + value(sequence), 0)
  const outside = sequences.filter((sequence) => sequence.phase === "waiting")
  expect(batch.pendingPrefillTokens).toBe(
    sum(outside, ({ request, produced, awaited }) => (awaited ? 1 : request.promptTokens + produced)) +
      sum(running, ({ prefillTokens, computed }) => Math.max(0, prefillTokens - computed))
  )
  const prefill = sum(running, (sequence) => sequence.chunk)
  expect(prefill + decoding.length).toBeLessThanOrEqual(budget)
  if (durationMs > 0) {
    const attention = sum(running, (sequence) => sequence.chunk * (sequence.computed + sequence.chunk / 2))
    const context = sum(decoding, (sequence) => sequence.computed)
    expect(durationMs).toBeCloseTo(stepMs(cost, prefill, attention, decoding.length, context), 9)
    rig.sums = {
      steps: rig.sums.steps + 1,
      busyMs: rig.sums.busyMs + durationMs,
      stepPrefillTokens: rig.sums.stepPrefillTokens + prefill,
      stepAttention: rig.sums.stepAttention + attention,
      stepDecodes: rig.sums.stepDecodes + decoding.length,
      stepContextTokens: rig.sums.stepContextTokens + context
    }
  }
  expect(batch).toMatchObject(rig.sums)
  const prefixes = new Set<PrefixNode>()
  for (const sequence of [...running, ...kept])
    for (let node = sequence.prefix; node !== undefined; node = node.parent) prefixes.add(node)
  const shared = [...prefixes].reduce((total, node) => total + node.length, 0)
  expect(batch.cache.usedPages).toBe(shared + sum([...running, ...kept], ({ pages }) => pages))
  expect(batch.cache.freePages).toBeGreaterThanOrEqual(0)
  expect(batch.cache.freePages + batch.cache.usedPages).toBeLessThanOrEqual(batch.cache.capacityPages)
  for (const sequence of [...running, ...kept]) {
    const room = sequence.prefix!.end * 16 + sequence.pages * 16
    expect(room).toBeGreaterThanOrEqual(decodes(sequence) ? sequence.computed + 1 : sequence.prefillTokens)
  }
}

/** The head of the queue waits only for a place in the batch, for the budget of the step, or for pages. */
const expectWorkConserved = (rig: ReturnType<typeof makeRig>, budget: number, seqs: number) => {
  const { batch, sequences } = rig
  const head = batch["first"]
  if (head === undefined || batch.running === seqs) return
  const used = sequences.reduce((total, sequence) => total + sequence.chunk + (decodes(sequence) ? 1 : 0), 0)
  if (used === budget) return
  const { chain, promptTokens } = head.request
  const prefillTokens = promptTokens + head.produced
  const prefix = batch.cache.pin(
    chain,
    Math.min(Math.floor(promptTokens / 16), Math.floor((prefillTokens - 1) / 16))
  )
  expect(batch.cache.availablePages).toBeLessThan(Math.ceil(prefillTokens / 16) - prefix.end)
  batch.cache.unpin(prefix)
}

const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("submit" as const),
      prompt: fc.integer({ min: 1, max: 200 }),
      output: fc.integer({ min: 0, max: 60 }),
      handedOver: fc.nat(2).map((number) => number === 2),
      family: fc.nat(3),
      shared: fc.nat(12)
    })
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("step" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(100) }) }
)
const scenario = fc.record({
  pages: fc.integer({ min: 6, max: 40 }),
  seqs: fc.integer({ min: 1, max: 6 }),
  budget: fc.integer({ min: 8, max: 64 }),
  transferTokenMs: fc.constantFrom(0, 0.5, 5),
  transferWithinMs: fc.constantFrom(0, 50, Number.POSITIVE_INFINITY),
  operations: fc.array(operation, { minLength: 30, maxLength: 150 })
})
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

/** Of one prompt; two of the same length have the same one, but for the beginning. */
const chainOf = ({
  family,
  prompt,
  shared
}: {
  readonly family: number
  readonly prompt: number
  readonly shared: number
}) =>
  Float64Array.from({ length: Math.ceil(prompt / 16) }, (_, depth) =>
    depth < shared ? family * 100 + depth : 1000 * prompt + depth
  )

const run = ({ pages, seqs, budget, operations, ...transfer }: Scenario) => {
  const rig = makeRig({ pages, seqs, budget, ...transfer })
  const cancelled = new Set<number>()
  let unique = 1000
  const step = (): number => {
    const due = rig.sequences.filter(decodes).map((sequence) => [sequence, sequence.produced] as const)
    const { preemptions } = rig.batch
    const durationMs = rig.step()
    for (const sequence of rig.sequences) rig.batch.count(sequence)
    // A decoding sequence gets its token in every step, whatever joins.
    for (const [sequence, produced] of due) expect(sequence.produced).toBe(produced + 1)
    expectSumsHold(rig, durationMs, budget, seqs)
    if (rig.batch.preemptions === preemptions) expectWorkConserved(rig, budget, seqs)
    return durationMs
  }
  for (const operation of operations) {
    if (operation.kind === "step") step()
    else if (operation.kind === "cancel") {
      const sequence = rig.sequences[operation.which % Math.max(1, rig.sequences.length)]
      if (sequence === undefined) continue
      if (sequence.phase !== "ended" && sequence.phase !== "kept") cancelled.add(sequence.request.id)
      rig.batch.cancel(sequence)
      rig.log.push(`cancelled ${sequence.request.id}`)
    } else {
      const blocks = Math.ceil(operation.prompt / 16)
      const chain = Float64Array.from({ length: blocks }, (_, depth) =>
        depth < operation.shared ? operation.family * 100 + depth : unique++
      )
      const { prompt, output } = operation
      const sequence = rig.submit(prompt, output, chain, operation.handedOver && output > 0)
      const fits = Math.ceil((prompt + Math.max(0, output - 1)) / 16) <= pages
      expect(sequence !== undefined).toBe(fits)
    }
  }
  for (let steps = 0; rig.batch.running + rig.batch.waiting + rig.batch.kept > 0; steps++) {
    expect(steps).toBeLessThan(100_000)
    if (step() > 0 || rig.batch.nextArrivalMs < Number.POSITIVE_INFINITY) continue
    // All that is left waits for room that is kept.
    const kept = rig.sequences.find(({ phase }) => phase === "kept")
    if (kept !== undefined) rig.batch.cancel(kept)
  }
  return { rig, cancelled }
}

describe("the continuous batch", () => {
  test("under random requests, steps and cancels: sums, limits and KV pages hold; decodes are never skipped; everyone ends once", () => {
    fc.assert(
      fc.property(scenario, (given) => {
        const { rig, cancelled } = run(given)
        expect(rig.batch.cache.usedPages).toBe(0)
        for (const { request, phase, produced } of rig.sequences) {
          expect(phase).toBe("ended")
          const ends = rig.log.filter((line) => line.startsWith(`finished ${request.id} `)).length
          expect(ends).toBe(cancelled.has(request.id) ? 0 : 1)
          if (!cancelled.has(request.id)) expect(produced).toBe(request.outputTokens)
          expect(rig.told.get(request.id) ?? 0).toBe(produced)
        }
      })
    )
  })

  test("same calls, same results", () => {
    fc.assert(
      fc.property(scenario, (given) => expect(run(given).rig.log).toEqual(run(given).rig.log)),
      { numRuns: 30 }
    )
  })

  test("without every token told, everything else is the same: steps, pages, ends, and what is counted of a sequence", () => {
    fc.assert(
      fc.property(scenario, ({ operations, ...options }) => {
        const rigs = [makeRig(options), makeRig({ ...options, everyToken: false })] as const
        const each = <Result>(act: (rig: ReturnType<typeof makeRig>) => Result): Result => {
          const [talkative, quiet] = rigs.map(act)
          expect(quiet).toEqual(talkative)
          return talkative!
        }
        const step = () =>
          each(({ batch, log, step }) => {
            const durationMs = step()
            const { freePages, usedPages } = batch.cache
            const { pendingPrefillTokens, preemptions, producedTokens, running, waiting } = batch
            const ends = log.filter((line) => !line.startsWith("token"))
            const held = batch["decoding"].length
            const counts = [pendingPrefillTokens, preemptions, producedTokens, running, waiting, held]
            return [durationMs, freePages, usedPages, counts, ends]
          })
        for (const operation of operations)
          if (operation.kind === "step") step()
          else if (operation.kind === "cancel")
            each(({ batch, sequences }) => {
              const sequence = sequences[operation.which % Math.max(1, sequences.length)]
              if (sequence !== undefined) batch.cancel(sequence)
            })
          else
            each(({ submit }) => {
              const { handedOver, output, prompt } = operation
              return submit(prompt, output, chainOf(operation), handedOver && output > 0) === undefined
            })
        for (let i = 0; i < 20; i++) step()
        each(({ batch, sequences }) =>
          sequences.map((sequence) => {
            batch.count(sequence)
            const { computed, firstTokenMs, pages, phase, produced } = sequence
            return [computed, firstTokenMs, pages, phase, produced]
          })
        )
        const [{ batch, told }] = rigs
        expect(batch.producedTokens).toBe([...told.values()].reduce((sum, tokens) => sum + tokens, 0))
      })
    )
  })

  test("quiet steps end with nothing told and nothing evicted, each takes as long as the one before at least, and they come", () => {
    let quiet = 0
    fc.assert(
      fc.property(scenario, ({ operations, ...options }) => {
        const rig = makeRig({ ...options, everyToken: false })
        const { batch, log, sequences } = rig
        let lastMs = 0
        const step = (): void => {
          const { quietSteps } = batch
          const [told, cached] = [log.length, batch.cache.freePages + batch.cache.usedPages]
          const durationMs = rig.step()
          if (quietSteps > 0) {
            quiet++
            expect(log.length).toBe(told)
            expect(batch.cache.freePages + batch.cache.usedPages).toBe(cached)
            expect(durationMs).toBeGreaterThanOrEqual(lastMs)
            expect(batch.quietSteps).toBeGreaterThanOrEqual(quietSteps - 1)
          }
          lastMs = durationMs
        }
        for (const operation of operations)
          if (operation.kind === "step") for (let i = 0; i < 5; i++) step()
          else if (operation.kind === "submit")
            rig.submit(
              operation.prompt,
              operation.output,
              chainOf(operation),
              operation.handedOver && operation.output > 0
            )
          else if (sequences.length > 0) batch.cancel(sequences[operation.which % sequences.length]!)
      })
    )
    expect(quiet).toBeGreaterThan(100)
  })

  test("tokens are conserved: what is computed is every prompt but its cached part, and every answer but its last token", () => {
    const request = fc.record({
      prompt: fc.integer({ min: 1, max: 300 }),
      output: fc.integer({ min: 0, max: 40 }),
      family: fc.nat(2),
      handedOver: fc.boolean()
    })
    fc.assert(
      fc.property(fc.array(request, { maxLength: 30 }), (requests) => {
        const rig = makeRig({ pages: 10_000 })
        for (const { prompt, output, family, handedOver } of requests) {
          rig.submit(
            prompt,
            output,
            Float64Array.from({ length: Math.ceil(prompt / 16) }, (_, depth) => family * 100 + depth),
            handedOver && output > 0
          )
          rig.step()
        }
        rig.finish()
        const expected = rig.sequences.reduce(
          (total, { request, cachedTokens }) =>
            total + request.promptTokens - cachedTokens + Math.max(0, request.outputTokens - 1),
          0
        )
        expect(rig.batch.stepPrefillTokens + rig.batch.stepDecodes).toBe(expected)
        expect(rig.batch.preemptions).toBe(0)
        for (const { request, cachedTokens } of rig.sequences)
          if (request.handedOver === true) expect(cachedTokens).toBe(request.promptTokens - 1)
      })
    )
  })

  test("one request alone takes the closed-form time", () => {
    const [prompt, output, budget] = [1000, 20, 300]
    const rig = makeRig({ pages: 100, budget })
    const sequence = rig.submit(prompt, output)!
    const endMs = rig.finish()
    let firstTokenMs = 0
    for (let at = 0; at < prompt; at += budget) {
      const chunk = Math.min(budget, prompt - at)
      firstTokenMs += stepMs(cost, chunk, chunk * (at + chunk / 2), 0, 0)
    }
    expect(sequence.firstTokenMs).toBeCloseTo(firstTokenMs, 9)
    let decodeMs = 0
    for (let token = 1; token < output; token++) decodeMs += stepMs(cost, 0, 0, 1, prompt + token - 1)
    expect(endMs).toBeCloseTo(firstTokenMs + decodeMs, 9)
  })

  test.each([
    ["a whole number of blocks: the last block is computed again", 64, 64, 48],
    ["a tail: every full block is found", 70, 70, 64],
    ["a shorter prompt finds its own full blocks", 64, 40, 32],
    ["one token is always computed", 16, 16, 0]
  ])("an equal prefix is found in the cache: %s", (_, firstPrompt, secondPrompt, cached) => {
    const rig = makeRig({ pages: 100 })
    const chain = Float64Array.of(11, 12, 13, 14, 15)
    rig.submit(firstPrompt, 3, chain)
    rig.finish()
    const second = rig.submit(secondPrompt, 3, chain)!
    rig.finish()
    expect(second.cachedTokens).toBe(cached)
  })

  test("without preemption, requests join the batch in the order they came", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 2, maxLength: 30 }), (prompts) => {
        const rig = makeRig({ pages: 10_000 })
        for (const prompt of prompts) rig.submit(prompt, 5)
        rig.finish()
        const admitted = rig.sequences.map((sequence) => sequence.admittedMs)
        expect(admitted).toEqual(admitted.toSorted((a, b) => a - b))
      })
    )
  })

  test("when the KV cache runs out the newest starts over, and both answers come whole", () => {
    const rig = makeRig({ pages: 10 })
    const older = rig.submit(60, 60)!
    const newer = rig.submit(60, 60)!
    rig.finish()
    expect(rig.batch.preemptions).toBeGreaterThan(0)
    expect(rig.told).toEqual(
      new Map([
        [0, 60],
        [1, 60]
      ])
    )
    expect(rig.log.findIndex((line) => line.startsWith("finished 0"))).toBeLessThan(
      rig.log.findIndex((line) => line.startsWith("finished 1"))
    )
    expect([older.phase, newer.phase]).toEqual(["ended", "ended"])
  })

  test("the sink may cancel and submit while a step's results are told", () => {
    const told = new Map<string, number>()
    const sequences = new Map<string, Sequence<Entry & { readonly name: string }>>()
    const batch: ContinuousBatch<Entry & { readonly name: string }> = new ContinuousBatch(
      { cost, kvCapacityTokens: 16_000, blockTokens: 16, maxBatchedTokens: 200 },
      {
        token: ({ request }, index) => {
          told.set(request.name, index + 1)
          if (request.name === "self") batch.cancel(sequences.get("self")!)
          if (request.name === "first" && index === 1)
            for (const sequence of sequences.values()) batch.cancel(sequence)
        },
        finished: ({ request }) => {
          told.set(`${request.name} finished`, 1)
          if (request.name === "short") submit("late", 10, 2)
        }
      }
    )
    const submit = (name: string, promptTokens: number, outputTokens: number) => {
      const sequence = batch.submit({ id: 0, name, promptTokens, outputTokens, chain: noChain }, 0)!
      if (name !== "late") sequences.set(name, sequence)
    }
    submit("first", 20, 9)
    submit("self", 20, 1)
    submit("short", 20, 1)
    submit("prefilling", 2000, 5)
    submit("waiting", 20, 5)
    while (batch.step(0) > 0);
    expect(told).toEqual(
      new Map([
        ["first", 2],
        ["self", 1],
        ["short", 1],
        ["short finished", 1],
        ["late", 2],
        ["late finished", 1]
      ])
    )
    expect([batch.running, batch.waiting, batch.cache.usedPages]).toEqual([0, 0, 0])
  })
})

describe("a prompt that is read for another engine", () => {
  test("is finished with its last token, without one of its own, and takes nobody's place in the batch", () => {
    const rig = makeRig({ pages: 100, seqs: 1, budget: 300 })
    const read = rig.submit(300, 0)!
    rig.finish()
    expect(rig.log).toEqual([`finished 0 ${stepMs(cost, 300, 300 * 150, 0, 0)}`])
    expect(rig.batch).toMatchObject({ running: 0, kept: 1, pendingPrefillTokens: 0 })
    rig.submit(20, 3)
    rig.finish()
    expect(rig.told).toEqual(new Map([[1, 3]]))
    rig.batch.cancel(read)
    rig.batch.cancel(read)
    expect([rig.batch.kept, rig.batch.cache.usedPages]).toEqual([0, 0])
  })

  test("keeps its KV cache from others until it is let go, and its blocks for the next one with that prefix", () => {
    const rig = makeRig({ pages: 10 })
    const chain = Float64Array.of(1, 2, 3, 4, 5, 6, 7)
    const read = rig.submit(112, 0, chain)!
    rig.finish()
    const waiting = rig.submit(60, 10)!
    expect(rig.step()).toBe(0)
    expect(waiting.phase).toBe("waiting")
    expect(rig.submit(112, 0, chain)!.phase).toBe("waiting")
    rig.batch.cancel(read)
    rig.finish()
    expect(waiting.phase).toBe("ended")
    expect(rig.sequences.at(-1)!.phase).toBe("kept")
    const again = rig.submit(112, 0, chain)!
    rig.finish()
    expect(again.cachedTokens).toBe(96)
  })
})

describe("a request whose KV cache comes from another engine", () => {
  test("begins when all of it has come, computes one token of its prompt, and takes the closed-form time", () => {
    const [prompt, output] = [1000, 20]
    const rig = makeRig({ pages: 100, transferTokenMs: 0.5 })
    const sequence = rig.submit(prompt, output, noChain, true)!
    expect(rig.step()).toBe(0)
    expect(rig.batch).toMatchObject({
      nextArrivalMs: 500,
      steps: 0,
      busyMs: 0,
      pendingPrefillTokens: 1
    })
    const endMs = rig.finish()
    const firstMs = 500 + stepMs(cost, 1, prompt - 0.5, 0, 0)
    expect(sequence.firstTokenMs).toBeCloseTo(firstMs, 9)
    expect(sequence.cachedTokens).toBe(prompt - 1)
    let decodeMs = 0
    for (let token = 1; token < output; token++) decodeMs += stepMs(cost, 0, 0, 1, prompt + token - 1)
    expect(endMs).toBeCloseTo(firstMs + decodeMs, 9)
  })

  test("waits only for what is not cached here, and leaves its blocks for others", () => {
    const rig = makeRig({ pages: 100, transferTokenMs: 0.5 })
    const chain = Float64Array.of(1, 2, 3, 4)
    rig.submit(32, 1, chain, true)
    rig.finish()
    const longer = rig.submit(64, 1, chain, true)!
    rig.step()
    expect(longer.arrivesMs - longer.admittedMs).toBe(0.5 * (64 - 32))
    rig.finish()
    const whole = rig.submit(64, 1, chain)!
    rig.finish()
    expect(whole.cachedTokens).toBe(48)
  })

  test("holds up nobody: others compute meanwhile, and several are under way at once", () => {
    const rig = makeRig({ pages: 100, transferTokenMs: 0.5 })
    const first = rig.submit(200, 2, noChain, true)!
    const second = rig.submit(200, 2, noChain, true)!
    const whole = rig.submit(20, 3)!
    rig.finish()
    expect(whole.firstTokenMs).toBeLessThan(100)
    expect([first.arrivesMs, second.arrivesMs]).toEqual([100, 100])
    expect(first.firstTokenMs).toBe(second.firstTokenMs)
  })

  test("computes its prompt itself where it cannot come in time", () => {
    const rig = makeRig({ pages: 30, transferTokenMs: 0.5, transferWithinMs: 199 })
    const slow = rig.submit(400, 2, noChain, true)!
    rig.finish()
    expect([slow.cachedTokens, rig.batch.stepPrefillTokens]).toEqual([0, 400])
    const late = makeRig({ pages: 30, transferTokenMs: 0.1, transferWithinMs: 199 })
    late.submit(400, 40)
    late.step()
    const behind = late.submit(300, 2, noChain, true)!
    late.finish()
    expect(behind.admittedMs - behind.submittedMs).toBeGreaterThan(199)
    expect(behind.cachedTokens).toBe(0)
    expect(late.told).toEqual(
      new Map([
        [0, 40],
        [1, 2]
      ])
    )
  })

  test("computes its prompt itself after it had to start over, and its answer comes whole", () => {
    const rig = makeRig({ pages: 10 })
    rig.submit(60, 60)
    rig.submit(60, 60, noChain, true)
    rig.finish()
    expect(rig.batch.preemptions).toBeGreaterThan(0)
    expect(rig.batch.stepPrefillTokens).toBeGreaterThan(60 + 1 + 60)
    expect([...rig.told.values()]).toEqual([60, 60])
  })

  test("takes nothing with it when it is cancelled under way", () => {
    const rig = makeRig({ pages: 100 })
    const sequence = rig.submit(200, 2, noChain, true)!
    rig.step()
    rig.batch.cancel(sequence)
    expect(rig.batch).toMatchObject({ running: 0, nextArrivalMs: Number.POSITIVE_INFINITY })
    expect([rig.batch.pendingPrefillTokens, rig.batch.cache.usedPages]).toEqual([0, 0])
    rig.finish()
    expect(rig.log).toEqual([])
  })
})
