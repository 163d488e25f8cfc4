import { Counter, Gauge, Registry } from "prom-client"
import { reasonName } from "../domain/Outcome.ts"
import type { BalancerSnapshot, ModelSnapshot, WorkerSnapshot, WorkerState } from "../domain/Snapshot.ts"
import type { Histogram } from "../structures/Histogram.ts"
import { jain } from "../structures/imbalance.ts"
import type { HttpResponses } from "./HttpResponses.ts"
import { LastMinute } from "./LastMinute.ts"
import { LastingSum, NamedWorkers } from "./OtherWorkers.ts"
import type { ProcessFacts } from "./ProcessFacts.ts"
import type { RecordingLosses } from "./Recorder.ts"
import type { RequestKind, RequestKinds } from "./RequestKinds.ts"

/** Where the numbers come from; read when somebody asks for them, so that counting costs the request path nothing. */
export interface MetricSources {
  readonly snapshot: () => BalancerSnapshot
  /** What the snapshot does not hold: totals since the start of the process. */
  readonly totals: {
    /** Of finished requests. */
    readonly promptTokens: number
    readonly kinds: RequestKinds
    readonly hedges: { readonly won: number; readonly lost: number; readonly cancelled: number }
    /** By the place of the admission policy that refused, counted from the last, which is 1; then by `Reason`. */
    readonly refusals: ReadonlyArray<Float64Array | undefined>
    readonly inTime: number
    readonly late: { readonly ttft: number; readonly tpot: number }
    readonly queueMs: Histogram
    readonly ttftMs: Histogram
    readonly tpotMs: Histogram
    readonly itlMs: Histogram
    readonly e2eMs: Histogram
    readonly ttftOverPredicted: Histogram
  }
  /** Requests that wait for a worker, by kind; none where there are none. */
  readonly queued: () => ReadonlyMap<RequestKind, number>
  /** By index. */
  readonly modelName: (index: number) => string
  readonly tenantName: (index: number) => string
  /** The policies in force, by name. */
  readonly policies: { readonly admission: ReadonlyArray<string>; readonly placement: string }
  /** The times that admission holds requests to; without end where it does not. */
  readonly targets: { readonly ttftMs: number; readonly tpotMs: number }
  /** How long decisions took, of a sample of them. */
  readonly decisionMs: { readonly admission: Histogram; readonly placement: Histogram }
  /** Worker processes there should be, and those of them that are ready, by model. */
  readonly desiredWorkers: ReadonlyMap<string, number>
  readonly actualWorkers: ReadonlyMap<string, number>
  /** Broken protocol rules, by kind. */
  readonly protocolErrors: ReadonlyMap<string, number>
  readonly httpResponses: HttpResponses
  /** Restarts by supervisors, by child. */
  readonly restarts: ReadonlyMap<string, number>
  /** Left out where nothing is recorded. */
  readonly recordingLosses?: (() => RecordingLosses) | undefined
  readonly version: string
  readonly process: () => ProcessFacts
}

/** The metrics of a balancer process, for a scraper. */
export interface Metrics {
  readonly contentType: string
  /** Prometheus text. One consistent snapshot each time; cost about 2 ms with 16 workers, 5 ms with 100. */
  readonly render: () => Promise<string>
}

/** Label values told apart, per family; the others share the value `other`. Keeps a process below 2,100 series. */
const KINDS_MAX = 32

/** Upper bounds of buckets, in seconds. */
const bounds = {
  /** Down to half a millisecond, because queueing is short. */
  wait: [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160
  ],
  /** Close together where targets lie. */
  token: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  /** From the least that a `Histogram` of milliseconds resolves. */
  decision: [
    0.000001, 0.0000025, 0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01
  ],
  /** Not in seconds: around 1, where predictions come true. */
  ratio: [0.1, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 10]
}

/** As OpenTelemetry's conventions for generative AI have them: names, upper bounds in seconds, and labels. All models are counted together. */
const genAiBounds = {
  request_duration: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
  time_to_first_token: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  time_per_output_token: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]
}
const genAiLabels = { gen_ai_operation_name: "text_completion", gen_ai_provider_name: "parallax" }

/** All but `stopped`, which no snapshot shows. */
const states: ReadonlyArray<WorkerState> = ["starting", "ready", "suspect", "draining", "lost"]

type Labels = Readonly<Record<string, string>>
type Sample = readonly [labels: Labels, value: number]

