import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import type { Ending } from "../../../src/client/index.ts"
import { type Agreement, agreement, without } from "../../../src/cluster/replay/agreement.ts"
import { comparison, type Comparison, pathOf } from "../../../src/cluster/replay/comparison.ts"
import { Journal, type Seen } from "../../../src/cluster/replay/Journal.ts"
import { imbalance } from "../../../src/structures/imbalance.ts"
import { progressLine } from "../../../src/cluster/replay/progress.ts"
import { reportText } from "../../../src/cluster/replay/report.ts"
import { Tally } from "../../../src/cluster/replay/Tally.ts"
import type { Targets } from "../../../src/policies/pipelines.ts"
import type { BalancerSnapshot } from "../../../src/domain/Snapshot.ts"
import type { TraceRequest } from "../../../src/domain/Trace.ts"
import { idleLoad, type WorkerLoad } from "../../../src/domain/WorkerLoad.ts"

const request = (promptTokens: number, tenant?: string): TraceRequest => ({
  arrivalMs: 0,
  promptTokens,
  outputTokens: 1,
  blocks: [],
  session: undefined,
  tenant,
  model: undefined
})
const done = (
  worker: string,
  tokens: number,
  cachedTokens: number,
  ttftMs: number,
  e2eMs: number,
  reader?: string
): Ending => ({
  outcome: "done",
  reason: "stop",
  tokens,
  cachedTokens,
  attempts: 1,
  worker,
  reader,
  ttftMs,
  e2eMs,
  queueMs: 0,
  prefillMs: 0,
  engineMs: e2eMs
})
const agreed: Agreement = { equal: true, differences: [], abandoned: 0, surplus: [], lost: [] }
const rejected: Ending = {
  outcome: "rejected",
  reason: "queue_full",
  retryAfterMs: 1,
  retryable: true,
  message: "",
  e2eMs: 1
}
const lost: Ending = {
  outcome: "error",
  reason: "worker_lost",
  delivered: 2,
  retryAfterMs: 0,
  retryable: true,
  message: "",
  attempts: 1,
  ttftMs: 1,
  e2eMs: 1
}

/** Four requests at a time scale of 10: two done by "a", one rejected, one lost after two tokens. */
const played = (slo: Targets): Tally => {
  const tally = new Tally(10, slo)
  tally.send(1000, 1000)
  tally.send(1001, 1003)
  tally.send(1002, 1003)
  tally.send(1003, 1003)
  tally.end(request(50), rejected, 0, 1004)
  tally.tokens(1, -1)
  tally.tokens(1, 4)
  tally.tokens(2, 8)
  tally.end(request(100), done("a", 4, 40, 10, 22), 12, 1022)
  tally.tokens(2, -1)
  tally.end(request(50), lost, 0, 1030)
  tally.tokens(1, -1)
  tally.end(request(300), done("a", 1, 60, 30, 31), 0, 1100)
  return tally
}

