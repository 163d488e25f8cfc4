import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { audit } from "../../src/simulator/replay/audit.ts"
import { closedLoop } from "../../src/simulator/replay/Loop.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { Replay, type Outcomes, type ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { type Workload, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { anyReplays } from "../support/anyPipeline.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Maker = (options: ReplayOptions) => Replay

const part = (owner: object, name: string) => Reflect.get(owner, name)

/** Calls `before` ahead of each call of a method, with what it is given. */
const ahead = (owner: object, method: string, before: (given: number) => void): void => {
  const original = Reflect.get(owner, method)
  Reflect.set(owner, method, (...given: ReadonlyArray<number>) => {
    before(given[0]!)
    return original.apply(owner, given)
  })
}

const bytesOf = (outcomes: Outcomes): ReadonlyArray<string> =>
  Object.values(outcomes).map((column: ArrayBufferView) => Buffer.from(column.buffer).toString("base64"))

/** What is told when time goes on. */
const times = ["arrivedMs", "firstMs", "endedMs"] as const

const laws = [
  {
    id: "replay-any",
    check: (make: Maker) =>
      fc.assert(
        fc.property(anyReplays, (options) => {
          const replay = make(options)
          const ends = options.workload.requests.map(() => 0)
          ahead(replay, "end", (number) => ends[number]!++)
          const core = part(replay, "core")
          const { answerTokens, capacity, contextTokens, inFlight, pendingPrefillTokens } = part(
            replay,
            "columns"
          )
          ahead(replay, "advance", (untilMs) => {
            const nowMs = part(replay, "nowMs")
            const pool = part(core, "pools")[0]
            if (pool === undefined || untilMs === nowMs) return
            for (const [worker, count] of inFlight.entries())
              expect(count).toBeWithin(0, capacity[worker] + 1)
            // Nobody waits for nothing.
            if (pool.queuedCount > 0 && pool.hasRoom)
              expect(pool.policies.batching.closesAtMs(pool, nowMs)).toBeGreaterThan(nowMs)
          })
          const result = replay.run()
          expect(() => audit(result)).not.toThrow()
          expect(ends.every((count) => count === 1)).toBe(true)
          for (const charged of [answerTokens, contextTokens, inFlight, pendingPrefillTokens])
            expect([...charged].every((count) => count === 0)).toBe(true)
          expect([core.queued, core.inFlight]).toEqual([0, 0])
          expect(bytesOf(make(options).run().outcomes)).toEqual(bytesOf(result.outcomes))
        }),
        { numRuns: 150 }
      )
  },
  {
    id: "replay-causal",
    check: (make: Maker) =>
      fc.assert(
        fc.property(anyReplays, fc.nat(), (options, drawn) => {
          // Without clients that wait: whom they make way for is no matter of time.
          const { loop: _, ...workload } = options.workload
          const { requests } = workload
          const count = 1 + (drawn % requests.length)
          const untilMs = requests[count]?.arrivalMs ?? Number.POSITIVE_INFINITY
          const [all, some] = [requests, requests.slice(0, count)].map(
            (requests) => make({ ...options, workload: { ...workload, requests } }).run().outcomes
          )
          for (const name of times)
            for (const [number, ms] of some![name].entries())
              if (Math.min(ms, all![name][number]!) < untilMs)
                expect([name, all![name][number]]).toEqual([name, ms])
        }),
        { numRuns: 150 }
      )
  },
  {
    id: "replay-names",
    check: (make: Maker) =>
      fc.assert(
        fc.property(anyReplays, fc.nat(1000), fc.constantFrom(undefined, 2), (options, seed, clientsMax) => {
          const { header, requests } = generateTraffic({
            seed,
            requests: 40,
            requestsPerSecond: 8,
            promptTokens: { mean: 1000, variation: 0.7 },
            outputTokens: { mean: 20, variation: 0.5 },
            tenants: { count: 3, skew: 1 },
            sharedPrefix: { count: 2, tokens: 1024, share: 0.5 },
            sessions: { share: 0.3, turns: 3, thinkMs: 300 }
          })
          // Names break ties between workers, so there is one.
          const [worker] = options.workers
          const outcomesOf = (name: string, made: Workload): ReadonlyArray<string> => {
            const { outcomes } = make({
              ...options,
              crashes: [],
              slowDowns: [],
              scaling: undefined,
              workers: [{ ...worker!, role: "both", name }],
              workload: clientsMax === undefined ? made : closedLoop(made, { clientsMax })
            }).run()
            return bytesOf(outcomes)
          }
          const usual = outcomesOf("worker", workloadOf([{ header, requests }]))
          const renamed = requests.map(({ blocks, session, tenant, ...rest }) => ({
            ...rest,
            blocks: blocks.map((block) => 2 ** 33 + 7 * block),
            session: session && `another ${session}`,
            tenant: `another ${tenant}`
          }))
          expect(outcomesOf("another", workloadOf([{ header, requests: renamed }]))).toEqual(usual)
          const parts = [true, false].map((isFirst) => ({
            header,
            requests: requests.filter(({ tenant }) => (tenant === "tenant-1") === isFirst)
          }))
          expect(outcomesOf("worker", workloadOf(parts))).toEqual(usual)
        }),
        { numRuns: 60 }
      )
  }
]

const real: Maker = (options) => new Replay(options)

const defects: ReadonlyArray<Planted<Maker>> = [
  [
    "leaves a place that is free to who looks next",
    "replay-any",
    (options) => {
      const replay = new Replay(options)
      Reflect.set(part(replay, "core"), "vacated", () => undefined)
      return replay
    }
  ],
  [
    "is the farther away the more requests are to come",
    "replay-causal",
    (options) =>
      new Replay({ ...options, networkMs: options.networkMs! + options.workload.requests.length / 100 })
  ],
  [
    "is as far away as its name is long",
    "replay-names",
    (options) => new Replay({ ...options, networkMs: options.workers[0]!.name.length })
  ]
]

describe("a replay under any pipeline", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))
