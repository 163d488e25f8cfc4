import type { Done, Ending } from "../../client/index.ts"
import type { TraceRequest } from "../../domain/Trace.ts"
import type { Targets } from "../../policies/pipelines.ts"
import { areMet } from "../../simulator/report/bounds.ts"
import { Histogram } from "../../structures/Histogram.ts"
import { imbalance, type Imbalance } from "../../structures/imbalance.ts"
import { sum } from "../../structures/mean.ts"
import { type TenantFigures, tenantFigures, type TenantWork } from "./tenants.ts"
import { timesOf } from "./timesOf.ts"

/** What one worker did, counted by us from the answers or by the worker itself. */
export interface WorkerWork {
  readonly requestsDone: number
  readonly outputTokens: number
  readonly promptTokens: number
  readonly cachedTokens: number
}

/** A distribution of times, in ms; null where there is none. */
export interface Times {
  readonly count: number
  readonly mean: number | null
  readonly p50: number | null
  readonly p90: number | null
  readonly p99: number | null
  readonly max: number | null
}

/** Requests that met every target. */
export interface Goodput {
  readonly sloTtftMs: number | null
  readonly sloTpotMs: number | null
  readonly met: number
  readonly requestsPerSecond: number
  /** Of all requests sent, in [0, 1]. */
  readonly share: number
}

/** Requests that left, and how those that have ended did. */
export interface Counts {
  readonly sent: number
  readonly done: number
  readonly failed: number
  readonly rejected: number
}

/** The figures of a replay. Times and rates are in trace time: those of the wall clock, scaled back. */
export interface Figures extends Counts {
  /** Failures and rejections by reason. */
  readonly reasons: Readonly<Record<string, number>>
  /** From the first request sent to the last ending. */
  readonly durationSeconds: number
  readonly ttftMs: Times
  readonly tpotMs: Times
  readonly itlMs: Times
  readonly e2eMs: Times
  readonly requestsPerSecond: number
  readonly outputTokensPerSecond: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly cachedTokens: number
  /** Share of the prompt tokens of done requests that a worker had in its prefix cache. */
  readonly prefixHitRate: number
  /** Null when no target was given. */
  readonly goodput: Goodput | null
  /** Over the tokens each worker computed: output, and prompt tokens it had not cached. */
  readonly imbalance: Imbalance
  readonly workers: Readonly<Record<string, WorkerWork>>
  /** None where all requests are of one. */
  readonly tenants: ReadonlyArray<TenantFigures>
  /** How late requests left, on the wall clock: what the sender itself adds. */
  readonly sendLagMs: Times
}

const idle: WorkerWork = { requestsDone: 0, outputTokens: 0, promptTokens: 0, cachedTokens: 0 }
const silent: TenantWork = { requests: 0, done: 0, met: 0, tokens: 0 }

/** Counts what becomes of the requests of a replay. Wall-clock times go in, `timeScale` times as much comes out. */
export class Tally {
  private sent = 0
  private done = 0
  private failed = 0
  private rejected = 0
  private readonly timeScale: number
  /** In ms of trace time. */
  private readonly slo: Targets
  private readonly reasons = new Map<string, number>()
  private readonly workers = new Map<string, WorkerWork>()
  private readonly tenants = new Map<string, TenantWork>()
  private readonly ttft = new Histogram()
  private readonly tpot = new Histogram()
  private readonly itl = new Histogram()
  private readonly e2e = new Histogram()
  private readonly lag = new Histogram()
  /** Tokens the client was given, those of requests that failed later included. */
  private delivered = 0
  private met = 0
  private firstSentMs = 0
  private lastEndedMs = 0

  constructor(timeScale: number, slo: Targets) {
    this.timeScale = timeScale
    this.slo = slo
  }

  get counts(): Counts {
    const { sent, done, failed, rejected } = this
    return { sent, done, failed, rejected }
  }

  /** A request leaves at `nowMs`; it was due at `dueMs`. */
  send(dueMs: number, nowMs: number): void {
    if (this.sent === 0) this.firstSentMs = nowMs
    this.sent++
    this.lag.record(Math.max(0, nowMs - dueMs))
  }

  /** `count` tokens came together, `gapMs` after the ones before; a gap of -1 marks the first tokens of an answer. */
  tokens(count: number, gapMs: number): void {
    this.delivered += count
    if (gapMs >= 0) this.itl.record(gapMs * this.timeScale)
    for (let i = 1; i < count; i++) this.itl.record(0)
  }

