import { describe, expect, test } from "bun:test"
import { Reason, reasonName } from "../../src/domain/Outcome.ts"
import type { BalancerSnapshot, WorkerSnapshot } from "../../src/domain/Snapshot.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import { HttpResponses } from "../../src/observability/HttpResponses.ts"
import { makeMetrics, type MetricSources } from "../../src/observability/Metrics.ts"
import { RequestKinds } from "../../src/observability/RequestKinds.ts"
import { thisProcess } from "../../src/observability/ProcessFacts.ts"
import { Histogram } from "../../src/structures/Histogram.ts"

const worker = (name: string, over: Partial<WorkerSnapshot> = {}): WorkerSnapshot => ({
  name,
  state: "ready",
  models: ["m"],
  incarnation: 1,
  inFlight: 2,
  capacity: 8,
  assigned: 10,
  assignedFor: { first: 7, retry: 2, hedge: 1 },
  load: { ...idleLoad, outputTokens: 100, kvUsedTokens: 5 },
  heardMsAgo: 250,
  role: "both",
  speed: 1,
  ...over
})

const snapshot = (over: Partial<BalancerSnapshot> = {}): BalancerSnapshot => ({
  epoch: 1,
  uptimeMs: 1_000,
  timeScale: 1,
  restarts: 0,
  clients: 3,
  accepted: 12,
  rejected: 4,
  done: 5,
  failed: 1,
  cancelled: 1,
  expired: 1,
  retries: 2,
  rescues: { steal: 5, hedge: 1 },
  outputTokens: 50,
  cachedTokens: 30,
  inFlight: 3,
  queued: 1,
  models: [
    { name: "m", inFlight: 2, queued: 0 },
    { name: "n", inFlight: 1, queued: 1 }
  ],
  rejections: { queue_full: 3, draining: 1 },
  failures: { worker_lost: 1, draining: 2 },
  workers: [worker("w1"), worker("w2", { state: "lost", models: ["m", "n"] })],
  ...over
})

const facts = {
  cpuSeconds: 1.5,
  residentBytes: 1_000,
  heapUsedBytes: 500,
  openFds: 9,
  maxFds: 1_024,
  startedAtSeconds: 1_700_000_000
}

const httpResponses = new HttpResponses()
for (const status of [200, 400, 200]) httpResponses.add("/generate", status)
httpResponses.add("other", 404)

const totals = (): MetricSources["totals"] & { inTime: number; promptTokens: number } => ({
  promptTokens: 100,
  kinds: new RequestKinds(),
  hedges: { won: 2, lost: 3, cancelled: 1 },
  refusals: [],
  inTime: 40,
  late: { ttft: 6, tpot: 4 },
  queueMs: new Histogram(),
  ttftMs: new Histogram(),
  tpotMs: new Histogram(),
  itlMs: new Histogram(),
  e2eMs: new Histogram(),
  ttftOverPredicted: new Histogram()
})

const sources = (over: Partial<MetricSources> = {}): MetricSources => ({
  snapshot,
  totals: totals(),
  queued: () => new Map(),
  modelName: (index) => "mn"[index] ?? `model${index}`,
  tenantName: (index) => ["default", "flood"][index] ?? `tenant${index}`,
  policies: { admission: ["queue-bounds", "slo-feasible"], placement: "power-of-two" },
  targets: { ttftMs: 5_000, tpotMs: 100 },
  decisionMs: { admission: new Histogram(), placement: new Histogram() },
  desiredWorkers: new Map([["m", 2]]),
  actualWorkers: new Map([["m", 1]]),
  protocolErrors: new Map([["bad_frame", 2]]),
  httpResponses,
  restarts: new Map([["balancer", 1]]),
  recordingLosses: () => ({ unwritten: 7, overtaken: 2, crowded: 0 }),
  version: "1.2.3",
  process: () => facts,
  ...over
})

