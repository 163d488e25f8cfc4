import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import type { TraceRequest } from "../../src/domain/Trace.ts"
import { BLOCK_TOKENS } from "../../src/domain/traceChain.ts"
import { generateTraffic, type TrafficOptions } from "../../src/simulator/replay/generate.ts"

const blocksIn = ({ promptTokens }: Pick<TraceRequest, "promptTokens">): number =>
  Math.floor(promptTokens / BLOCK_TOKENS)

const traffic: fc.Arbitrary<TrafficOptions> = fc.record({
  seed: fc.nat(),
  requests: fc.integer({ min: 1, max: 200 }),
  requestsPerSecond: fc.constantFrom(0.1, 20, 500),
  dispersion: fc.constantFrom(1, 8),
  promptTokens: fc.record({ mean: fc.constantFrom(1, 100, 3000), variation: fc.constantFrom(0, 1) }),
  outputTokens: fc.record({ mean: fc.constantFrom(1, 60, 1000), variation: fc.constantFrom(0, 1) }),
  tenants: fc.record({ count: fc.integer({ min: 1, max: 5 }), skew: fc.constantFrom(0, 1) }),
  sharedPrefix: fc.record({
    count: fc.integer({ min: 1, max: 3 }),
    tokens: fc.constantFrom(256, 300, 2048),
    share: fc.constantFrom(0, 0.5, 1)
  }),
  sessions: fc.record({
    share: fc.constantFrom(0, 0.5, 1),
    turns: fc.integer({ min: 1, max: 8 }),
    thinkMs: fc.constantFrom(0, 3000, 1e9)
  })
})

describe("made-up traffic", () => {
  test("names every full block of a prompt, in order of arrival, as many requests as asked for", () => {
    fc.assert(
      fc.property(traffic, (options) => {
        const { requests } = generateTraffic(options)
        expect(requests).toHaveLength(options.requests)
        let beforeMs = 0
        for (const request of requests) {
          expect(request.blocks).toHaveLength(blocksIn(request))
          expect(request.arrivalMs).toBeGreaterThanOrEqual(beforeMs)
          beforeMs = request.arrivalMs
        }
      })
    )
  })

  test("begins a turn with all that was said before, whatever the lengths", () => {
    fc.assert(
      fc.property(traffic, (options) => {
        const latest = new Map<string, TraceRequest>()
        for (const request of generateTraffic(options).requests) {
          const { session } = request
          if (session === undefined) continue
          const before = latest.get(session)
          latest.set(session, request)
          if (before === undefined) continue
          const saidTokens = before.promptTokens + before.outputTokens
          expect(request.promptTokens).toBeGreaterThan(saidTokens)
          expect(request.blocks.slice(0, before.blocks.length)).toEqual([...before.blocks])
          expect(request.tenant).toBe(before.tenant)
        }
      })
    )
  })

  test("begins prompts alike that share a text, which is as long as it should be", () => {
    const options: TrafficOptions = {
      seed: 1,
      requests: 50,
      requestsPerSecond: 10,
      promptTokens: { mean: 1000, variation: 0 },
      outputTokens: { mean: 10, variation: 0 },
      sharedPrefix: { count: 1, tokens: 700, share: 1 }
    }
    for (const { blocks, promptTokens } of generateTraffic(options).requests) {
      expect(promptTokens).toBe(1700)
      expect(blocks.slice(0, 2)).toEqual([1, 2])
    }
  })

  test.each([
    [6, 5000],
    [20, 3000]
  ])("comes at its rate from the start, in conversations of %d turns", (turns, requests) => {
    const { requests: made } = generateTraffic({
      seed: 3,
      requests,
      requestsPerSecond: 20,
      promptTokens: { mean: 300, variation: 1 },
      outputTokens: { mean: 100, variation: 1 },
      sessions: { share: 1, turns, thinkMs: 10_000 }
    })
    const within = (fromMs: number, toMs: number): number =>
      made.filter(({ arrivalMs }) => arrivalMs >= fromMs && arrivalMs < toMs).length
    const endMs = made.at(-1)!.arrivalMs
    expect((1000 * requests) / endMs).toBeWithin(17, 23)
    for (let fromMs = 0; fromMs + 30_000 <= endMs; fromMs += 30_000)
      expect(within(fromMs, fromMs + 30_000) / 30).toBeWithin(15, 25)
  })

  describe("is what was asked for", () => {
    /** Far off by chance once in thousands of seeds; this one is fixed. */
    const made = (more: Partial<TrafficOptions> = {}) =>
      generateTraffic({
        seed: 5,
        requests: 40_000,
        requestsPerSecond: 20,
        promptTokens: { mean: 1000, variation: 0.5 },
        outputTokens: { mean: 200, variation: 1 },
        ...more
      }).requests
    const mean = (values: ReadonlyArray<number>): number =>
      values.reduce((sum, value) => sum + value, 0) / values.length
    const variance = (values: ReadonlyArray<number>): number => {
      const middle = mean(values)
      return mean(values.map((value) => (value - middle) ** 2))
    }

    test.each([1, 4])("in its dispersion, of %d", (dispersion) => {
      const counts: Array<number> = new Array(200).fill(0)
      for (const { arrivalMs } of made({ dispersion })) {
        const window = Math.floor(arrivalMs / 10_000)
        if (window < counts.length) counts[window]!++
      }
      expect(mean(counts)).toBeWithin(190, 210)
      expect(variance(counts) / mean(counts)).toBeWithin(0.8 * dispersion, 1.25 * dispersion)
    })

    test("in its lengths", () => {
      const requests = made()
      for (const [lengths, middle, variation] of [
        [requests.map(({ promptTokens }) => promptTokens), 1000, 0.5],
        [requests.map(({ outputTokens }) => outputTokens), 200, 1]
      ] as const) {
        expect(mean(lengths) / middle).toBeWithin(0.98, 1.02)
        expect(Math.sqrt(variance(lengths)) / mean(lengths) / variation).toBeWithin(0.95, 1.05)
      }
    })

    test.each([0, 1, 2])("in the shares of its tenants, skewed by %d", (skew) => {
      const requests = made({ tenants: { count: 3, skew } })
      const weights = [1, 2, 3].map((i) => i ** -skew)
      const total = weights.reduce((sum, weight) => sum + weight, 0)
      for (const [i, weight] of weights.entries()) {
        const own = requests.filter(({ tenant }) => tenant === `tenant-${i + 1}`).length
        expect(own / requests.length - weight / total).toBeWithin(-0.01, 0.01)
      }
    })

    test("in what is shared, and in its conversations", () => {
      const requests = made({
        sharedPrefix: { count: 4, tokens: 512, share: 0.3 },
        sessions: { share: 0.5, turns: 5, thinkMs: 1000 }
      })
      const turns = new Map<string, number>()
      for (const { session } of requests)
        if (session !== undefined) turns.set(session, (turns.get(session) ?? 0) + 1)
      // Of six requests one is alone, and five are turns.
      const alone = requests.filter(({ session }) => session === undefined).length
      expect(alone / requests.length).toBeWithin(0.15, 0.18)
      expect(Math.max(...turns.values())).toBe(5)
      const texts = requests.filter(({ blocks, session }) => session === undefined && (blocks[0] ?? 9) <= 8)
      expect(texts.length / alone).toBeWithin(0.28, 0.32)
      expect(new Set(texts.map(({ blocks }) => blocks[0])).size).toBe(4)
    })
  })
})