/** Names every family, in a registry of its own. */
export const makeMetrics = (sources: MetricSources): Metrics => {
  const registry = new Registry()
  let now: BalancerSnapshot = sources.snapshot()
  let facts: ProcessFacts = sources.process()
  const named = new NamedWorkers()
  const lastMinute = new LastMinute()
  let gained: ReadonlyArray<number> = []

  const family =
    (Kind: typeof Counter | typeof Gauge) =>
    (
      name: string,
      help: string,
      labelNames: ReadonlyArray<string>,
      samples: () => Iterable<Sample>
    ): void => {
      const metric: Counter | Gauge = new Kind({
        name: fullName(name),
        help,
        labelNames,
        registers: [registry],
        collect: () => {
          metric.reset()
          for (const [labels, value] of samples()) metric.inc(labels, value)
        }
      })
    }
  const counter = family(Counter)
  const gauge = family(Gauge)
  const histogram = histograms(registry)
  /** A count of each worker, those of workers that do not go by name summed up. */
  const byWorker = (read: OfWorker[2], labels: Labels = {}): (() => ReadonlyArray<Sample>) => {
    const lasting = new LastingSum(read)
    return () => {
      const unnamed = now.workers.filter((worker) => !named.has(worker))
      const total = lasting.of(unnamed)
      const apart = now.workers
        .filter(named.has)
        .map((worker): Sample => [{ ...labels, worker: worker.name }, read(worker)])
      return unnamed.length === 0 && total === 0 ? apart : [...apart, [{ ...labels, worker: "other" }, total]]
    }
  }
  const one = (value: number): Iterable<Sample> => [[{}, value]]

  gauge("build_info", "Version of the running program; always 1.", ["version"], () => [
    [{ version: sources.version }, 1]
  ])

  const { totals } = sources
  const { admission, placement } = sources.policies
  const sent = new Map<string, () => ReadonlyArray<Sample>>()
  const sentFor = (why: string): (() => ReadonlyArray<Sample>) => {
    const isPlaced = placedFor.has(why)
    const labels = isPlaced ? { policy: placement, reason: why } : { policy: why, reason: "rescue" }
    return byWorker(({ assignedFor }) => assignedFor[why] ?? 0, labels)
  }
  function* decisions(): Iterable<Sample> {
    for (const { assignedFor } of now.workers)
      for (const why of Object.keys(assignedFor)) if (!sent.has(why)) sent.set(why, sentFor(why))
    for (const samples of sent.values()) yield* samples()
    for (const [place, counts] of totals.refusals.entries())
      for (const [reason, count] of counts?.entries() ?? [])
        if (count > 0)
          yield [{ policy: admission.at(-place)!, reason: reasonName(reason), worker: "" }, count]
  }
  const labelsOf = ({ traits }: RequestKind): Labels =>
    traits === undefined
      ? { model: "other", ...others }
      : {
          model: modelLabel(sources.modelName(traits.model), traits.model),
          tenant: sources.tenantName(traits.tenant),
          priority: String(traits.class)
        }
  function* byQueue(queued: ReadonlyMap<RequestKind, number>): Iterable<Sample> {
    const left = now.models.map((model) => model.queued)
    for (const kind of totals.kinds.all) {
      if (kind.traits === undefined) continue
      const count = queued.get(kind) ?? 0
      left[kind.traits.model]! -= count
      yield [labelsOf(kind), count]
    }
    for (const [i, { name }] of now.models.entries())
      yield [{ model: modelLabel(name, i), ...others }, Math.max(0, left[i]!)]
  }
  counter(
    "requests_total",
    "Requests that ended, by outcome; those of kinds that are not told apart as other.",
    ["model", "tenant", "priority", "policy", "outcome"],
    () =>
      totals.kinds.all.flatMap((kind) =>
        kind.traits === undefined && kind.ended === 0
          ? []
          : outcomes.map((outcome): Sample => [
              { ...labelsOf(kind), policy: placement, outcome },
              kind[outcome]
            ])
      )
  )
  counter("queue_rejected_total", "Requests that were not let in, by reason.", ["reason"], () =>
    byKind("reason", Object.entries(now.rejections))
  )
  counter("failures_total", "Admitted requests that did not end well, by reason.", ["reason"], () =>
    byKind("reason", Object.entries(now.failures))
  )
  counter(
    "retries_total",
    "Attempts that follow one that failed; what rescue policies add is not among them.",
    [],
    () => one(now.retries)
  )
  counter(
    "rescues_total",
    "Requests taken from their workers or copied before they started, by the rescue policy that did.",
    ["kind"],
    () => byKind("kind", Object.entries(now.rescues))
  )
  counter(
    "hedges_total",
    "Copies of requests that are over: won when the copy went on, lost when the first attempt did, cancelled with the request.",
    ["outcome"],
    () => byKind("outcome", Object.entries(totals.hedges))
  )
  counter(
    "decisions_total",
    "Attempts sent to a worker, by the policy that chose it; requests refused, by the policy that did.",
    ["policy", "worker", "reason"],
    decisions
  )
  counter("tokens_total", "Tokens of finished requests.", ["direction", "cached"], () => [
    [{ direction: "input", cached: "true" }, now.cachedTokens],
    [{ direction: "input", cached: "false" }, Math.max(0, totals.promptTokens - now.cachedTokens)],
    [{ direction: "output", cached: "false" }, now.outputTokens]
  ])
  gauge("inflight", "Requests placed on a worker and not ended.", ["model"], () =>
    byModel(now, ({ inFlight }) => inFlight)
  )
  gauge(
    "queue_depth",
    "Requests admitted and not placed; those of kinds that are not told apart as other, by model.",
    ["model", "tenant", "priority"],
    () => byQueue(sources.queued())
  )
  gauge("pool_saturation", "Share of the capacity of a model's ready workers that is taken.", ["model"], () =>
    bySaturation(now)
  )
  gauge(
    "prefix_hit_ratio",
    "Share of the prompt tokens that were cached, of requests that finished in the last minute; NaN of none.",
    [],
    () => {
      const [cachedTokens = 0, promptTokens = 0] = gained
      return one(cachedTokens / promptTokens)
    }
  )
  gauge(
    "jains_fairness_index",
    "How alike tenants were served in the last minute, for their weights: 1 / n when one of n has all; NaN of fewer than two.",
    [],
    () => {
      const served = servedByTenant(totals.kinds, gained)
      return one(served.length > 1 ? jain(served) : Number.NaN)
    }
  )
  gauge("clients", "Client connections.", [], () => one(now.clients))

  const { decisionMs, targets } = sources
  histogram("queue_duration_seconds", "From arrival to the first placement.", bounds.wait, [
    [{}, totals.queueMs]
  ])
  histogram("ttft_seconds", "From arrival to the first token.", bounds.wait, [[{}, totals.ttftMs]])
  histogram(
    "tpot_seconds",
    "From the first token to the end, per token after the first, of finished requests that had any.",
    bounds.token,
    [[{}, totals.tpotMs]]
  )
  histogram("itl_seconds", "Between two frames of tokens of a request.", bounds.token, [[{}, totals.itlMs]])
  histogram(
    "request_duration_seconds",
    "From arrival to the last token, of finished requests.",
    bounds.wait,
    [[{}, totals.e2eMs]]
  )
  for (const [name, source] of [
    ["request_duration", totals.e2eMs],
    ["time_to_first_token", totals.ttftMs],
    ["time_per_output_token", totals.tpotMs]
  ] as const)
    histogram(
      `gen_ai_server_${name}_seconds`,
      `The metric gen_ai.server.${name} of OpenTelemetry.`,
      genAiBounds[name],
      [[genAiLabels, source]]
    )
  histogram(
    "decision_duration_seconds",
    "Time that policies took to decide, of a sample of decisions.",
    bounds.decision,
    [
      [{ decision: "admission", policy: admission.join("+") }, decisionMs.admission],
      [{ decision: "placement", policy: placement }, decisionMs.placement]
    ]
  )
  histogram(
    "predicted_vs_actual_ratio",
    "From placement to the first token: the actual time over the predicted one.",
    bounds.ratio,
    [[{ type: "ttft" }, totals.ttftOverPredicted]],
    1
  )
  const missed = (
    [
      ["ttft", targets.ttftMs],
      ["tpot", targets.tpotMs]
    ] as const
  ).filter(([, targetMs]) => Number.isFinite(targetMs))
  if (missed.length > 0) {
    counter("slo_violations_total", "Finished requests that missed a target of admission.", ["type"], () =>
      missed.map(([type]) => [{ type }, totals.late[type]])
    )
    counter("goodput_total", "Finished requests that missed no target of admission.", [], () =>
      one(totals.inTime)
    )
  }

  gauge(
    "workers",
    "Workers by model and state; one of several models counts for each, one that is gone as lost for ten minutes.",
    ["model", "state"],
    () => byState(now)
  )
  gauge(
    "autoscaler_desired_workers",
    "Worker processes the autoscaler keeps for a model; workers from elsewhere are not among them.",
    ["model"],
    () => byKind("model", sources.desiredWorkers)
  )
  gauge("autoscaler_actual_workers", "Of these processes, those that are ready.", ["model"], () =>
    byKind("model", sources.actualWorkers)
  )
  gauge("stale_endpoints", "Workers whose heartbeat is late: they get no new requests.", [], () =>
    one(now.workers.filter(({ state }) => state === "suspect").length)
  )
  for (const [name, help, read] of workerGauges)
    gauge(name, help, ["worker"], () =>
      now.workers.map((worker) => [{ worker: named.has(worker) ? worker.name : "other" }, read(worker)])
    )
  for (const [name, help, read] of workerCounters) counter(name, help, ["worker"], byWorker(read))

  counter("supervisor_restarts_total", "Children restarted by their supervisors.", ["child"], () =>
    byKind("child", sources.restarts)
  )
  counter("protocol_errors_total", "Protocol rules broken by peers.", ["class"], () =>
    byKind("class", sources.protocolErrors)
  )
  counter(
    "http_responses_total",
    "Answers of the HTTP listener, by path and status; a stream counts when it begins.",
    ["path", "status"],
    () => byAnswer(sources.httpResponses)
  )

  counter(
    "recording_losses_total",
    "Requests missing in the recording: unwritten for the disk, overtaken by too many others, crowded out.",
    ["reason"],
    () => byKind("reason", Object.entries(sources.recordingLosses?.() ?? {}))
  )

  counter("process_cpu_seconds_total", "CPU time used by the process.", [], () => one(facts.cpuSeconds))
  for (const [name, help, read] of processGauges)
    if (read(facts) !== undefined) gauge(name, help, [], () => one(read(facts)!))

  return {
    contentType: registry.contentType,
    render: () => {
      now = sources.snapshot()
      named.update(now.workers)
      gained = lastMinute.gained(recentCounts(now, totals), now.uptimeMs)
      facts = sources.process()
      return registry.metrics()
    }
  }
}

