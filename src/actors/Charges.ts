import { Role } from "../domain/PoolView.ts"
import type { BalancerPool } from "./BalancerPool.ts"
import type { Request } from "./RequestTable.ts"
import { Charge, type WorkerTable } from "./WorkerTable.ts"

/** How long a started request's blocks are expected at its worker, whose word of them is on its way. */
const CONFIRM_MS = 5_000

/** A worker that holds a request need not have been announced: its pool manager may be new as well. */
const noPools: ReadonlyArray<BalancerPool> = []

/** An attempt, and what it takes at its worker: one object, for each costs a request a miss in the processor's caches. */
export class Attempt extends Charge {
  placedMs = 0
  /** What the prefix index was told to expect of it; -1 for nothing. */
  expectation = -1
}

/**
 * What attempts take at workers, of their time and of their prefix caches. Each is charged before it is sent and released exactly once,
 * and every pool of its worker sees it. O(1) beside the prefix index, and no allocation.
 */
export class Charges {
  private readonly workers: WorkerTable
  /** By worker. */
  private readonly pools: Array<Array<BalancerPool>> = []

  constructor(workers: WorkerTable) {
    this.workers = workers
  }

  /** The pools a worker belongs to. */
  poolsOf(worker: number): ReadonlyArray<BalancerPool> {
    return this.pools[worker] ?? noPools
  }

  /** The worker belongs to one more pool, unless it does already. */
  join(worker: number, pool: BalancerPool): void {
    const pools = (this.pools[worker] ??= [])
    if (pools.includes(pool)) return
    pools.push(pool)
    pool.members.push(worker)
  }

  /** Charges `worker` with an attempt at a request, that does a part of it. Returns the attempt. */
  charge(
    attempt: Attempt,
    request: Request,
    pool: BalancerPool,
    worker: number,
    part: number,
    nowMs: number
  ): Attempt {
    const { prefixes } = pool
    const { promptTokens } = request
    const heldTokens = prefixes === undefined ? 0 : pool.cachedTokens(request)[worker]!
    const cachedTokens = part === Role.decode ? promptTokens : heldTokens
    const isForecast = pool.policies.usesForecast && part !== Role.prefill
    const outputTokens = isForecast ? pool.forecast.meanOutputTokens(request) : 0
    attempt.placedMs = nowMs
    this.workers.charge(attempt, worker, promptTokens, cachedTokens, outputTokens, nowMs)
    if (prefixes !== undefined && request.chain.count > 0) {
      attempt.expectation = prefixes.expect(worker, request.chain, request.deadlineMs)
      pool.unmatch()
    }
    this.refresh(worker)
    return attempt
  }

  /** The prompt of an attempt is no longer pending. */
  started(attempt: Attempt, nowMs: number): void {
    this.workers.started(attempt, nowMs)
  }

  /** The attempt is over. */
  release(attempt: Attempt, { prefixes }: BalancerPool, nowMs: number): void {
    const { expectation, started, worker } = attempt
    if (expectation >= 0) {
      if (started) prefixes!.expectUntil(expectation, nowMs + CONFIRM_MS)
      else prefixes!.withdraw(expectation)
      attempt.expectation = -1
    }
    this.workers.release(attempt)
    this.refresh(worker)
  }

  /** Has the pools of a worker list it, or not, by the room it has. */
  refresh(worker: number): void {
    for (const pool of this.poolsOf(worker)) pool.refresh(worker)
  }
}