/** Sample lines by name and labels. */
const samples = (text: string): ReadonlyMap<string, number> =>
  new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))])
  )

const families = (
  text: string
): ReadonlyArray<{ readonly name: string; readonly type: string; readonly help: string }> =>
  [...text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\w+)$/gm)].map(([, name, help, type]) => ({
    name: name!,
    type: type!,
    help: help!
  }))

describe("the exposition", () => {
  test("has the names and types that dashboards rely on", async () => {
    const golden = Bun.file(new URL("../golden/metrics.txt", import.meta.url))
    const text = await makeMetrics(sources()).render()
    const names = families(text).map(({ name, type }) => `${name} ${type}`)
    expect(`${names.toSorted().join("\n")}\n`).toBe(await golden.text())
  })

  test("keeps the naming rules of Prometheus", async () => {
    const text = await makeMetrics(sources()).render()
    expect(families(text).length).toBe(text.split("\n").filter((line) => line.startsWith("# TYPE")).length)
    for (const { name, type, help } of families(text)) {
      expect(name).toMatch(/^(parallax|process|nodejs|gen_ai)_[a-z][a-z0-9]*(_[a-z0-9]+)*$/)
      expect(name.endsWith("_total")).toBe(type === "counter")
      expect(name).not.toMatch(/_(ms|milliseconds|minutes|kb|mb|count|sum|bucket)(_|$)/)
      expect(/duration|ttft|tpot|itl|predicted|_first_token|_output_token_/.test(name)).toBe(
        type === "histogram"
      )
      if (type === "histogram") expect(name).toMatch(/_(seconds|ratio)$/)
      expect(help).toMatch(/^[A-Z].*\.$/)
    }
  })

  test("says what the snapshot says", async () => {
    const got = samples(await makeMetrics(sources()).render())
    expect(
      Object.fromEntries(
        [...got].filter(([name]) => !name.includes("_seconds") && !name.includes("start_time"))
      )
    ).toMatchObject({
      'parallax_build_info{version="1.2.3"}': 1,
      'parallax_queue_rejected_total{reason="queue_full"}': 3,
      'parallax_queue_rejected_total{reason="draining"}': 1,
      'parallax_failures_total{reason="worker_lost"}': 1,
      'parallax_failures_total{reason="draining"}': 2,
      'parallax_tokens_total{direction="input",cached="true"}': 30,
      'parallax_tokens_total{direction="input",cached="false"}': 70,
      'parallax_tokens_total{direction="output",cached="false"}': 50,
      parallax_retries_total: 2,
      'parallax_rescues_total{kind="steal"}': 5,
      'parallax_rescues_total{kind="hedge"}': 1,
      'parallax_hedges_total{outcome="won"}': 2,
      'parallax_hedges_total{outcome="lost"}': 3,
      'parallax_hedges_total{outcome="cancelled"}': 1,
      'parallax_decisions_total{policy="power-of-two",reason="first",worker="w1"}': 7,
      'parallax_decisions_total{policy="power-of-two",reason="retry",worker="w2"}': 2,
      'parallax_decisions_total{policy="hedge",reason="rescue",worker="w2"}': 1,
      'parallax_slo_violations_total{type="ttft"}': 6,
      'parallax_slo_violations_total{type="tpot"}': 4,
      parallax_goodput_total: 40,
      parallax_prefix_hit_ratio: 0.3,
      parallax_stale_endpoints: 0,
      'parallax_pool_saturation{model="m"}': 0.25,
      'parallax_inflight{model="m"}': 2,
      'parallax_inflight{model="n"}': 1,
      'parallax_queue_depth{model="m",tenant="other",priority="other"}': 0,
      'parallax_queue_depth{model="n",tenant="other",priority="other"}': 1,
      'parallax_workers{model="m",state="ready"}': 1,
      'parallax_workers{model="m",state="lost"}': 1,
      'parallax_workers{model="n",state="ready"}': 0,
      'parallax_workers{model="n",state="lost"}': 1,
      'parallax_autoscaler_desired_workers{model="m"}': 2,
      'parallax_autoscaler_actual_workers{model="m"}': 1,
      'parallax_worker_ready{worker="w1"}': 1,
      'parallax_worker_ready{worker="w2"}': 0,
      'parallax_worker_output_tokens_total{worker="w1"}': 100,
      'parallax_worker_output_tokens_total{worker="w2"}': 100,
      'parallax_worker_capacity{worker="w1"}': 8,
      'parallax_worker_kv_used_tokens{worker="w1"}': 5,
      // It is lost.
      'parallax_worker_capacity{worker="w2"}': 0,
      'parallax_worker_kv_used_tokens{worker="w2"}': 0,
      'parallax_supervisor_restarts_total{child="balancer"}': 1,
      'parallax_protocol_errors_total{class="bad_frame"}': 2,
      'parallax_http_responses_total{path="/generate",status="200"}': 2,
      'parallax_http_responses_total{path="/generate",status="400"}': 1,
      'parallax_http_responses_total{path="other",status="404"}': 1,
      'parallax_recording_losses_total{reason="unwritten"}': 7,
      'parallax_recording_losses_total{reason="overtaken"}': 2,
      'parallax_recording_losses_total{reason="crowded"}': 0,
      process_resident_memory_bytes: 1_000,
      process_open_fds: 9,
      process_max_fds: 1_024,
      nodejs_heap_size_used_bytes: 500
    })
    expect(got.get("process_cpu_seconds_total")).toBe(1.5)
    expect(got.get('parallax_worker_heartbeat_age_seconds{worker="w1"}')).toBe(0.25)
    expect(got.has('parallax_queue_rejected_total{reason="worker_lost"}')).toBe(false)
    // The one worker that is ready does not serve it.
    expect(got.has('parallax_pool_saturation{model="n"}')).toBe(false)
  })

  test("says nothing of a recording where there is none", async () => {
    const text = await makeMetrics(sources({ recordingLosses: undefined })).render()
    expect(text).not.toMatch(/^parallax_recording/m)
  })

  test("says nothing of file descriptors where the system does not", async () => {
    const process = () => ({ ...facts, openFds: undefined, maxFds: undefined })
    expect(await makeMetrics(sources({ process })).render()).not.toContain("fds")
  })

  test("is read anew each time: nothing is counted twice, a worker that is gone is gone", async () => {
    let now = snapshot()
    const metrics = makeMetrics(sources({ snapshot: () => now }))
    const first = await metrics.render()
    expect(await metrics.render()).toBe(first)
    now = snapshot({ retries: 6, workers: [worker("w2", { state: "suspect" })] })
    const got = samples(await metrics.render())
    expect(got.get("parallax_retries_total")).toBe(6)
    expect(got.get("parallax_stale_endpoints")).toBe(1)
    expect(got.has('parallax_worker_ready{worker="w1"}')).toBe(false)
  })

  test("escapes what peers call themselves", async () => {
    const text = await makeMetrics(
      sources({ snapshot: () => snapshot({ workers: [worker('a"b\nc\\d')] }) })
    ).render()
    expect(text).toContain('parallax_worker_ready{worker="a\\"b\\nc\\\\d"} 1\n')
  })

  test("two of them in one process do not meet", async () => {
    const [one, other] = [makeMetrics(sources()), makeMetrics(sources({ version: "2.0.0" }))]
    expect(await one.render()).toContain('version="1.2.3"')
    expect(await other.render()).not.toContain('version="1.2.3"')
  })
})