describe("figures", () => {
  test("are in trace time, and every request is counted once", () => {
    const figures = played({ ttftMs: Infinity, tpotMs: Infinity }).figures(["a", "b"])
    expect(figures).toMatchObject({
      sent: 4,
      done: 2,
      failed: 1,
      rejected: 1,
      reasons: { queue_full: 1, worker_lost: 1 },
      durationSeconds: 1,
      requestsPerSecond: 2,
      outputTokensPerSecond: 7,
      promptTokens: 400,
      outputTokens: 7,
      cachedTokens: 100,
      prefixHitRate: 0.25,
      goodput: null,
      ttftMs: { count: 2, mean: 200, max: 300 },
      tpotMs: { count: 1, mean: 40 },
      itlMs: { count: 4, mean: 30, max: 80 },
      e2eMs: { count: 2, mean: 265 },
      sendLagMs: { count: 4, mean: 0.75, max: 2 },
      workers: {
        a: { requestsDone: 2, outputTokens: 5, promptTokens: 400, cachedTokens: 100 },
        b: { requestsDone: 0, outputTokens: 0, promptTokens: 0, cachedTokens: 0 }
      },
      imbalance: { cv: 1, maxOverMean: 2, verdict: "lopsided" }
    })
  })

  test.each([
    [100, Infinity, 1],
    [99, Infinity, 0],
    [Infinity, 40, 2],
    [Infinity, 39, 1],
    [300, 40, 2]
  ])("with targets of %p ms for TTFT and %p ms for TPOT, %d requests met them", (ttftMs, tpotMs, met) => {
    const { goodput } = played({ ttftMs, tpotMs }).figures([])
    expect(goodput).toMatchObject({ met, requestsPerSecond: met, share: met / 4 })
  })

  test("of tenants add up to those of the replay, and are of a few of them", () => {
    const ends = fc.tuple(fc.nat(12), fc.constantFrom(rejected, lost, done("a", 4, 0, 10, 22)))
    fc.assert(
      fc.property(fc.array(ends, { maxLength: 60 }), fc.boolean(), (ended, aimed) => {
        const tally = new Tally(1, { ttftMs: aimed ? 10 : Infinity, tpotMs: Infinity })
        for (const [tenant, ending] of ended) {
          tally.send(0, 0)
          // The first one has no name.
          tally.end(request(50 + tenant, tenant === 0 ? undefined : `t${tenant}`), ending, 0, 1)
        }
        const { done: all, goodput, sent, tenants } = tally.figures([])
        const count = new Set(ended.map(([tenant]) => tenant)).size
        expect(tenants.length).toBe(count < 2 ? 0 : Math.min(count, 9))
        if (count < 2) return
        const sumOf = (what: "requests" | "done" | "met" | "tokenShare") =>
          tenants.reduce((sum, each) => sum + each[what]!, 0)
        expect([sumOf("requests"), sumOf("done")]).toEqual([sent, all])
        expect(sumOf("tokenShare")).toBeCloseTo(all === 0 ? 0 : 1, 9)
        if (aimed) expect(sumOf("met")).toBe(goodput!.met)
        else expect(tenants.every(({ met }) => met === null)).toBe(true)
        const named = tenants.slice(0, 8).map(({ requests }) => requests)
        expect(named).toEqual(named.toSorted((a, b) => b - a))
        const first = tenants[0]!.tenant
        expect(ended.filter(([tenant]) => (tenant === 0 ? "default" : `t${tenant}`) === first).length).toBe(
          named[0]!
        )
      })
    )
  })

  test("of nothing are zeros and gaps, and print", () => {
    const figures = new Tally(1, { ttftMs: 1, tpotMs: Infinity }).figures(["a"])
    expect(figures).toMatchObject({
      sent: 0,
      requestsPerSecond: 0,
      prefixHitRate: 0,
      ttftMs: { count: 0, mean: null, p99: null }
    })
    expect(figures.imbalance.verdict).toBe("even")
    const report = {
      trace: "x",
      speed: 1,
      timeScale: 1,
      ...figures,
      agreement: agreed,
      againstReplay: null
    }
    expect(reportText(report)).not.toContain("NaN")
    expect(JSON.parse(JSON.stringify(report))).toEqual(report)
  })
})

describe("imbalance", () => {
  test("is least when all have the same, and most when one has everything", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1e9 }), { minLength: 1, maxLength: 50 }), (amounts) => {
        const { cv, maxOverMean } = imbalance(amounts)
        const n = amounts.length
        expect(cv).toBeWithin(0, Math.sqrt(n - 1) + 1e-9)
        expect(maxOverMean).toBeWithin(1 - 1e-9, n + 1e-9)
        // No amount is further from the mean than the deviation allows.
        expect(maxOverMean - 1).toBeLessThanOrEqual(cv * Math.sqrt(n - 1) + 1e-9)
        expect(imbalance(amounts.map((amount) => amount * 8))).toEqual(imbalance(amounts))
        expect(imbalance(amounts.toReversed()).maxOverMean).toBe(maxOverMean)
      })
    )
  })

  test.each([
    [[5, 5, 5], "even"],
    [[0, 0], "even"],
    [[12, 10, 10], "uneven"],
    [[20, 10, 10], "uneven"],
    [[30, 10, 10], "lopsided"]
  ] as const)("of %j is %s", (amounts, verdict) => {
    expect(imbalance(amounts).verdict).toBe(verdict)
  })
})

