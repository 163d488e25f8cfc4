import type { Reason } from "../domain/Outcome.ts"
import { type Forecast, type PoolView, Role } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import type { QueueView, Rejection } from "../policies/Admission.ts"
import type { BatchView } from "../policies/Batching.ts"
import { classCeiling } from "../policies/ceilings.ts"
import { Estimates } from "../policies/estimators/Estimates.ts"
import { QueuePace } from "../policies/estimators/QueuePace.ts"
import { ROOM_KEPT, TenantShares } from "../policies/estimators/TenantShares.ts"
import type { Pipeline } from "../policies/pipelines.ts"
import type { PolicyEvents } from "../policies/Policy.ts"
import type { PrefixIndex, PrefixMatch } from "../structures/PrefixIndex.ts"
import { bytes, floats, ints } from "../structures/grow.ts"
import { SlotLists } from "../structures/SlotLists.ts"
import type { DecisionLog } from "./DecisionLog.ts"
import { State } from "./Progress.ts"
import type { Stopwatches } from "./Stopwatch.ts"
import { WorkerList } from "./WorkerList.ts"
import type { WorkerTable } from "./WorkerTable.ts"

export interface BalancerPoolOptions {
  readonly workers: WorkerTable
  readonly policies: Pipeline
  /** Who holds which prefix blocks; looked at only where a policy asks for it. */
  readonly prefixes: PrefixIndex
  /** Prompt tokens that one block of a chain stands for. */
  readonly blockTokens: number
  /** Who keeps account of what is decided. */
  readonly decisions?: DecisionLog | undefined
  /** Who takes the time of decisions. */
  readonly stopwatches?: Stopwatches | undefined
}

const STATES = Object.keys(State).length

/** Retries that may be saved up while nothing fails, beyond which no more are; and what a new pool starts with. */
const RETRIES_MAX = 50
const RETRIES_START = 3

/** One model's workers and queue, as the balancer decides over them, and its policies, as they hear of them. */
export class BalancerPool implements PoolView, QueueView, BatchView {
  readonly workers: WorkerTable
  readonly policies: Pipeline
  readonly blockTokens: number
  readonly forecast: Forecast
  queuedPromptTokens = 0
  /** Attempts charged to workers, and requests of this pool that stream. */
  placed = 0
  /** When requests began to wait that were not placed yet. */
  sinceMs = 0
  /** Workers there have been, ready or not. */
  readonly members: Array<number> = []
  /** The admission policy that refused last. */
  refusedBy = -1
  /** Whether requests wait for the end of the turn. */
  waiting = false
  /** The index, where a policy asks for it. */
  readonly prefixes: PrefixIndex | undefined
  /** Whether some policy wants to be told of tokens as they come. */
  readonly listensToTokens: boolean
  /** Whether somebody wants to look through `stages`. */
  private readonly keepsStages: boolean
  /** By `State`: the slots of requests that came into it, in that order. */
  private readonly stages = new SlotLists(STATES)
  /** Who could be picked, by role. */
  private readonly whole: WorkerList
  private readonly reading: WorkerList
  private readonly producing: WorkerList
  private readonly lists: ReadonlyArray<WorkerList>
  /** By worker: one more than its role, 0 while it is not ready; and how many are, by role. */
  private readonly ready: Uint8Array
  private readonly readyCounts = [0, 0, 0]
  /** Whether the placement policy splits requests, and may do so now. */
  private readonly splits: boolean
  private splitting = true
  /** Who produces the tokens of the request that was picked for last, where that is another worker; -1 else. */
  producer = -1
  private readonly listeners: Listeners
  private readonly decisions: DecisionLog | undefined
  private readonly stopwatches: Stopwatches | undefined
  private retries = RETRIES_START
  private readonly pace = new QueuePace()
  private readonly shares = new TenantShares()
  /** Bounds are as many times as large while it is asked what more room would change. */
  private stretch = 1
  /** The request of the last `match`, as long as nothing has changed since; its tokens by worker; and who has any. */
  private matched: RequestView | undefined
  private readonly held: Float64Array
  private readonly holders: Int32Array
  private holderCount = 0