describe("histograms", () => {
  test("count in seconds, cumulatively, to within a bucket of the source", async () => {
    const ttftMs = new Histogram()
    const values = Array.from({ length: 1_000 }, (_, i) => 0.2 * 1.01 ** i)
    for (const value of values) ttftMs.record(value)
    const totals = { ...sources().totals, ttftMs }
    const got = samples(await makeMetrics(sources({ totals })).render())
    const bounds = [...got.keys()].flatMap(
      (name) => /^parallax_ttft_seconds_bucket\{le="([\d.]+)"\}$/.exec(name)?.[1] ?? []
    )
    expect(bounds.length).toBe(20)
    let below = 0
    for (const bound of bounds) {
      const count = got.get(`parallax_ttft_seconds_bucket{le="${bound}"}`)!
      const exact = (factor: number) =>
        values.filter((value) => value <= Number(bound) * 1000 * factor).length
      expect(count).toBeGreaterThanOrEqual(Math.max(below, exact(1)))
      expect(count).toBeLessThanOrEqual(exact(1.02))
      below = count
    }
    expect(got.get('parallax_ttft_seconds_bucket{le="+Inf"}')).toBe(1_000)
    expect(got.get("parallax_ttft_seconds_count")).toBe(1_000)
    expect(got.get("parallax_ttft_seconds_sum")).toBeCloseTo(
      values.reduce((sum, value) => sum + value, 0) / 1000,
      6
    )
  })
})

