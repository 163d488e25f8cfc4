import { Reason } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import type { TimedArrival } from "./fluidShares.ts"
import { type Facts, OrderingLife } from "./OrderingLife.ts"
import { equalWorkers, poolOf } from "./pools.ts"

/** A request of a workload. It always fits into an empty worker. */
export interface Arrival {
  readonly tenant: number
  /** The step in which it arrives. */
  readonly at: number
  readonly promptTokens: number
  /** At most `promptTokens`. */
  readonly uncachedTokens: number
  /** At most `maxTokens`. */
  readonly outputTokens: number
  readonly maxTokens: number
  /** Steps after which it is given up; never when left out. */
  readonly patience?: number
}

export interface Workload {
  readonly weights: ReadonlyArray<number>
  /** Tokens that fit into the batch: prompts and the most their answers may be. */
  readonly capacityTokens: number
  /** By `at`. */
  readonly arrivals: ReadonlyArray<Arrival>
  /** Requests of one tenant that may wait; one beyond is refused. Any number when left out. */
  readonly waitingMax?: number
}

const noMatch = { count: 0, workers: new Int32Array(0), blocks: new Int32Array(0) }

/** One worker that holds no prefix. */
const pool: PoolView = { ...poolOf(equalWorkers(1)), match: () => noMatch }

/** What is seen of a run. `waiting` counts the queued requests of each tenant. */
export interface Watch {
  readonly placed?: (arrival: Arrival, step: number, waiting: Int32Array) => void
  readonly produced?: (arrival: Arrival, waiting: Int32Array) => void
  /** A tenant has nobody waiting. */
  readonly idle?: (tenant: number) => void
}

/**
 * A worker with continuous batching, one token for each running request in a step, behind a queue: a request is placed when its prompt and
 * the longest answer it may have fit, and none overtakes the one the ordering names. Tells the ordering what the balancer would.
 */
export const runWorker = (
  ordering: Ordering,
  { capacityTokens, arrivals, waitingMax = Number.POSITIVE_INFINITY, weights }: Workload,
  watch: Watch,
  stepsMax = Number.POSITIVE_INFINITY
): void => {
  const life = new OrderingLife(ordering, pool)
  const waiting = new Int32Array(weights.length)
  /** By slot. */
  const arrivalOf: Array<Arrival> = []
  const free: Array<number> = []
  const impatient = new Set<number>()
  let freeTokens = capacityTokens
  let arrived = 0
  let step = 0

  const needs = (arrival: Arrival): number => arrival.promptTokens + arrival.maxTokens
  const dequeued = ({ tenant }: Arrival): void => {
    if (--waiting[tenant]! === 0) watch.idle?.(tenant)
  }
  const placed = (arrival: Arrival): void => {
    freeTokens -= needs(arrival)
    watch.placed?.(arrival, step, waiting)
  }
  const arrive = (arrival: Arrival): void => {
    if (waiting[arrival.tenant]! >= waitingMax) return
    const slot = free.pop() ?? arrivalOf.length
    arrivalOf[slot] = arrival
    if (arrival.patience !== undefined) impatient.add(slot)
    const facts: Facts = {
      tenant: arrival.tenant,
      weight: weights[arrival.tenant]!,
      promptTokens: arrival.promptTokens,
      maxTokens: arrival.maxTokens
    }
    if (life.queued.size === 0 && needs(arrival) <= freeTokens) {
      life.arriveAtOnce(slot, facts, arrival.uncachedTokens)
      return placed(arrival)
    }
    life.arrive(slot, facts)
    waiting[arrival.tenant]!++
  }
  const fill = (): void => {
    while (life.queued.size > 0) {
      const slot = life.take()
      const arrival = arrivalOf[slot]!
      if (needs(arrival) > freeTokens) return life.putBack(slot)
      dequeued(arrival)
      life.place(slot, arrival.uncachedTokens)
      placed(arrival)
    }
  }
  const end = (slot: number, reason: Reason): void => {
    const arrival = arrivalOf[slot]!
    if (life.queued.has(slot)) dequeued(arrival)
    else freeTokens += needs(arrival)
    life.end(slot, reason)
    impatient.delete(slot)
    free.push(slot)
  }

  for (; step < stepsMax && (arrived < arrivals.length || free.length < arrivalOf.length); step++) {
    life.nowMs = step
    while (arrived < arrivals.length && arrivals[arrived]!.at <= step) arrive(arrivals[arrived++]!)
    fill()
    for (const slot of [...life.placed, ...life.streaming]) {
      const arrival = arrivalOf[slot]!
      if (life.placed.has(slot)) life.start(slot)
      life.produce(slot, 1)
      watch.produced?.(arrival, waiting)
      if (life.at(slot).outputTokens === arrival.outputTokens) end(slot, Reason.none)
    }
    for (const slot of [...impatient]) {
      const { at, patience } = arrivalOf[slot]!
      if (step >= at + patience!) end(slot, Reason.cancelled)
    }
  }
}

/**
 * When each request ends on a worker that works on one at a time, without a break while there is one, and on the one the ordering names.
 * Arrivals by `atMs`; a request costs its prompt tokens. With `joint` those that come at one time are queued together; else the first that
 * comes to an idle worker is placed at once.
 */
export const endsMs = (
  ordering: Ordering,
  {
    arrivals,
    weights
  }: { readonly arrivals: ReadonlyArray<TimedArrival>; readonly weights: ReadonlyArray<number> },
  joint: boolean
): ReadonlyArray<number> => {
  const life = new OrderingLife(ordering, pool)
  const ends = arrivals.map(() => Number.NaN)
  const factsOf = ({ cost, tenant }: TimedArrival): Facts => ({
    tenant,
    weight: weights[tenant]!,
    promptTokens: cost,
    maxTokens: 1
  })
  let arrived = 0
  const arriveUntil = (untilMs: number): void => {
    for (; arrived < arrivals.length && arrivals[arrived]!.atMs <= untilMs; arrived++) {
      life.nowMs = arrivals[arrived]!.atMs
      life.arrive(arrived, factsOf(arrivals[arrived]!))
    }
    life.nowMs = untilMs
  }
  while (life.queued.size > 0 || arrived < arrivals.length) {
    if (life.queued.size === 0) {
      life.nowMs = arrivals[arrived]!.atMs
      if (joint) arriveUntil(life.nowMs)
    }
    let slot = arrived
    if (life.queued.size > 0) {
      slot = life.take()
      life.place(slot)
    } else life.arriveAtOnce(slot, factsOf(arrivals[arrived++]!))
    ends[slot] = life.nowMs + arrivals[slot]!.cost
    arriveUntil(ends[slot]!)
    life.start(slot)
    life.end(slot, Reason.none)
  }
  return ends
}