describe("agreement", () => {
  const snapshot = (
    incarnation: number,
    load: Partial<WorkerLoad>,
    more: Partial<BalancerSnapshot> = {}
  ): BalancerSnapshot => ({
    epoch: 1,
    uptimeMs: 1,
    timeScale: 1,
    restarts: 0,
    clients: 1,
    accepted: 0,
    rejected: 0,
    done: 0,
    failed: 0,
    cancelled: 0,
    expired: 0,
    retries: 0,
    rescues: {},
    outputTokens: 0,
    cachedTokens: 0,
    inFlight: 0,
    queued: 0,
    models: [],
    rejections: {},
    failures: {},
    workers: [
      {
        name: "a",
        state: "ready",
        models: ["m"],
        incarnation,
        inFlight: 0,
        capacity: 1,
        assigned: 0,
        assignedFor: {},
        load: { ...idleLoad, ...load },
        heardMsAgo: 0,
        role: "both" as const,
        speed: 1
      }
    ],
    ...more
  })
  const before = snapshot(1, { requestsDone: 10, outputTokens: 100 })
  const figures = played({ ttftMs: Infinity, tpotMs: Infinity }).figures([])

  const full = { requestsDone: 12, outputTokens: 105, promptTokens: 400, cachedPromptTokens: 100 }

  test("counts what happened since the first snapshot", () => {
    expect(agreement(figures, before, snapshot(1, full))).toEqual(agreed)
  })

  test("leaves out who was gone before it began, unless it came back", () => {
    const [ready] = before.workers
    const gone = { ...ready!, name: "b", state: "lost" as const, load: { ...idleLoad, requestsDone: 7 } }
    const first = snapshot(1, {}, { workers: [ready!, gone] })
    const namesIn = ({ workers }: BalancerSnapshot) => workers.map(({ name }) => name)
    expect(namesIn(without(first, first))).toEqual(["a"])
    const later = { ...ready!, state: "lost" as const }
    expect(namesIn(without(first, snapshot(1, {}, { workers: [later, gone] })))).toEqual(["a"])
    const back = { ...gone, state: "ready" as const, incarnation: 9 }
    const again = without(first, snapshot(1, {}, { workers: [later, back] }))
    expect(namesIn(again)).toEqual(["a", "b"])
    const lostAgain = snapshot(1, {}, { workers: [{ ...back, state: "lost" }] })
    expect(namesIn(without(first, lostAgain))).toEqual(["b"])
  })

  test("says of whom the counts were lost, and still finds more than can be", () => {
    const anew = { ...full, requestsDone: 1, outputTokens: 5 }
    expect(agreement(figures, before, snapshot(2, anew))).toEqual({ ...agreed, lost: ["a"] })
    expect(agreement(figures, before, snapshot(2, full)).differences).toEqual([
      { worker: "a", counter: "requestsDone", ours: 2, theirs: 12 },
      { worker: "a", counter: "outputTokens", ours: 5, theirs: 105 }
    ])
    const [last] = snapshot(1, { requestsDone: 11, outputTokens: 103 }).workers
    const lost = snapshot(1, {}, { workers: [{ ...last!, state: "lost" }] })
    expect(agreement(figures, before, lost)).toEqual({ ...agreed, lost: ["a"] })
    const gone = agreement(figures, before, snapshot(1, {}, { workers: [] }))
    expect(gone).toEqual({ ...agreed, lost: ["a"] })
    const text = reportText({
      trace: "x",
      speed: 1,
      timeScale: 10,
      ...figures,
      agreement: gone,
      againstReplay: null
    })
    expect(text).toContain("  not known in full of a: gone, or started anew")
  })

  test("lays what workers did beyond answers to attempts that gave none, if there were any, and nothing else", () => {
    const more = { ...full, promptTokens: 450, outputTokens: 106 }
    const surplus = [
      { worker: "a", counter: "outputTokens", ours: 5, theirs: 6 },
      { worker: "a", counter: "promptTokens", ours: 400, theirs: 450 }
    ] as const
    expect(agreement(figures, before, snapshot(1, more))).toMatchObject({
      equal: false,
      differences: surplus
    })
    for (const why of [{ rescues: { steal: 1 } }, { retries: 1 }, { failed: 1 }, { cancelled: 1 }])
      expect(agreement(figures, before, snapshot(1, more, why))).toEqual({ ...agreed, abandoned: 1, surplus })
    const less = agreement(figures, before, snapshot(1, { ...full, promptTokens: 399 }, { retries: 1 }))
    expect(less).toMatchObject({ equal: false, surplus: [] })
  })

  test("of a split request finds the prompt where it was read, and the answer where it was produced", () => {
    const tally = new Tally(1, { ttftMs: Infinity, tpotMs: Infinity })
    tally.end(request(300), done("b", 7, 60, 30, 31, "a"), 0, 1100)
    expect(tally.figures([]).workers).toEqual({
      a: { requestsDone: 1, outputTokens: 0, promptTokens: 300, cachedTokens: 60 },
      b: { requestsDone: 1, outputTokens: 7, promptTokens: 0, cachedTokens: 0 }
    })
  })

  test("names each counter that differs", () => {
    const after = snapshot(1, {
      requestsDone: 11,
      outputTokens: 105,
      promptTokens: 400,
      cachedPromptTokens: 101
    })
    const found = agreement(figures, before, after)
    expect(found).toEqual({
      ...agreed,
      equal: false,
      differences: [
        { worker: "a", counter: "requestsDone", ours: 2, theirs: 1 },
        { worker: "a", counter: "cachedTokens", ours: 100, theirs: 101 }
      ]
    })
    const text = reportText({
      trace: "x",
      speed: 1,
      timeScale: 10,
      ...figures,
      agreement: found,
      againstReplay: null
    })
    expect(text).toContain("  a requestsDone: 2 here, 1 there")
  })

  test("a worker only one side knows is a difference", () => {
    const nobody = snapshot(1, {}, { workers: [] })
    expect(agreement(figures, nobody, nobody).differences.map(({ worker }) => worker)).toContain("a")
    const nothing = new Tally(1, { ttftMs: Infinity, tpotMs: Infinity }).figures([])
    expect(agreement(nothing, nobody, snapshot(1, full)).equal).toBe(false)
  })
})