/** What every program counts about its process, and every server of models, keeps the name it has everywhere. */
const fullName = (name: string): string =>
  /^(process|nodejs|gen_ai)_/.test(name) ? name : `parallax_${name}`

type OfProcess = readonly [name: string, help: string, read: (facts: ProcessFacts) => number | undefined]

const processGauges: ReadonlyArray<OfProcess> = [
  ["process_resident_memory_bytes", "Resident memory of the process.", ({ residentBytes }) => residentBytes],
  [
    "process_start_time_seconds",
    "When the process started, in seconds since the epoch.",
    ({ startedAtSeconds }) => startedAtSeconds
  ],
  ["process_open_fds", "Open file descriptors.", ({ openFds }) => openFds],
  ["process_max_fds", "Most file descriptors that may be open.", ({ maxFds }) => maxFds],
  [
    "nodejs_heap_size_used_bytes",
    "JavaScript heap in use, as of about the last garbage collection.",
    ({ heapUsedBytes }) => heapUsedBytes
  ]
]

type OfWorker = readonly [name: string, help: string, read: (worker: WorkerSnapshot) => number]

/** What a worker that is lost said last holds no more, and would be in every sum until it is forgotten. */
const there =
  (read: OfWorker[2]): OfWorker[2] =>
  (worker) =>
    worker.state === "lost" ? 0 : read(worker)