test.each([
  ["request_duration", "e2eMs", "1.28"],
  ["time_to_first_token", "ttftMs", "1"],
  ["time_per_output_token", "tpotMs", "1"]
])(
  "gen_ai_server_%s_seconds counts %s, with the labels and bounds of OpenTelemetry",
  async (what, source, le) => {
    const times = new Histogram()
    for (const ms of [900, 3_000]) times.record(ms)
    const got = samples(await makeMetrics(sources({ totals: { ...totals(), [source]: times } })).render())
    const labels = 'gen_ai_operation_name="text_completion",gen_ai_provider_name="parallax"'
    const name = `gen_ai_server_${what}_seconds`
    expect(got.get(`${name}_bucket{${labels},le="${le}"}`)).toBe(1)
    expect(got.get(`${name}_count{${labels}}`)).toBe(2)
    expect(got.get(`${name}_sum{${labels}}`)).toBeCloseTo(3.9, 9)
  }
)

test("actual over predicted is a ratio: the same bucket at any scale", async () => {
  const ttftOverPredicted = new Histogram()
  for (const ratio of [0.8, 1.05, 3]) ttftOverPredicted.record(ratio)
  const got = samples(await makeMetrics(sources({ totals: { ...totals(), ttftOverPredicted } })).render())
  const name = "parallax_predicted_vs_actual_ratio"
  expect(
    ["0.75", "0.9", "1.1", "2", "+Inf"].map((le) => got.get(`${name}_bucket{type="ttft",le="${le}"}`))
  ).toEqual([0, 1, 2, 2, 3])
  expect(got.get(`${name}_sum{type="ttft"}`)).toBeCloseTo(4.85, 9)
})