  /** `decodeMs` is the time from the first to the last token. */
  end(request: TraceRequest, ending: Ending, decodeMs: number, nowMs: number): void {
    this.lastEndedMs = nowMs
    if (ending.outcome === "done") return this.finish(request, ending, decodeMs)
    this.account(request, {})
    if (ending.outcome === "rejected") this.rejected++
    else this.failed++
    this.reasons.set(ending.reason, (this.reasons.get(ending.reason) ?? 0) + 1)
  }

  /** `workers` are those that could have worked: one that did nothing counts as well. */
  figures(workers: ReadonlyArray<string>): Figures {
    const all = {
      ...Object.fromEntries(workers.map((name) => [name, idle])),
      ...Object.fromEntries(this.workers)
    }
    const total = (count: (work: WorkerWork) => number): number => sum(Object.values(all).map(count))
    const seconds = ((this.lastEndedMs - this.firstSentMs) * this.timeScale) / 1000
    const perSecond = (count: number): number => (seconds > 0 ? count / seconds : 0)
    const promptTokens = total((work) => work.promptTokens)
    const cachedTokens = total((work) => work.cachedTokens)
    const goodput = this.goodput(perSecond)
    return {
      ...this.counts,
      reasons: Object.fromEntries(this.reasons),
      durationSeconds: seconds,
      ttftMs: times(this.ttft),
      tpotMs: times(this.tpot),
      itlMs: times(this.itl),
      e2eMs: times(this.e2e),
      requestsPerSecond: perSecond(this.done),
      outputTokensPerSecond: perSecond(this.delivered),
      promptTokens,
      outputTokens: this.delivered,
      cachedTokens,
      prefixHitRate: promptTokens === 0 ? 0 : cachedTokens / promptTokens,
      goodput,
      imbalance: imbalance(
        Object.values(all).map((work) => work.promptTokens - work.cachedTokens + work.outputTokens)
      ),
      workers: all,
      tenants: tenantFigures(this.tenants, goodput !== null),
      sendLagMs: times(this.lag)
    }
  }

  private finish(request: TraceRequest, ending: Done, decodeMs: number): void {
    this.done++
    const { e2eMs, tpotMs, ttftMs } = timesOf(ending, decodeMs, this.timeScale)
    this.ttft.record(ttftMs)
    this.e2e.record(e2eMs)
    if (!Number.isNaN(tpotMs)) this.tpot.record(tpotMs)
    const met = areMet(this.slo, ttftMs, tpotMs) ? 1 : 0
    this.met += met
    const { cachedTokens, reader, tokens, worker } = ending
    const { promptTokens } = request
    this.account(request, { done: 1, met, tokens: promptTokens + tokens })
    // Of a split request each of the two finished its part.
    if (reader === undefined) this.credit(worker, { outputTokens: tokens, promptTokens, cachedTokens })
    else {
      this.credit(reader, { promptTokens, cachedTokens })
      this.credit(worker, { outputTokens: tokens })
    }
  }

  private credit(
    worker: string,
    { outputTokens = 0, promptTokens = 0, cachedTokens = 0 }: Partial<WorkerWork>
  ): void {
    const work = this.workers.get(worker) ?? idle
    this.workers.set(worker, {
      requestsDone: work.requestsDone + 1,
      outputTokens: work.outputTokens + outputTokens,
      promptTokens: work.promptTokens + promptTokens,
      cachedTokens: work.cachedTokens + cachedTokens
    })
  }

  /** A request of a tenant has ended; the name of nobody is "default". */
  private account(
    { tenant = "default" }: TraceRequest,
    { done = 0, met = 0, tokens = 0 }: Partial<TenantWork>
  ): void {
    const work = this.tenants.get(tenant) ?? silent
    this.tenants.set(tenant, {
      requests: work.requests + 1,
      done: work.done + done,
      met: work.met + met,
      tokens: work.tokens + tokens
    })
  }

  private goodput(perSecond: (count: number) => number): Goodput | null {
    const { ttftMs, tpotMs } = this.slo
    if (ttftMs === Infinity && tpotMs === Infinity) return null
    const target = (ms: number): number | null => (ms === Infinity ? null : ms)
    return {
      sloTtftMs: target(ttftMs),
      sloTpotMs: target(tpotMs),
      met: this.met,
      requestsPerSecond: perSecond(this.met),
      share: this.sent === 0 ? 0 : this.met / this.sent
    }
  }
}

const times = (histogram: Histogram): Times => {
  const known = (value: number): number | null => (histogram.count === 0 ? null : value)
  return {
    count: histogram.count,
    mean: known(histogram.mean),
    p50: known(histogram.quantile(0.5)),
    p90: known(histogram.quantile(0.9)),
    p99: known(histogram.quantile(0.99)),
    max: known(histogram.max)
  }
}
