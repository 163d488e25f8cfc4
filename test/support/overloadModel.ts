import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { presets, stepMs } from "../../src/engines/simulated/CostModel.ts"
import type { Admission, QueueView } from "../../src/policies/Admission.ts"
import { chargedTtftMs, ttftMs } from "../../src/policies/costs.ts"
import { TtftRatio } from "../../src/policies/estimators/TtftRatio.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import {
  charge,
  emptyQueue,
  equalWorkers,
  oneRequest,
  poolOf,
  prefilled,
  quietForecast,
  release,
  setEligible
} from "./pools.ts"

export interface OverloadOptions {
  readonly admission: (rng: Rng) => Admission
  /** Requests a second, as a Poisson process. */
  readonly perSecond: number
  readonly seconds?: number
  readonly seed?: number
  /** What the pool believes its workers cost, over what they do. */
  readonly pricesOff?: number
  /** How often a refused client asks again, as long after as it is told. */
  readonly retries?: number
  /** Requests a worker takes at once. */
  readonly capacity?: number
}

export interface OverloadResult {
  /** Requests a second whose first token came in time. */
  readonly goodput: number
  /** Requests a second that ended. */
  readonly throughput: number
  readonly refused: number
  readonly late: number
  readonly ttftRatio: number
}

const WORKERS = 4
const TTFT_MS = 5_000
const CHUNK_TOKENS = 2048
const MEAN_OUTPUT = 100
const { cost } = presets["8b-a100"]

interface Sequence {
  request: RequestView
  worker: number
  outputTokens: number
  prefillLeft: number
  predictedMs: number
  placedMs: number
  started: boolean
}

interface Arrival {
  readonly atMs: number
  readonly promptTokens: number
  readonly outputTokens: number
  readonly retriesLeft: number
  readonly class: number
}

/**
 * A pool of four workers with continuous batching and chunked prefill in order of arrival, under Poisson arrivals of exponential
 * prompts and answers: no KV limit, no prefix cache. Each request goes to the worker of least predicted time to first token.
 */