describe("live against replayed", () => {
  const seen = (worker: string | undefined, ttftMs: number, tpotMs = Number.NaN, cachedTokens = 0): Seen => ({
    worker,
    ttftMs,
    tpotMs,
    e2eMs: 2 * ttftMs,
    promptTokens: 100,
    cachedTokens
  })
  const targets = { ttftMs: 30, tpotMs: 5 }
  const live = [seen("a", 10, 4, 50), seen("b", 20, 6), seen(undefined, Number.NaN), seen("a", 60)]
  const replayed = [seen("a", 10, 4, 50), seen("a", 30, 4), seen("b", 1), seen("a", 20)]

  test("compares what was done in both, request for request", () => {
    const found = comparison({ hopMs: 1, lateMs: 2 }, live, replayed, [live, replayed], targets)
    expect(found).toEqual({
      hopMs: 1,
      lateMs: 2,
      samePlacements: 2 / 3,
      live: {
        done: 3,
        ttftMsMean: 30,
        ttftMsP50: 20,
        ttftMsP95: 60,
        tpotMsMean: 5,
        e2eMsMean: 60,
        prefixHitRate: 1 / 6,
        goodput: 1 / 4
      },
      replayed: {
        done: 4,
        ttftMsMean: 61 / 4,
        ttftMsP50: 10,
        ttftMsP95: 30,
        tpotMsMean: 4,
        e2eMsMean: 61 / 2,
        prefixHitRate: 1 / 8,
        goodput: 1
      },
      nudgedTtftMs: { mean: (30 + 61 / 4) / 2, low: 61 / 4, high: 30 }
    })
    const nothing = comparison({ hopMs: 0, lateMs: 0 }, [], [], [], { ttftMs: Infinity, tpotMs: Infinity })
    expect(nothing).toMatchObject({ samePlacements: 1, live: { done: 0, ttftMsMean: null, goodput: null } })
    const text = (againstReplay: Comparison) =>
      reportText({
        trace: "x",
        speed: 1,
        timeScale: 10,
        ...played(targets).figures([]),
        agreement: agreed,
        againstReplay
      })
    expect(text(found)).toMatch(/TTFT ms mean +30\.0 +15\.3 +\+96\.7 %/)
    expect(text(nothing)).not.toContain("NaN")
  })

  test("finds the usual way between processes, and what comes on top of it on average", () => {
    expect(pathOf([4, 4, 4, 4, 24])).toEqual({ hopMs: 1, lateMs: 4 })
    expect(pathOf([])).toEqual({ hopMs: 0, lateMs: 0 })
  })

  test("a journal keeps trace time, and the way of requests that one worker did", () => {
    const journal = new Journal(10)
    journal.left(0, "0000000100000002", 500)
    journal.left(1, "00000001fffffffe", 503)
    journal.ended(0, request(100), { ...done("a", 3, 40, 10, 22), queueMs: 30, prefillMs: 60 } as Ending, 12)
    journal.ended(1, request(50), lost, 0)
    expect(journal.sent).toEqual([
      { atMs: 0, id: { high: 1, low: 2 } },
      { atMs: 30, id: { high: 1, low: 0xffff_fffe } }
    ])
    expect(journal.seen).toMatchObject([
      { worker: "a", ttftMs: 100, tpotMs: 60, e2eMs: 220, promptTokens: 100, cachedTokens: 40 },
      { worker: undefined, ttftMs: Number.NaN, promptTokens: 50 }
    ])
    expect(journal.pathsMs).toEqual([10])
  })
})