  constructor(options: BalancerPoolOptions) {
    const { workers, policies, prefixes, blockTokens, decisions } = options
    const { limit } = workers
    const estimates = new Estimates()
    const { admissions, ordering, batching, placement, rescues } = policies
    this.workers = workers
    this.policies = policies
    this.blockTokens = blockTokens
    this.forecast = estimates
    this.prefixes = policies.usesPrefixes ? prefixes : undefined
    this.listeners = listenersOf([
      ...(policies.usesForecast ? [estimates] : []),
      ...admissions,
      ordering,
      batching,
      placement,
      ...rescues,
      ...(decisions === undefined ? [] : [decisions])
    ])
    this.decisions = decisions
    this.stopwatches = options.stopwatches
    this.listensToTokens = this.listeners.produced.length > 0
    this.keepsStages = this.listensToTokens || rescues.length > 0
    this.whole = new WorkerList(workers)
    this.reading = new WorkerList(workers)
    this.producing = new WorkerList(workers)
    this.lists = [this.whole, this.reading, this.producing]
    this.splits = placement.decodeOn !== undefined
    this.ready = bytes(limit)
    this.held = floats(limit)
    this.holders = ints(limit)
  }

  get eligible(): Int32Array {
    return this.whole.slots
  }

  get eligibleCount(): number {
    return this.whole.count
  }

  get prefill(): Int32Array {
    return this.reading.slots
  }

  get prefillCount(): number {
    return this.splitting ? this.reading.count : 0
  }

  get decode(): Int32Array {
    return this.producing.slots
  }

  get decodeCount(): number {
    return this.splitting ? this.producing.count : 0
  }

  /** An attempt at the request in `slot` was placed, or has its first token. */
  reached(slot: number, state: number): void {
    if (!this.keepsStages) return
    this.stages.remove(slot)
    this.stages.pushBack(state, slot)
  }

  /** The attempt at the request in `slot` is over. */
  left(slot: number): void {
    if (this.keepsStages) this.stages.remove(slot)
  }

  /** Calls `visit` with the slots of those that are in `state`, in the order in which they came into it. It may act on the one it is given. */
  eachIn(state: number, visit: (slot: number) => void): void {
    this.stages.each(state, visit)
  }

  /** Whether anyone could be picked. */
  get hasRoom(): boolean {
    return this.whole.count > 0 || (this.splits && this.reading.count > 0 && this.producing.count > 0)
  }

  /** Whether anyone is ready, with room or without. */
  get isServed(): boolean {
    const [whole, reading, producing] = this.readyCounts
    return whole! > 0 || (this.splits && reading! > 0 && producing! > 0)
  }

  /** Whether `worker` could be picked for a whole request. */
  takes(worker: number): boolean {
    return this.whole.has(worker)
  }

  /** Whether `worker` could be picked, for a whole request or to read its prompt. */
  mayPick(worker: number): boolean {
    const role = this.workers.role[worker]!
    const isAsked = role === Role.both || (role === Role.prefill && this.splits && this.decodeCount > 0)
    return isAsked && this.lists[role]!.has(worker)
  }

  get queuedCount(): number {
    return this.policies.ordering.size()
  }

  get count(): number {
    return this.queuedCount
  }

  get idle(): boolean {
    const { inFlight } = this.workers
    for (let i = 0; i < this.eligibleCount; i++) if (inFlight[this.eligible[i]!] === 0) return true
    return false
  }

  /** Queue length × the usual gap between departures; 0 while a worker has room or nothing was measured. */
  get expectedWaitMs(): number {
    if (this.hasRoom) return 0
    return this.isServed ? (this.queuedCount + 1) * this.pace.gapMs : Infinity
  }

  ceiling(request: RequestView): number {
    return this.stretch * classCeiling(request.class) * this.shares.ceiling(request)
  }

  /** The first refusal of an admission policy, or null when all let the request in. */
  refusal(request: RequestView, nowMs: number): Rejection | null {
    this.stopwatches?.admission.begin()
    const refusal = this.firstRefusal(request, nowMs)
    this.stopwatches?.admission.end()
    return refusal
  }

  private firstRefusal(request: RequestView, nowMs: number): Rejection | null {
    const { admissions } = this.policies
    for (let i = 0; i < admissions.length; i++) {
      const refusal = admissions[i]!.decide(request, this, this, nowMs)
      if (refusal === null) continue
      this.refusedBy = i
      return refusal
    }
    return null
  }

  /** Whether some admission policy drops a request whose turn has come. */
  isOverdue(request: RequestView, nowMs: number): boolean {
    const { admissions } = this.policies
    for (let i = 0; i < admissions.length; i++)
      if (admissions[i]!.isOverdue?.(request, nowMs) === true) return true
    return false
  }