const workerGauges: ReadonlyArray<OfWorker> = [
  ["worker_ready", "Whether the worker may get requests.", ({ state }) => (state === "ready" ? 1 : 0)],
  ["worker_inflight", "Attempts charged to the worker.", ({ inFlight }) => inFlight],
  ["worker_capacity", "Most attempts the worker takes at once.", there(({ capacity }) => capacity)],
  ["worker_running", "Sequences in the worker's batch.", there(({ load }) => load.running)],
  ["worker_queue_depth", "Sequences that wait for the worker's batch.", there(({ load }) => load.waiting)],
  ["worker_kv_used_tokens", "Tokens in the worker's KV cache.", there(({ load }) => load.kvUsedTokens)],
  ["worker_kv_capacity_tokens", "Size of the worker's KV cache.", there(({ load }) => load.kvCapacityTokens)],
  [
    "worker_heartbeat_age_seconds",
    "Time since the worker's last heartbeat.",
    ({ heardMsAgo }) => heardMsAgo / 1000
  ]
]

/** As the worker counts: from its start on. */
const workerCounters: ReadonlyArray<OfWorker> = [
  ["worker_done_total", "Attempts the worker finished.", ({ load }) => load.requestsDone],
  ["worker_failed_total", "Attempts that failed in the worker.", ({ load }) => load.requestsFailed],
  ["worker_prompt_tokens_total", "Prompt tokens the worker took in.", ({ load }) => load.promptTokens],
  [
    "worker_cached_tokens_total",
    "Prompt tokens the worker found in its prefix cache.",
    ({ load }) => load.cachedPromptTokens
  ],
  ["worker_output_tokens_total", "Tokens the worker produced.", ({ load }) => load.outputTokens]
]