describe("requests", () => {
  const kind = (tenant: number, model = 0, priority = 0) => ({ model, tenant, class: priority })

  test("are told apart by model, tenant and class, the first 32 kinds of them", async () => {
    const { kinds, ...rest } = totals()
    for (let tenant = 0; tenant < 40; tenant++) kinds.of(kind(tenant)).done += 2
    kinds.of(kind(1)).failed++
    kinds.of(kind(1, 0, 3)).failed++
    kinds.others.rejected += 5
    const queued = new Map([
      [kinds.of(kind(1)), 3],
      [kinds.others, 4]
    ])
    const models = [{ name: "m", inFlight: 0, queued: 7 }]
    const got = samples(
      await makeMetrics(
        sources({ totals: { ...rest, kinds }, queued: () => queued, snapshot: () => snapshot({ models }) })
      ).render()
    )
    const requests = (tenant: string, outcome: string, priority = "0", model = "m") =>
      got.get(
        `parallax_requests_total{model="${model}",tenant="${tenant}",priority="${priority}",policy="power-of-two",outcome="${outcome}"}`
      )
    expect(requests("flood", "done")).toBe(2)
    expect(requests("flood", "failed")).toBe(1)
    expect(requests("flood", "failed", "3")).toBeUndefined()
    expect(requests("tenant31", "done")).toBe(2)
    expect(requests("tenant32", "done")).toBeUndefined()
    expect(requests("other", "done", "other", "other")).toBe(8 * 2)
    expect(requests("other", "failed", "other", "other")).toBe(1)
    expect(requests("other", "rejected", "other", "other")).toBe(5)
    const depth = (labels: string) => got.get(`parallax_queue_depth{model="m",${labels}}`)
    expect(depth('tenant="flood",priority="0"')).toBe(3)
    expect(depth('tenant="default",priority="0"')).toBe(0)
    expect(depth('tenant="other",priority="other"')).toBe(4)
  })

  test("that were refused count for the policy that refused them, whoever is asked before it", async () => {
    const refusals = [undefined, new Float64Array(256), undefined, new Float64Array(256)]
    refusals[1]![Reason.sloInfeasible] = 4
    const two = { ...totals(), refusals: refusals.slice(0, 2) }
    const got = samples(await makeMetrics(sources({ totals: two })).render())
    expect(got.get('parallax_decisions_total{policy="slo-feasible",reason="slo_infeasible",worker=""}')).toBe(
      4
    )
  })

  test("miss no targets where there are none", async () => {
    const targets = { ttftMs: Number.POSITIVE_INFINITY, tpotMs: Number.POSITIVE_INFINITY }
    const text = await makeMetrics(sources({ targets })).render()
    expect(text).not.toMatch(/^parallax_(slo|goodput)/m)
  })
})

describe("of the last minute", () => {
  const scraped = (of: ReturnType<typeof totals>) => {
    let now = snapshot({ cachedTokens: 0, uptimeMs: 0 })
    const metrics = makeMetrics(sources({ snapshot: () => now, totals: of }))
    return async (seconds: number, cachedTokens: number, name: string) => {
      now = snapshot({ cachedTokens, uptimeMs: seconds * 1000 })
      return samples(await metrics.render()).get(`parallax_${name}`)
    }
  }

  test("the hit ratio is, however often it is looked at; or since it was looked at last", async () => {
    const of = { ...totals(), promptTokens: 0 }
    const ratio = scraped(of)
    const at = (seconds: number, cached: number, prompt: number) => {
      of.promptTokens = prompt
      return ratio(seconds, cached, "prefix_hit_ratio")
    }
    expect(await at(1, 0, 0)).toBeNaN()
    expect(await at(10, 30, 100)).toBe(0.3)
    expect(await at(10.1, 30, 100)).toBe(0.3)
    for (let second = 11; second < 70; second++) expect(await at(second, 30, 100)).toBe(0.3)
    expect(await at(70.5, 30, 100)).toBeNaN()
    expect(await at(300, 130, 300)).toBe(0.5)
    expect(await at(900, 230, 500)).toBe(0.5)
  })

  test("Jain's index is, of tenants that had requests which ended", async () => {
    const of = totals()
    const index = scraped(of)
    const at = (seconds: number) => index(seconds, 0, "jains_fairness_index")
    const of0 = of.kinds.of({ model: 0, tenant: 0, class: 0 })
    const urgent1 = of.kinds.of({ model: 0, tenant: 1, class: 0 })
    const lazy1 = of.kinds.of({ model: 1, tenant: 1, class: 9 })
    of0.done++
    of0.served += 300
    of.kinds.others.done++
    expect(await at(1)).toBeNaN()
    urgent1.done++
    urgent1.served += 100
    lazy1.done++
    lazy1.served += 200
    expect(await at(2)).toBeCloseTo(1, 12)
    of.kinds.of({ model: 0, tenant: 2, class: 0 }).rejected++
    expect(await at(3)).toBeCloseTo(2 / 3, 12)
    expect(await at(100)).toBeNaN()
  })
})

