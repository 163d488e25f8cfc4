import { Counter, Gauge, Registry } from "prom-client"
import type { BalancerSnapshot, ModelSnapshot, WorkerSnapshot, WorkerState } from "../domain/Snapshot.ts"
import type { Histogram } from "../structures/Histogram.ts"
import type { HttpResponses } from "./HttpResponses.ts"
import { LastingSum, NamedWorkers } from "./OtherWorkers.ts"
import type { ProcessFacts } from "./ProcessFacts.ts"
import type { RecordingLosses } from "./Recorder.ts"

/** Where the numbers come from; read when somebody asks for them, so that counting costs the request path nothing. */
export interface MetricSources {
  readonly snapshot: () => BalancerSnapshot
  /** What the snapshot does not hold: totals since the start of the process. */
  readonly totals: {
    /** Of finished requests. */
    readonly promptTokens: number
    readonly queueMs: Histogram
    readonly ttftMs: Histogram
    readonly tpotMs: Histogram
    readonly e2eMs: Histogram
  }
  /** How long decisions took, of a sample of them. */
  readonly decisionMs: { readonly admission: Histogram; readonly placement: Histogram }
  /** Worker processes there should be, by model. */
  readonly desiredWorkers: ReadonlyMap<string, number>
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

/** Label values told apart, per family; the others share the value `other`. Keeps a process below 2,000 series. */
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
  ]
}

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
  const one = (value: number): Iterable<Sample> => [[{}, value]]

  gauge("build_info", "Version of the running program; always 1.", ["version"], () => [
    [{ version: sources.version }, 1]
  ])

  counter("requests_total", "Requests that ended, by outcome.", ["outcome"], () =>
    (["done", "failed", "cancelled", "expired", "rejected"] as const).map((outcome) => [
      { outcome },
      now[outcome]
    ])
  )
  counter("rejections_total", "Requests that were not let in, by reason.", ["reason"], () =>
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
  counter("tokens_total", "Tokens of finished requests.", ["direction", "cached"], () => [
    [{ direction: "input", cached: "true" }, now.cachedTokens],
    [{ direction: "input", cached: "false" }, Math.max(0, sources.totals.promptTokens - now.cachedTokens)],
    [{ direction: "output", cached: "false" }, now.outputTokens]
  ])
  gauge("inflight", "Requests placed on a worker and not ended.", ["model"], () =>
    byModel(now, ({ inFlight }) => inFlight)
  )
  gauge("queue_depth", "Requests admitted and not placed.", ["model"], () =>
    byModel(now, ({ queued }) => queued)
  )
  gauge("clients", "Client connections.", [], () => one(now.clients))

  const { decisionMs, totals } = sources
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
  histogram(
    "request_duration_seconds",
    "From arrival to the last token, of finished requests.",
    bounds.wait,
    [[{}, totals.e2eMs]]
  )
  histogram(
    "decision_duration_seconds",
    "Time that policies took to decide, of a sample of decisions.",
    bounds.decision,
    [
      [{ decision: "admission" }, decisionMs.admission],
      [{ decision: "placement" }, decisionMs.placement]
    ]
  )

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
  for (const [name, help, read] of workerGauges)
    gauge(name, help, ["worker"], () =>
      now.workers.map((worker) => [{ worker: named.has(worker) ? worker.name : "other" }, read(worker)])
    )
  for (const [name, help, read] of workerCounters) {
    const sum = new LastingSum(read)
    counter(name, help, ["worker"], () => {
      const others = now.workers.filter((worker) => !named.has(worker))
      const total = sum.of(others)
      const apart = now.workers
        .filter(named.has)
        .map((worker): Sample => [{ worker: worker.name }, read(worker)])
      return others.length === 0 && total === 0 ? apart : [...apart, [{ worker: "other" }, total]]
    })
  }

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
      facts = sources.process()
      return registry.metrics()
    }
  }
}

/** What every program counts about its process keeps the name it has everywhere. */
const fullName = (name: string): string => (/^(process|nodejs)_/.test(name) ? name : `parallax_${name}`)

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
  ["worker_waiting", "Sequences that wait for the worker's batch.", there(({ load }) => load.waiting)],
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
  ["worker_assigned_total", "Attempts sent to the worker.", ({ assigned }) => assigned],
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

/** Adds histograms counted elsewhere, in ms, shown in seconds: bucket counts are exact to within 1 % of their bounds. */
const histograms =
  (registry: Registry) =>
  (name: string, help: string, bounds: ReadonlyArray<number>, sources: ReadonlyArray<Source>): void => {
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
            sample("bucket", source.countAtMost(le * 1000), { ...labels, le: String(le) })
          ),
          sample("bucket", source.count, { ...labels, le: "+Inf" }),
          sample("sum", source.sum / 1000, labels),
          sample("count", source.count, labels)
        ])
      })
    registry.registerMetric({ ...family, get } as never)
  }