  match(request: RequestView): PrefixMatch {
    const { prefixes } = this
    if (prefixes === undefined || request.chain.count === 0) {
      this.hold(nobody, 0)
      this.matched = undefined
      return nobody
    }
    const match = prefixes.match(request.chain)
    this.hold(match, request.promptTokens)
    this.matched = request
    return match
  }

  cachedTokens(request: RequestView): Float64Array {
    if (this.matched !== request) this.match(request)
    return this.held
  }

  /** Runs `look`; what it has matched meanwhile is forgotten, and what was matched before is so again. */
  aside(look: () => void): void {
    const { held, holderCount, holders, matched } = this
    const before = holders.slice(0, holderCount)
    const tokens = Float64Array.from(before, (worker) => held[worker]!)
    look()
    this.hold(nobody, 0)
    for (const [i, worker] of before.entries()) {
      holders[i] = worker
      held[worker] = tokens[i]!
    }
    this.holderCount = holderCount
    this.matched = matched
  }

  /** What was matched is void: the index has changed, or another request has the same object. */
  unmatch(): void {
    this.matched = undefined
  }

  private hold({ count, workers, blocks }: PrefixMatch, promptTokens: number): void {
    const { held, holders, blockTokens } = this
    for (let i = 0; i < this.holderCount; i++) held[holders[i]!] = 0
    for (let i = 0; i < count; i++) {
      const worker = workers[i]!
      holders[i] = worker
      held[worker] = Math.min(blocks[i]! * blockTokens, promptTokens - 1)
    }
    this.holderCount = count
  }

  /** Whether `worker` may get new work, by the word of the pool manager. */
  setReady(worker: number, ready: boolean, nowMs: number): void {
    const before = this.ready[worker]!
    // It may have registered anew.
    if (before > 0 === ready) return this.refresh(worker)
    if (ready) {
      const role = this.workers.role[worker]!
      this.ready[worker] = role + 1
      this.readyCounts[role]!++
      this.refresh(worker)
    } else {
      // It may be back in another role.
      this.ready[worker] = 0
      this.readyCounts[before - 1]!--
      this.list(this.lists[before - 1]!, worker, false)
    }
    const { changed } = this.listeners
    for (let i = 0; i < changed.length; i++) changed[i]!(worker, ready, this, nowMs)
  }

  isReady(worker: number): boolean {
    return this.ready[worker]! > 0
  }

  /** Lists or unlists `worker` after its readiness or what it has to do changed. */
  refresh(worker: number): void {
    const as = this.ready[worker]!
    if (as === 0) return
    const { pendingPrefillTokens } = this.workers
    const behind = pendingPrefillTokens[worker]! >= this.policies.pendingTokensMax
    this.list(this.lists[as - 1]!, worker, this.workers.hasRoom(worker) && !behind)
  }

  private list(list: WorkerList, worker: number, listed: boolean): void {
    list.set(worker, listed)
    this.tellTouched(worker)
  }

  /**
   * Asks the placement policy; `producer` says the rest of the answer. `avoided`, the worker that just failed the request (-1 for none),
   * counts only if it is alone. Where that failed in its part of a split request, this one is not split, if that can be.
   */
  pick(request: RequestView, avoided: number, nowMs: number): number {
    if (avoided < 0) return this.ask(request, avoided, nowMs)
    const list = this.lists[this.workers.role[avoided]!]!
    const isHidden = list.count > 1 && list.has(avoided)
    this.splitting = list === this.whole || this.whole.count === 0
    if (isHidden) this.list(list, avoided, false)
    const picked = this.ask(request, avoided, nowMs)
    if (isHidden) this.list(list, avoided, true)
    this.splitting = true
    return picked
  }

  private ask(request: RequestView, avoided: number, nowMs: number): number {
    const { placement } = this.policies
    this.stopwatches?.placement.begin()
    const picked = placement.pick(request, this, nowMs)
    this.producer = this.splits ? placement.decodeOn!() : -1
    this.stopwatches?.placement.end()
    this.decisions?.picked(request, this, picked, avoided, nowMs)
    return picked
  }