/** Models past the bound are summed up. */
const modelLabel = (name: string, index: number): string => (index < KINDS_MAX ? name : "other")

/** Why attempts are sent to workers that the placement policy chose; all others go by the rescue that chose. */
const placedFor = new Set(["first", "retry", "handed_over"])

const outcomes = ["done", "failed", "cancelled", "expired", "rejected"] as const

/** Of requests whose kind is not told apart. */
const others: Labels = { tenant: "other", priority: "other" }

/** What is shown of the last minute: tokens of prompts, then of each kind how many requests ended, and what it was served. */
const recentCounts = (
  { cachedTokens }: BalancerSnapshot,
  { kinds, promptTokens }: MetricSources["totals"]
): ReadonlyArray<number> => [
  cachedTokens,
  promptTokens,
  ...kinds.all.flatMap(({ ended, served }) => [ended, served])
]

/** Of the tenants that are told apart and had requests that ended. */
const servedByTenant = (
  kinds: RequestKinds,
  [, , ...gained]: ReadonlyArray<number>
): ReadonlyArray<number> => {
  const served = new Map<number, number>()
  for (const [i, { traits }] of kinds.all.entries())
    if (traits !== undefined && gained[2 * i]! > 0)
      served.set(traits.tenant, (served.get(traits.tenant) ?? 0) + gained[2 * i + 1]!)
  return [...served.values()]
}

function* bySaturation({ models, workers }: BalancerSnapshot): Iterable<Sample> {
  const labels = new Map(models.map(({ name }, i) => [name, modelLabel(name, i)]))
  const sums = new Map<string, readonly [inFlight: number, capacity: number]>()
  for (const { capacity, inFlight, models: served, state } of workers)
    for (const name of state === "ready" ? served : []) {
      const model = labels.get(name) ?? "other"
      const [taken, all] = sums.get(model) ?? [0, 0]
      sums.set(model, [taken + inFlight, all + capacity])
    }
  for (const [model, [taken, all]] of sums) yield [{ model }, taken / all]
}

const byModel = ({ models }: BalancerSnapshot, read: (model: ModelSnapshot) => number): Iterable<Sample> =>
  models.map((model, i) => [{ model: modelLabel(model.name, i) }, read(model)])

/** A state that no worker is in is shown too: that none is ready is what alerts ask for. */
function* byState({ models, workers }: BalancerSnapshot): Iterable<Sample> {
  const labels = new Map(models.map(({ name }, i) => [name, modelLabel(name, i)]))
  for (const model of new Set(labels.values())) for (const state of states) yield [{ model, state }, 0]
  for (const { models, state } of workers)
    for (const name of models) yield [{ model: labels.get(name) ?? "other", state }, 1]
}

function* byAnswer(responses: HttpResponses): Iterable<Sample> {
  for (const [path, status, count] of responses.all()) yield [{ path, status: String(status) }, count]
}

/** Kinds past the bound are summed up. */
function* byKind(label: string, counts: Iterable<readonly [string, number]>): Iterable<Sample> {
  let seen = 0
  for (const [kind, count] of counts) yield [{ [label]: seen++ < KINDS_MAX ? kind : "other" }, count]
}

type Source = readonly [labels: Labels, source: Histogram]

/** Adds histograms counted elsewhere, `scale` to a unit that is shown: bucket counts are exact to within 1 % of their bounds. */
const histograms =
  (registry: Registry) =>
  (
    name: string,
    help: string,
    bounds: ReadonlyArray<number>,
    sources: ReadonlyArray<Source>,
    scale = 1000
  ): void => {
    const family = { name: fullName(name), help, type: "histogram" as const, aggregator: "sum" as const }
    const sample = (suffix: string, value: number, labels: Labels) => ({
      metricName: `${family.name}_${suffix}`,
      value,
      labels
    })
    const get = () =>
      Promise.resolve({
        ...family,
        values: sources.flatMap(([labels, source]) => [
          ...bounds.map((le) =>
            sample("bucket", source.countAtMost(le * scale), { ...labels, le: String(le) })
          ),
          sample("bucket", source.count, { ...labels, le: "+Inf" }),
          sample("sum", source.sum / scale, labels),
          sample("count", source.count, labels)
        ])
      })
    registry.registerMetric({ ...family, get } as never)
  }
