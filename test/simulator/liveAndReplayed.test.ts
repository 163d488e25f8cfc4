import { afterAll, describe, expect, test } from "bun:test"
import { join } from "node:path"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { comparison } from "../../src/cluster/replay/comparison.ts"
import { inVirtualTime, type LiveReplay } from "../../src/cluster/replay/inVirtualTime.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { SLOW_START_MS } from "../../src/policies/estimators/SlowStart.ts"
import { placements, rivals } from "../../src/policies/registry.ts"
import { makeConversations } from "../fixtures/makeConversations.ts"
import { exists, root } from "../support/repository.ts"
import { traceOf } from "../support/traceOf.ts"
import { VirtualCluster } from "../support/VirtualCluster.ts"

const SEED = 1
const SALT = "parallax-replay-live"
const HOP_MS = 1
/** Then ticks and heartbeats of both are in step, and the seconds after which estimators look again. */
const AFTER_MS = SLOW_START_MS + 2_500
/** What the clock of the engines is late by at each step. */
const LATE_MS = 1e-5

const tracesFolder = "../shared/traces/traces"
const conversations = makeConversations()
const [whole, part, head] = [1000, 400, 120].map((limit) => traceOf(conversations, { limit })) as [
  Trace,
  Trace,
  Trace
]

interface Made {
  readonly pipeline?: unknown
  readonly model?: object
  readonly retry?: object
  /** Of the cluster and its engines. */
  readonly timeScale?: number
  /** What the replay is told otherwise than it was. */
  readonly told?: Partial<LiveReplay>
  readonly afterMs?: number
}

/** The same requests through the live code and through a replay, and how far apart they come out. */
const bothOf = (trace: Trace, { afterMs = AFTER_MS, model, pipeline, retry, timeScale = 1, told }: Made) => {
  const engine = { preset: "70b-4xa100", maxSequences: 32, timeScale }
  const values = { cluster: { timeScale }, pipeline, retry, models: [{ engine, workers: 8, ...model }] }
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "test" }], false)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join("\n"))
  const { config } = resolved
  const cluster = new VirtualCluster(config, SEED, SALT, HOP_MS)
  const { seen, sent } = cluster.play(trace, afterMs)
  const { rescues, workers } = cluster.host.snapshot()
  const names = workers.map(({ name }) => name)
  const live = { config, seed: SEED, salt: SALT, trace, sent, workers: names, hopMs: HOP_MS }
  const replayed = inVirtualTime({ ...live, ...told })
  return { seen, replayed, rescues }
}

/** Every request: the same worker, the same cached tokens, and each time the same. */
const expectSame = ({ replayed, seen }: Pick<ReturnType<typeof bothOf>, "replayed" | "seen">): void => {
  for (const [number, live] of seen.entries()) {
    const there = replayed[number]!
    expect([number, live.worker, live.cachedTokens]).toEqual([number, there.worker, there.cachedTokens])
    if (live.worker === undefined) continue
    expect(Math.abs(live.ttftMs - there.ttftMs)).toBeLessThan(LATE_MS)
    expect(Math.abs(live.e2eMs - there.e2eMs)).toBeLessThan(LATE_MS)
  }
}

const rows: Array<string> = []
afterAll(() => console.log(rows.join("\n")))
const tell = (name: string, { replayed, rescues, seen }: ReturnType<typeof bothOf>): void => {
  const found = comparison({ hopMs: HOP_MS, lateMs: 0 }, seen, replayed, [], { ttftMs: 5_000, tpotMs: 100 })
  const { live, replayed: there, samePlacements } = found
  rows.push(
    `  ${name.padEnd(34)} same worker ${(100 * samePlacements).toFixed(1)} %, mean TTFT ${live.ttftMsMean!.toFixed(6)} ms live, ` +
      `${there.ttftMsMean!.toFixed(6)} ms replayed, ${live.done} done${Object.keys(rescues).length > 0 ? `, rescues ${JSON.stringify(rescues)}` : ""}`
  )
}

const crowded = { engine: { preset: "8b-a100", maxSequences: 8, kvCapacityTokens: 40_000 }, workers: 3 }

const copying = { policy: "hedge", after: "50 millis", budget: 1, tokenBudget: 1, saturation: 1 }

describe("the live code on virtual time does request for request what a replay does", () => {
  test.each<readonly [string, Made, Trace?]>([
    ["default", {}, whole],
    ["default, at time scale 4", { timeScale: 4 }],
    ["fair", { pipeline: { preset: "fair" } }],
    ["slo", { pipeline: { preset: "slo" } }],
    ["least-connections", { pipeline: { placement: { policy: "least-connections" } } }],
    ["slo, too few workers", { pipeline: { preset: "slo" }, model: crowded }],
    [
      "copies",
      { pipeline: { preset: "simple", placement: { policy: "random" }, rescue: [copying] }, model: crowded }
    ],
    [
      "copies, with no attempt left",
      {
        pipeline: { preset: "simple", placement: { policy: "random" }, rescue: [copying] },
        model: crowded,
        retry: { attempts: 1 }
      }
    ],
    [
      "split",
      {
        pipeline: { placement: { policy: "disaggregated" } },
        model: { workers: 2, prefillWorkers: 3, decodeWorkers: 3 }
      }
    ]
  ])("%s", (name, made, trace = part) => {
    const both = bothOf(trace, made)
    tell(name, both)
    expectSame(both)
  })

  test("with KV caches that come too late, and that nobody takes in time, it is the same at any time scale", () => {
    const [seen, replayed] = [4, 1].map((timeScale) => {
      const engine = { preset: "70b-4xa100", maxSequences: 32, timeScale, transferGbps: 1 }
      const model = { engine, workers: 1, prefillWorkers: 3, decodeWorkers: 3 }
      return bothOf(head, { timeScale, pipeline: { placement: { policy: "disaggregated" } }, model }).seen
    })
    expectSame({ seen: seen!, replayed: replayed! })
  })

  test.each([...placements, ...rivals].map(({ name }) => name))("%s", (policy) =>
    expectSame(bothOf(head, { pipeline: { preset: "simple", placement: { policy } }, model: crowded }))
  )

  const recorded = `${tracesFolder}/mooncake-conversation-a.jsonl.gz`
  if (!exists(recorded)) console.log(`${recorded} is not here: the recorded trace is not replayed`)
  test.skipIf(!exists(recorded))("default, mooncake-conversation-a", async () => {
    const bytes = await Bun.file(join(root, recorded)).bytes()
    const trace = traceOf(new TextDecoder().decode(Bun.gunzipSync(bytes)), { limit: 1000 })
    const both = bothOf(trace, { model: { workers: 8, engine: { preset: "8b-h100" } } })
    tell("default, mooncake-conversation-a", both)
    expectSame(both)
  })
})

describe("planted defects", () => {
  const placement = (policy: string, options = {}) => ({
    preset: "simple",
    placement: { policy, ...options }
  })
  test.each<readonly [string, Made]>([
    ["another hop", { pipeline: placement("least-connections"), told: { hopMs: 1.5 } }],
    ["another seed", { pipeline: placement("random"), told: { seed: 2 } }],
    ["another salt", { pipeline: placement("rendezvous", { key: "prefix" }), told: { salt: "another" } }],
    ["heartbeats out of step", { pipeline: placement("composite"), afterMs: AFTER_MS + 60 }]
  ])("a replay that is told of %s is another one", (_, made) => {
    const both = bothOf(part, made)
    expect(() => expectSame(both)).toThrow()
  })
})