export const overloaded = ({
  admission: make,
  perSecond,
  seconds = 120,
  seed = 1,
  pricesOff = 1,
  retries = 0,
  capacity = 64
}: OverloadOptions): OverloadResult => {
  const rng = makeRng(seed)
  const admission = make(rng.split(1))
  const ratio = new TtftRatio()
  const view = poolOf(
    equalWorkers(WORKERS, {
      inFlight: 0,
      capacity,
      baseMs: cost.baseMs * pricesOff,
      prefillTokenMs: cost.prefillTokenMs * pricesOff,
      prefillAttentionMs: cost.prefillAttentionMs * pricesOff,
      decodeSequenceMs: cost.decodeSequenceMs * pricesOff,
      decodeContextMs: cost.decodeContextMs * pricesOff
    })
  )
  const pool: PoolView = Object.assign(view, {
    forecast: {
      ...quietForecast,
      meanOutputTokens: () => MEAN_OUTPUT,
      get ttftRatio() {
        return ratio.value
      }
    }
  })
  for (let worker = 0; worker < WORKERS; worker++) admission.changed?.(worker, true, pool, 0)

  let arrivals = poisson(rng.split(2), perSecond, seconds, retries)
  const batches = Array.from({ length: WORKERS }, (): Array<Sequence> => [])
  const steps = Array.from({ length: WORKERS }, () => ({
    endsMs: Number.POSITIVE_INFINITY,
    chunks: new Map<Sequence, number>()
  }))
  const waiting: Array<Sequence> = []
  const free: Array<number> = []
  let [slots, nowMs, gapMs, departedMs] = [0, 0, 0, -1]
  let [inTime, done, refused, late] = [0, 0, 0, 0]

  const queue: QueueView = {
    ceiling: emptyQueue.ceiling,
    get queuedCount() {
      return waiting.length
    },
    get queuedPromptTokens() {
      return waiting.reduce((sum, { request }) => sum + request.promptTokens, 0)
    },
    get expectedWaitMs() {
      return pool.eligibleCount > 0 ? 0 : (waiting.length + 1) * gapMs
    }
  }

  const refresh = (): void =>
    setEligible(pool, (slot) => pool.workers.inFlight[slot]! < pool.workers.capacity[slot]!)

  const begin = (worker: number): void => {
    const step = steps[worker]!
    step.chunks.clear()
    let [budget, attention, decodes, context] = [CHUNK_TOKENS, 0, 0, 0]
    for (const one of batches[worker]!) {
      if (one.prefillLeft === 0) {
        decodes++
        context += one.request.promptTokens + one.request.outputTokens
      } else if (budget > 0) {
        const chunk = Math.min(budget, one.prefillLeft)
        attention += chunk * (one.request.promptTokens - one.prefillLeft + chunk / 2)
        step.chunks.set(one, chunk)
        budget -= chunk
      }
    }
    step.endsMs =
      batches[worker]!.length === 0
        ? Number.POSITIVE_INFINITY
        : nowMs + stepMs(cost, CHUNK_TOKENS - budget, attention, decodes, context)
  }

  const serve = (): void => {
    while (waiting.length > 0 && pool.eligibleCount > 0) {
      const one = waiting.shift()!
      const eligible = [...pool.eligible.subarray(0, pool.eligibleCount)]
      const costs = eligible.map((each) =>
        ttftMs(pool.workers, each, one.request.promptTokens, 0, MEAN_OUTPUT, nowMs)
      )
      const worker = eligible[costs.indexOf(Math.min(...costs))]!
      one.request = charge(pool, worker, one.request, nowMs)
      one.predictedMs = chargedTtftMs(pool.workers, worker, nowMs)
      one.worker = worker
      one.placedMs = nowMs
      refresh()
      admission.placed?.(one.request, worker, pool, nowMs)
      batches[worker]!.push(one)
      if (steps[worker]!.endsMs === Number.POSITIVE_INFINITY) begin(worker)
    }
  }

  const arrive = ({ promptTokens, outputTokens, retriesLeft, class: rank }: Arrival): void => {
    const slot = free.at(-1) ?? slots
    const request = {
      ...oneRequest,
      slot,
      class: rank,
      promptTokens,
      uncachedTokens: promptTokens,
      maxTokens: 1000,
      arrivedMs: nowMs,
      deadlineMs: nowMs + 60_000
    }
    const refusal = admission.decide(request, pool, queue, nowMs)
    if (refusal !== null) {
      refused++
      if (retriesLeft > 0)
        arrivals = insert(arrivals, {
          atMs: nowMs + refusal.retryAfterMs,
          promptTokens,
          outputTokens,
          retriesLeft: retriesLeft - 1,
          class: rank
        })
      return
    }
    if (free.pop() === undefined) slots++
    admission.admitted?.(request, pool, nowMs)
    waiting.push({
      request,
      worker: -1,
      outputTokens,
      prefillLeft: promptTokens,
      predictedMs: 0,
      placedMs: 0,
      started: false
    })
    serve()
  }

  const token = (one: Sequence): void => {
    if (!one.started) {
      one.started = true
      prefilled(pool, one.worker, one.request, nowMs)
      ratio.record(one.predictedMs, nowMs - one.placedMs, nowMs)
      admission.timed?.(one.request, one.worker, pool, nowMs)
      admission.started?.(one.request, one.worker, pool, nowMs)
      if (nowMs - one.request.arrivedMs <= allowedMs(one.request.promptTokens)) inTime++
      else late++
    }
    Object.assign(one.request, { outputTokens: one.request.outputTokens + 1 })
    admission.produced?.(one.request, 1, pool, nowMs)
    if (one.request.outputTokens < one.outputTokens) return
    done++
    release(pool, one.worker, one.request)
    batches[one.worker] = batches[one.worker]!.filter((each) => each !== one)
    free.push(one.request.slot)
    refresh()
    admission.released?.(one.request, one.worker, Reason.none, pool, nowMs)
    admission.ended?.(one.request, Reason.none, pool, nowMs)
    if (waiting.length > 0 && departedMs >= 0)
      gapMs += (gapMs === 0 ? 1 : 0.05) * (nowMs - departedMs - gapMs)
    departedMs = waiting.length > 0 ? nowMs : -1
  }

  const endStep = (worker: number): void => {
    const { chunks } = steps[worker]!
    for (const one of [...batches[worker]!]) {
      const chunk = chunks.get(one)
      if (chunk !== undefined) one.prefillLeft -= chunk
      if (chunk === undefined ? one.prefillLeft === 0 : one.prefillLeft === 0) token(one)
    }
    begin(worker)
    serve()
  }

  const untilMs = seconds * 1000
  for (;;) {
    const next = arrivals.at(-1)?.atMs ?? Number.POSITIVE_INFINITY
    const stepAt = steps.reduce((least, { endsMs }) => Math.min(least, endsMs), Number.POSITIVE_INFINITY)
    nowMs = Math.min(next, stepAt)
    if (nowMs >= untilMs) break
    ratio.review(nowMs)
    if (next <= stepAt) arrive(arrivals.pop()!)
    else endStep(steps.findIndex(({ endsMs }) => endsMs === stepAt))
  }
  return {
    goodput: inTime / seconds,
    throughput: done / seconds,
    refused,
    late,
    ttftRatio: ratio.value
  }
}

/** Time to first token that is in time, as slo-feasible has it by default. */
const allowedMs = (promptTokens: number): number =>
  Math.max(
    TTFT_MS,
    2 * (cost.prefillTokenMs * promptTokens + (cost.prefillAttentionMs * promptTokens ** 2) / 2)
  )

/** Latest first. */
const poisson = (rng: Rng, perSecond: number, seconds: number, retries: number): Array<Arrival> => {
  const arrivals: Array<Arrival> = []
  const exponential = (mean: number): number => -mean * Math.log(1 - rng.next())
  for (let atMs = exponential(1000 / perSecond); atMs < seconds * 1000; atMs += exponential(1000 / perSecond))
    arrivals.push({
      atMs,
      promptTokens: Math.ceil(exponential(2000)),
      outputTokens: Math.min(1000, Math.ceil(exponential(MEAN_OUTPUT))),
      retriesLeft: retries,
      class: 0
    })
  return arrivals.toReversed()
}

const insert = (arrivals: Array<Arrival>, one: Arrival): Array<Arrival> => {
  let [from, to] = [0, arrivals.length]
  while (from < to) {
    const middle = (from + to) >>> 1
    if (arrivals[middle]!.atMs > one.atMs) from = middle + 1
    else to = middle
  }
  arrivals.splice(from, 0, one)
  return arrivals
}