  /** Asks the placement policy, which can, for several requests at once: `picked` is as `Placement.pickBatch` has it. */
  pickTogether(requests: ReadonlyArray<RequestView>, picked: Int32Array, nowMs: number): void {
    this.stopwatches?.placement.begin()
    this.policies.placement.pickBatch!(requests, this, nowMs, picked)
    this.stopwatches?.placement.end()
    this.decisions?.pickedTogether(requests, picked, this, nowMs)
  }

  /** Whether a retry was saved up, that may be spent. */
  get hasRetry(): boolean {
    return this.retries >= 1
  }

  /** Saves up a share of one. */
  saveRetry(share: number): void {
    if (this.retries < RETRIES_MAX) this.retries += share
  }

  spendRetry(): void {
    this.retries--
  }

  /** An attempt ended. Says whether requests wait. */
  departed(nowMs: number): boolean {
    const waiting = this.queuedCount > 0
    this.pace.departed(nowMs, waiting)
    return waiting
  }

  /** An admission policy refused it. Tenants that were served more leave room from now on, where that would have let it in. */
  tellRefused(request: RequestView, nowMs: number): void {
    if (!this.shares.isBehind(request)) return
    this.stretch = 1 / (1 - ROOM_KEPT)
    if (this.firstRefusal(request, nowMs) === null) this.shares.refused(request, nowMs)
    this.stretch = 1
  }

  tellAdmitted(request: RequestView, nowMs: number): void {
    this.decisions?.letIn(request, this, nowMs)
    const { admitted } = this.listeners
    for (let i = 0; i < admitted.length; i++) admitted[i]!(request, this, nowMs)
  }

  tellPlaced(request: RequestView, worker: number, nowMs: number): void {
    this.shares.placed(request, nowMs)
    const { placed } = this.listeners
    for (let i = 0; i < placed.length; i++) placed[i]!(request, worker, this, nowMs)
  }

  tellHandedOver(request: RequestView, from: number, worker: number, nowMs: number): void {
    const { handedOver } = this.listeners
    for (let i = 0; i < handedOver.length; i++) handedOver[i]!(request, from, worker, this, nowMs)
  }

  tellTimed(request: RequestView, worker: number, nowMs: number): void {
    const { timed } = this.listeners
    for (let i = 0; i < timed.length; i++) timed[i]!(request, worker, this, nowMs)
  }

  tellStarted(request: RequestView, worker: number, nowMs: number): void {
    const { started } = this.listeners
    for (let i = 0; i < started.length; i++) started[i]!(request, worker, this, nowMs)
  }

  tellProduced(request: RequestView, tokens: number, nowMs: number): void {
    const { produced } = this.listeners
    for (let i = 0; i < produced.length; i++) produced[i]!(request, tokens, this, nowMs)
  }

  tellReleased(request: RequestView, worker: number, reason: Reason, nowMs: number): void {
    const { released } = this.listeners
    for (let i = 0; i < released.length; i++) released[i]!(request, worker, reason, this, nowMs)
  }

  tellEnded(request: RequestView, reason: Reason, nowMs: number): void {
    this.shares.ended(request, nowMs)
    const { ended } = this.listeners
    for (let i = 0; i < ended.length; i++) ended[i]!(request, reason, this, nowMs)
  }

  tellObserved(worker: number, nowMs: number): void {
    const { observed } = this.listeners
    for (let i = 0; i < observed.length; i++) observed[i]!(worker, this, nowMs)
    this.tellTouched(worker)
  }

  private tellTouched(worker: number): void {
    const { touched } = this.listeners
    for (let i = 0; i < touched.length; i++) touched[i]!(worker, this.whole.has(worker), this)
  }
}

/** By event, what is to be called. */
type Listeners = { readonly [Event in keyof PolicyEvents]-?: ReadonlyArray<NonNullable<PolicyEvents[Event]>> }

const listenersOf = (policies: ReadonlyArray<PolicyEvents>): Listeners => {
  const listening = <Event extends keyof PolicyEvents>(event: Event) =>
    policies.flatMap((policy) => policy[event] ?? [])
  return {
    admitted: listening("admitted"),
    placed: listening("placed"),
    handedOver: listening("handedOver"),
    timed: listening("timed"),
    started: listening("started"),
    produced: listening("produced"),
    released: listening("released"),
    ended: listening("ended"),
    observed: listening("observed"),
    changed: listening("changed"),
    touched: listening("touched")
  }
}

const nobody: PrefixMatch = { count: 0, workers: new Int32Array(0), blocks: new Int32Array(0) }
