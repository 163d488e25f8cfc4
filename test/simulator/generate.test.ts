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
})