test("decisions of a kind are a histogram each, down to a microsecond", async () => {
  const decisionMs = { admission: new Histogram(), placement: new Histogram() }
  decisionMs.admission.record(0.0005)
  for (const ms of [0.004, 0.02]) decisionMs.placement.record(ms)
  const got = samples(await makeMetrics(sources({ decisionMs })).render())
  const name = "parallax_decision_duration_seconds"
  const admission = 'decision="admission",policy="queue-bounds+slo-feasible"'
  const placement = 'decision="placement",policy="power-of-two"'
  expect(got.get(`${name}_bucket{${admission},le="0.000001"}`)).toBe(1)
  expect(got.get(`${name}_bucket{${placement},le="0.000001"}`)).toBe(0)
  expect(got.get(`${name}_bucket{${placement},le="0.000005"}`)).toBe(1)
  expect(got.get(`${name}_count{${placement}}`)).toBe(2)
  expect(got.get(`${name}_sum{${placement}}`)).toBeCloseTo(0.000_024, 9)
})

describe("series", () => {
  test("stay below 2,100 whatever peers do, and those past the bounds are summed up", async () => {
    const names = Array.from({ length: 300 }, (_, i) => `kind${i}`)
    // As many reasons as a pipeline with two rescues has for sending.
    const assignedFor = { first: 1, retry: 1, steal: 1, hedge: 1 }
    const workers = Array.from({ length: 500 }, (_, i) =>
      worker(`w${i}`, { assignedFor, models: [names[i % 300]!] })
    )
    const models = names.map((name) => ({ name, inFlight: 1, queued: 2 }))
    const counts = new Map(names.map((name) => [name, 1]))
    const { kinds, ...rest } = totals()
    for (let tenant = 0; tenant < 300; tenant++)
      for (const model of [0, 299]) kinds.of({ model, tenant, class: tenant % 256 }).done++
    const reasons = Object.values(Reason)
    const all = Object.fromEntries(reasons.map((code) => [reasonName(code), 1]))
    const refusals = [1, 2, 3].map(() => new Float64Array(256).fill(0).fill(1, 20, 26))
    const admission = ["queue-bounds", "slo-feasible", "prefill-budget"]
    const answers = new HttpResponses()
    for (const path of ["/livez", "/readyz", "/metrics", "/generate", "/admin/decisions", "other"])
      for (const status of [200, 400, 401, 403, 404, 405, 409, 413, 415, 429, 499, 500, 502, 503, 504])
        if (path === "/generate" || status < 405) answers.add(path, status)
    const metrics = makeMetrics(
      sources({
        snapshot: () => snapshot({ models, workers, rejections: all, failures: all }),
        totals: { ...rest, kinds, refusals: [undefined, ...refusals] },
        policies: { admission, placement: "predicted-completion" },
        httpResponses: answers,
        actualWorkers: counts,
        protocolErrors: counts,
        restarts: counts,
        desiredWorkers: counts
      })
    )
    const got = samples(await metrics.render())
    expect(got.size).toBeLessThan(2_100)
    expect(got.get('parallax_worker_inflight{worker="other"}')).toBe((500 - 64) * 2)
    expect(got.get('parallax_worker_output_tokens_total{worker="other"}')).toBe((500 - 64) * 100)
    expect(got.get('parallax_protocol_errors_total{class="other"}')).toBe(300 - 32)
    expect(got.get('parallax_queue_depth{model="other",tenant="other",priority="other"}')).toBe(
      (300 - 32) * 2
    )
    expect(got.get('parallax_workers{model="kind0",state="ready"}')).toBe(2)
    expect(got.get('parallax_workers{model="other",state="ready"}')).toBe(500 - 2 * 32)
  })
})