test("a progress line never exceeds the width, and is full at the end", () => {
  fc.assert(
    fc.property(
      fc.nat(1e6),
      fc.nat(1e6),
      fc.nat(1e6),
      fc.integer({ min: 1, max: 200 }),
      (finished, failed, left, columns) => {
        const total = finished + failed + left
        const line = progressLine({ total, sent: total, done: finished, failed, rejected: 0 }, columns)
        expect(line.length).toBeLessThanOrEqual(columns)
        if (columns >= 120 && left === 0) expect(line).toMatch(/^\[#+\] {2}100 %/)
      }
    )
  )
})

test("the report lines up", () => {
  const figures = played({ ttftMs: 100, tpotMs: 50 }).figures(["a", "b"])
  const text = reportText({
    trace: "fixture",
    speed: 2,
    timeScale: 10,
    ...figures,
    agreement: agreed,
    againstReplay: null
  })
  expect(text).toMatchInlineSnapshot(`
    "fixture: 1.0 s of trace time at speed 2 and time scale 10

    sent           4
    done           2
    failed         1
    rejected       1
      queue_full   1
      worker_lost  1

    ms     mean    p50    p90    p99    max
    TTFT  200.0  100.5  300.0  300.0  300.0
    TPOT   40.0   40.0   40.0   40.0   40.0
    ITL    30.0    0.0   80.0   80.0   80.0
    E2E   265.0  221.0  310.0  310.0  310.0

    worker  done  prompt tokens  cached  output tokens
    a          2            400     100              5
    b          0              0       0              0

    throughput       2.0 requests/s, 7.0 output tokens/s
    goodput          1.0 requests/s, 25.0 % with TTFT ≤ 100 ms and TPOT ≤ 50 ms
    prefix hit rate  25.0 % of prompt tokens
    load imbalance   lopsided: CV 1.000, max/mean 2.000 of computed tokens
    send lag         p50 0.0, p99 2.0, max 2.0 ms on the wall clock
    agreement        the workers' own counters are equal"
  `)
})

test("the report has a line for each tenant where there are several", () => {
  const textOf = (slo: Targets) => {
    const tally = new Tally(1, slo)
    for (const tenant of ["chat", "batch", "chat", undefined]) {
      tally.send(0, 0)
      const ending = tenant === undefined ? rejected : done("a", 4, 0, tenant === "chat" ? 10 : 20, 22)
      tally.end(request(96, tenant), ending, 6, 1)
    }
    const figures = tally.figures([])
    const facts = { trace: "x", speed: 1, timeScale: 1, agreement: agreed, againstReplay: null }
    const lines = reportText({ ...facts, ...figures }).split("\n")
    const from = lines.findIndex((line) => line.startsWith("tenant"))
    return lines.slice(from, lines.indexOf("", from)).join("\n")
  }
  expect(textOf({ ttftMs: 10, tpotMs: Infinity })).toMatchInlineSnapshot(`
    "tenant   requests  done  in time  tokens
    chat            2     2        2  66.7 %
    batch           1     1        0  33.3 %
    default         1     0        0   0.0 %"
  `)
  expect(textOf({ ttftMs: Infinity, tpotMs: Infinity })).toMatchInlineSnapshot(`
    "tenant   requests  done  tokens
    chat            2     2  66.7 %
    batch           1     1  33.3 %
    default         1     0   0.0 %"
  `)
})