describe("workers past the bound", () => {
  const output = "parallax_worker_output_tokens_total"
  const producing = (name: string, outputTokens: number, incarnation = 1): WorkerSnapshot =>
    worker(name, { incarnation, load: { ...idleLoad, outputTokens } })
  const named = Array.from({ length: 64 }, (_, i) => producing(`w${i}`, i))
  /** What a scraper gets of these workers, one time after the other. */
  const scraped = async (times: ReadonlyArray<ReadonlyArray<WorkerSnapshot>>) => {
    let workers = times[0]!
    const metrics = makeMetrics(sources({ snapshot: () => snapshot({ workers }) }))
    const got: Array<ReadonlyMap<string, number>> = []
    for (workers of times) got.push(samples(await metrics.render()))
    return got
  }
  const othersIn = async (...times: ReadonlyArray<ReadonlyArray<WorkerSnapshot>>) =>
    (await scraped(times.map((others) => [...named, ...others]))).map((got) =>
      got.get(`${output}{worker="other"}`)
    )

  test("have counters that never fall: the sum keeps what those counted who left", async () => {
    const a = producing("a", 50)
    expect(await othersIn([a, producing("b", 70)], [a], [producing("a", 60)], [])).toEqual([
      120, 120, 130, 130
    ])
    expect(await othersIn([])).toEqual([undefined])
  })

  test("are counted on when they begin anew, and not twice when they connect again", async () => {
    const anew = [producing("a", 50), producing("a", 0, 2), producing("a", 8, 2)]
    expect(await othersIn(...anew.map((each) => [each]))).toEqual([50, 50, 58])
    const again = [producing("a", 50), producing("a", 0), producing("a", 55)]
    expect(await othersIn(...again.map((each) => [each]))).toEqual([50, 50, 55])
  })

  test("get names of their own when there is room, and keep them whoever joins", async () => {
    const late = producing("late", 50)
    const [first, second, third] = await scraped([
      [...named, late],
      [...named.slice(1), late],
      [...named, late]
    ])
    expect(first!.has(`${output}{worker="late"}`)).toBe(false)
    for (const got of [second!, third!]) expect(got.get(`${output}{worker="late"}`)).toBe(50)
    expect([first, second, third].map((got) => got!.get(`${output}{worker="other"}`))).toEqual([50, 50, 50])
    expect(third!.has(`${output}{worker="w0"}`)).toBe(false)
  })
})

test("the facts of this process are in the stated units", () => {
  const { cpuSeconds, heapUsedBytes, maxFds, openFds, residentBytes, startedAtSeconds } = thisProcess()
  expect(cpuSeconds).toBeGreaterThan(0)
  expect(cpuSeconds).toBeLessThan(3_600)
  expect(residentBytes).toBeGreaterThan(10 * 1024 * 1024)
  expect(heapUsedBytes).toBeGreaterThan(100 * 1024)
  expect(heapUsedBytes).toBeLessThan(residentBytes)
  expect(openFds ?? 3).toBeGreaterThanOrEqual(3)
  expect(openFds ?? 3).toBeLessThanOrEqual(maxFds ?? Infinity)
  expect(startedAtSeconds).toBeGreaterThan(1_700_000_000)
  expect(startedAtSeconds).toBeLessThan(10_000_000_000)
})

test("the facts of a process are told also when no file descriptor is free", async () => {
  const script = `
    import { openSync } from "node:fs"
    import { thisProcess } from "./src/observability/ProcessFacts.ts"
    thisProcess()
    try { while (true) openSync("/dev/null", "r") } catch {}
    const { maxFds, openFds, residentBytes } = thisProcess()
    console.log(openFds === maxFds && residentBytes > 0)`
  const child = Bun.spawn(["sh", "-c", 'ulimit -n 100; exec "$0" -e "$1"', process.execPath, script], {
    stderr: "pipe"
  })
  expect(await child.stdout.text()).toBe("true\n")
})
