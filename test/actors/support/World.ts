import { expect } from "bun:test"
import { BalancerState, type BalancerEffects } from "../../../src/actors/BalancerState.ts"
import { Phase, RequestTable } from "../../../src/actors/RequestTable.ts"
import { Stopwatch } from "../../../src/actors/Stopwatch.ts"
import { makeTotals } from "../../../src/actors/Totals.ts"
import { WorkerTable } from "../../../src/actors/WorkerTable.ts"
import { Reason } from "../../../src/domain/Outcome.ts"
import { type PoolView, Role } from "../../../src/domain/PoolView.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import { choiceOf, makePipeline, pipelines, type Pipeline } from "../../../src/policies/pipelines.ts"
import type { PolicyEvents } from "../../../src/policies/Policy.ts"
import { Flag } from "../../../src/protocol/Header.ts"
import { ChainBuffer } from "../../../src/structures/PrefixChain.ts"
import { PrefixIndex } from "../../../src/structures/PrefixIndex.ts"
import { makeRng } from "../../../src/structures/Rng.ts"

/** Two blocks, of which the first is the same for all kinds. */
export const chainBytes = (kind: number): Buffer =>
  Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2 + kind])

/** A policy that hears everything, and breaks where the calls are not those that `PolicyEvents` promises. */
class Told implements Admission {
  /** By slot: where the request stands, by what was told of it; and the worker it was placed on. */
  private readonly requests = new Map<number, "admitted" | "placed" | "handedOver" | "started">()
  private readonly workers = new Map<number, number>()
  private readonly tokens = new Map<number, number>()
  /** By eligible worker: its requests in flight, by what was told of it. */
  private readonly loads = new Map<number, number>()
  private pool: PoolView | undefined
  private readonly log: Array<string>

  constructor(log: Array<string>) {
    this.log = log
  }

  readonly decide = () => null
  readonly admitted: NonNullable<PolicyEvents["admitted"]> = ({ slot }) => {
    expect(this.requests.has(slot)).toBe(false)
    this.requests.set(slot, "admitted")
    this.tokens.set(slot, 0)
  }
  readonly placed: NonNullable<PolicyEvents["placed"]> = (request, worker, { workers }) => {
    const { slot, promptTokens, uncachedTokens } = request
    expect(this.requests.get(slot)).toBe("admitted")
    expect(uncachedTokens).toBeGreaterThan(0)
    expect(uncachedTokens).toBeLessThanOrEqual(promptTokens)
    expect(workers.inFlight[worker]).toBeGreaterThan(0)
    this.requests.set(slot, "placed")
    this.workers.set(slot, worker)
  }
  readonly handedOver: NonNullable<PolicyEvents["handedOver"]> = ({ slot }, from, worker, { workers }) => {
    expect([this.requests.get(slot), this.workers.get(slot)]).toEqual(["placed", from])
    expect(workers.inFlight[worker]).toBeGreaterThan(0)
    this.requests.set(slot, "handedOver")
    this.workers.set(slot, worker)
  }
  readonly started: NonNullable<PolicyEvents["started"]> = ({ slot }, worker) => {
    expect(["placed", "handedOver"]).toContain(this.requests.get(slot)!)
    expect(this.workers.get(slot)).toBe(worker)
    this.requests.set(slot, "started")
  }
  readonly produced: NonNullable<PolicyEvents["produced"]> = ({ idLow, slot, outputTokens }, tokens) => {
    this.log.push(`${idLow} has ${tokens} more`)
    expect(this.requests.get(slot)).toBe("started")
    expect(tokens).toBeGreaterThan(0)
    const all = this.tokens.get(slot)! + tokens
    expect(all).toBeLessThanOrEqual(outputTokens)
    this.tokens.set(slot, all)
  }
  readonly released: NonNullable<PolicyEvents["released"]> = ({ slot, outputTokens }, worker) => {
    const before = this.requests.get(slot)
    expect(["placed", "handedOver", "started"]).toContain(before!)
    expect(this.workers.get(slot)).toBe(worker)
    if (before === "started") expect(this.tokens.get(slot)).toBe(outputTokens)
    this.requests.set(slot, "admitted")
  }
  readonly ended: NonNullable<PolicyEvents["ended"]> = ({ slot }) => {
    expect(this.requests.get(slot)).toBe("admitted")
    this.requests.delete(slot)
  }
  readonly touched: NonNullable<PolicyEvents["touched"]> = (worker, eligible, pool) => {
    this.pool = pool
    if (eligible) this.loads.set(worker, pool.workers.inFlight[worker]!)
    else this.loads.delete(worker)
  }

  check({ core, holders }: World): void {
    expect(this.requests.size).toBe(core.inFlight + core.queued)
    const placed = [...this.requests].filter(([, standing]) => standing !== "admitted").map(([slot]) => slot)
    expect(new Set(placed)).toEqual(new Set(holders.keys()))
    if (this.pool === undefined) return
    const { eligible, eligibleCount, workers } = this.pool
    const loads = [...eligible.subarray(0, eligibleCount)].map(
      (worker) => [worker, workers.inFlight[worker]!] as const
    )
    expect(this.loads).toEqual(new Map(loads))
  }
}

/**
 * A world around the core: clients, links and workers reduced to their facts. It performs the effects as the links do and counts what
 * every request got, so that the laws can be checked after every step. What the core is told may come late, behind messages that were
 * sent before it.
 */
export class World implements BalancerEffects {
  readonly table: RequestTable<unknown, number>
  readonly workers = new WorkerTable(8)
  readonly totals = makeTotals()
  nowMs = 0
  readonly stopwatches = {
    admission: new Stopwatch(() => this.nowMs),
    placement: new Stopwatch(() => this.nowMs)
  }
  /** By slot: the workers of its live attempts, in the order they were sent. Never none, at most two. */
  readonly holders = new Map<number, ReadonlyArray<number>>()
  /** By request, in the order of submission. */
  readonly terminals: Array<Array<string>> = []
  readonly accepted: Array<number> = []
  /** Attempts, tokens policies were told of, and ends, by request, as they came. */
  readonly log: Array<string> = []
  /** By request: attempts that were sent; of these, ended by a rescue, or refused by the worker. */
  readonly attempts: Array<{ sent: number; moved: number; refused: number; readonly sideEffects: boolean }> =
    []
  readonly requestOf = new Map<number, number>()
  /** What the core is still to be told, and whether it waits for `deliver`. */
  private readonly mailbox: Array<() => void> = []
  late = false
  private reviewing = false
  readonly ready = new Set<number>()
  /** Workers whose connection is gone before the pool manager knows. */
  readonly dead = new Set<number>()
  readonly prefixes = new PrefixIndex({ workersMax: 8, bytesMax: 1 << 20 })
  readonly chain = new ChainBuffer()
  core: BalancerState
  /** Whether `settle` was asked for. */
  settling = false
  /** Ticks that were asked for, by their times. */
  readonly wakes: Array<number> = []
  /** What the policies of the live core were told. */
  told = new Told(this.log)
  private readonly adapt: (pipeline: Pipeline) => Pipeline
  private readonly placement: string
  private readonly retryBudget: number
  private readonly roles: ReadonlyArray<number>
  /** Attempts by worker. */
  private readonly sent = new Array<number>(8).fill(0)

  constructor(
    placement: string,
    capacity = 2,
    adapt: (pipeline: Pipeline) => Pipeline = (same) => same,
    retryBudget = 0.1,
    roles: ReadonlyArray<number> = [],
    resting?: number
  ) {
    this.table = new RequestTable<unknown, number>(2048, undefined, resting)
    this.placement = placement
    this.adapt = adapt
    this.retryBudget = retryBudget
    this.roles = roles
    for (let worker = 0; worker < 8; worker++) {
      this.workers.join(worker, { name: `w${worker}`, capacity }, 0)
      this.workers.role[worker] = this.roleOf(worker)
    }
    this.core = this.newCore()
  }

  newCore(): BalancerState {
    this.told = new Told(this.log)
    this.settling = false
    const choice = {
      ...choiceOf(pipelines.simple),
      admission: [{ policy: "queue-bounds", options: { maxQueued: 8 } }],
      placement: { policy: this.placement, options: {} }
    }
    const made = makePipeline(choice, makeRng(7))
    return new BalancerState({
      table: this.table,
      workers: this.workers,
      totals: this.totals,
      effects: this,
      settleSoon: () => {
        this.settling = true
      },
      wakeAt: (atMs) => void this.wakes.push(atMs),
      pipeline: () => this.adapt({ ...made, admissions: [...made.admissions, this.told] }),
      prefixes: () => this.prefixes,
      blockTokens: 4,
      attemptsMax: 3,
      retryBudget: this.retryBudget,
      stopwatches: this.stopwatches,
      nowMs: this.nowMs
    })
  }

  readonly accept = (slot: number): void => void this.accepted.push(this.requestOf.get(slot)!)
  readonly reject = (slot: number, reason: number): void => this.end(slot, `rejected ${reason}`)
  readonly fail = (slot: number, reason: number): void => {
    expect(this.holders.has(slot)).toBe(false)
    this.end(slot, `error ${reason}`)
  }
  readonly cancelAttempt = (slot: number, worker: number): void => {
    const isHeld = this.isHeld(slot, worker)
    const isLive = isHeld || this.table.at(slot).kept > 0
    if (this.reviewing && isLive) this.attemptsOf(slot).moved++
    if (isHeld) this.leave(slot, worker, Reason.cancelled)
    this.table.at(slot).letGo()
  }
  readonly assign = (slot: number, worker: number, part: number): boolean => {
    if (this.dead.has(worker)) return false
    expect(part).toBe(this.roleOf(worker))
    expect(this.table.at(slot).kept > 0).toBe(part === Role.decode)
    if (part === Role.decode) this.attemptsOf(slot).moved++
    expect(this.ready.has(worker)).toBe(true)
    expect(this.table.at(slot).phase).toBe(Phase.open)
    expect(this.table.at(slot).nextIndex).toBe(0)
    expect(this.workers.inFlight[worker]).toBeLessThanOrEqual(this.workers.capacity[worker]!)
    const before = this.holders.get(slot) ?? []
    expect(before).not.toContain(worker)
    expect(before.length).toBeLessThan(2)
    this.holders.set(slot, [...before, worker])
    this.table.at(slot).assigned(worker, part)
    this.attemptsOf(slot).sent++
    this.log.push(`${this.requestOf.get(slot)} to ${worker}`)
    this.sent[worker]!++
    return true
  }

  roleOf(worker: number): number {
    return this.roles[worker] ?? Role.both
  }

  private attemptsOf(slot: number): World["attempts"][number] {
    return this.attempts[this.requestOf.get(slot)!]!
  }

  private isHeld(slot: number, worker: number): boolean {
    return this.holders.get(slot)?.includes(worker) ?? false
  }

  /** An attempt is over, as its link finds. Says whether another one goes on. */
  private leave(slot: number, worker: number, reason: Reason): boolean {
    const left = this.holders.get(slot)!.filter((other) => other !== worker)
    if (left.length === 0) this.holders.delete(slot)
    else this.holders.set(slot, left)
    expect(this.table.at(slot).left(worker, reason)).toBe(left.length > 0)
    return left.length > 0
  }

  /** News of a request, for the core that lives when it comes; of an earlier use of the slot it is dropped. */
  private post(slot: number, tell: (core: BalancerState) => void): void {
    this.note(slot, tell)
    if (!this.late) this.deliver()
  }

  /** As `post`, where more happens in the same turn. */
  private note(slot: number, tell: (core: BalancerState) => void): void {
    const { stream } = this.table.at(slot)
    this.mailbox.push(() => {
      if (this.table.find(stream) !== undefined) tell(this.core)
    })
  }

  get isInformed(): boolean {
    return this.mailbox.length === 0
  }

  /** The core hears all there is to hear. */
  deliver(): void {
    for (let tell = this.mailbox.shift(); tell !== undefined; tell = this.mailbox.shift()) tell()
  }

  submit(options: { readonly timeoutMs?: number; readonly sideEffects?: boolean } = {}): number {
    const { timeoutMs = 60_000, sideEffects = false } = options
    const facts = this.table.allocate()!
    const { slot } = facts
    const request = this.terminals.push([]) - 1
    this.attempts.push({ sent: 0, moved: 0, refused: 0, sideEffects })
    this.requestOf.set(slot, request)
    facts.model = 0
    facts.promptTokens = 10
    facts.newChain().read(chainBytes(request % 3), 0, 2)
    facts.maxTokens = 5
    facts.idLow = request
    facts.arrivedMs = this.nowMs
    facts.deadlineMs = this.nowMs + timeoutMs
    facts.flags = sideEffects ? Flag.sideEffects : 0
    this.core.submit(slot, this.nowMs)
    return slot
  }

  /** The worker that holds the first of the live attempts, or the last of them. */
  holderOf(slot: number, last = false): number | undefined {
    return this.holders.get(slot)?.at(last ? -1 : 0)
  }

  token(slot: number, worker = this.holderOf(slot)): void {
    if (worker === undefined) return
    if (this.table.at(slot).part === Role.prefill) return this.prefilled(slot)
    if (this.table.at(slot).nextIndex === 0) this.decide(slot, worker)
    this.table.at(slot).letGo()
    if (this.table.at(slot).nextIndex++ === 0) this.post(slot, (core) => core.first(slot, this.nowMs))
  }

  done(slot: number, worker = this.holderOf(slot)): void {
    if (worker === undefined) return
    if (this.table.at(slot).part === Role.prefill) return this.prefilled(slot)
    this.decide(slot, worker)
    this.end(slot, "done")
    this.post(slot, (core) => core.done(slot, this.nowMs))
  }

  private prefilled(slot: number): void {
    this.table.at(slot).prefilled()
    this.holders.delete(slot)
    this.post(slot, (core) => core.read(slot, this.nowMs))
  }

  fails(slot: number, reason: Reason, worker = this.holderOf(slot)): void {
    if (worker === undefined) return
    this.table.at(slot).letGo()
    if (reason === Reason.workerRefused || reason === Reason.draining) this.attemptsOf(slot).refused++
    if (this.leave(slot, worker, reason)) this.post(slot, (core) => core.untied(slot, this.nowMs))
    else this.post(slot, (core) => core.failed(slot, this.nowMs))
  }

  /** The client gives the request up. */
  cancel(slot: number): void {
    this.table.at(slot).cancelled = true
    this.post(slot, (core) => core.cancel(slot, this.nowMs))
  }

  /** The attempt at `worker` has won. */
  private decide(slot: number, worker: number): void {
    const other = this.holders.get(slot)!.find((each) => each !== worker)
    if (other === undefined) return
    this.leave(slot, other, Reason.cancelled)
    this.note(slot, (core) => core.untied(slot, this.nowMs))
  }

  tick(): void {
    this.reviewing = true
    this.core.tick(this.nowMs)
    this.reviewing = false
  }

  member(worker: number, ready: boolean): void {
    if (ready) {
      this.ready.add(worker)
      this.dead.delete(worker)
    } else this.ready.delete(worker)
    this.core.member(0, worker, ready, this.nowMs)
  }

  /** The process dies: the balancer hears of its attempts first, of its membership later or never. */
  lose(worker: number): void {
    this.dead.add(worker)
    for (const slot of this.holders.keys())
      if (this.isHeld(slot, worker)) this.fails(slot, Reason.workerLost, worker)
    for (const slot of this.live()) if (this.table.at(slot).keeper === worker) this.keeperLost(slot)
  }

  private keeperLost(slot: number): void {
    const request = this.table.at(slot)
    request.letGo()
    if (this.holders.has(slot)) return this.fails(slot, Reason.workerLost)
    request.failure = Reason.workerLost
    this.post(slot, (core) => core.failed(slot, this.nowMs))
  }

  /** The balancer actor is restarted: a new core learns who is there. News that waits is lost, or comes after that. */
  restart(isLost = true): void {
    if (isLost) this.mailbox.length = 0
    this.workers.uncharge()
    this.core = this.newCore()
    for (const worker of this.ready) if (!this.dead.has(worker)) this.core.member(0, worker, true, this.nowMs)
    for (const slot of this.live()) {
      const holder = this.holderOf(slot)
      if (this.table.at(slot).part !== Role.prefill) continue
      if (holder !== undefined) this.leave(slot, holder, Reason.cancelled)
      this.table.at(slot).letGo()
    }
    for (const isHeld of [true, false])
      for (const { slot } of this.table.all()) {
        if (this.holders.has(slot) !== isHeld) continue
        const [holder = -1, tied = -1] = this.holders.get(slot) ?? []
        this.core.announce(slot, holder, tied, this.nowMs)
      }
    for (const slot of this.live()) expect(this.table.at(slot).cancelled).toBe(false)
  }

  /** In the order in which they came. */
  live(): Array<number> {
    return this.table
      .all()
      .filter(({ phase }) => phase === Phase.open)
      .map(({ slot }) => slot)
  }

  /** What must hold whenever the core has been told of everything. */
  check({ isHeldBack = false } = {}): void {
    const perWorker = new Array<number>(8).fill(0)
    let places = 0
    for (const [slot, workers] of this.holders) {
      if (this.table.at(slot).part === Role.prefill) places++
      const { holder, tied } = this.table.at(slot)
      expect([holder, ...(tied === undefined ? [] : [tied])]).toEqual([...workers])
      for (const worker of workers) perWorker[worker]!++
    }
    // Who reads a prompt has a place with one of those who produce.
    for (const [worker, inFlight] of this.workers.inFlight.entries()) {
      const kept = this.roleOf(worker) === Role.decode ? inFlight - perWorker[worker]! : 0
      expect(inFlight - kept).toBe(perWorker[worker]!)
      places -= kept
    }
    expect(places).toBe(0)
    const sent = this.sent.map((_, worker) =>
      [...this.workers.assigned.values()].reduce((sum, counts) => sum + counts[worker]!, 0)
    )
    expect(sent).toEqual(this.sent)
    expect(this.core.inFlight).toBe(this.holders.size)
    expect(this.core.inFlight + this.core.queued).toBe(this.live().length)
    const { totals } = this
    expect(totals.accepted).toBe(
      totals.done + totals.failed + totals.cancelled + totals.expired + this.live().length
    )
    for (const outcome of ["done", "failed", "cancelled", "expired", "rejected"] as const)
      expect(totals.kinds.all.reduce((sum, kind) => sum + kind[outcome], 0)).toBe(totals[outcome])
    for (const ends of this.terminals) expect(ends.length).toBeLessThanOrEqual(1)
    for (const { sent, moved, refused, sideEffects } of this.attempts)
      expect(sent - moved).toBeLessThanOrEqual(sideEffects ? 1 + refused : 3)
    // Nobody waits while there is room, but for the sake of company.
    const { inFlight, capacity } = this.workers
    const roomy = [...this.ready].filter(
      (worker) => !this.dead.has(worker) && inFlight[worker]! < capacity[worker]!
    )
    const roles = new Set(roomy.map((worker) => this.roleOf(worker)))
    if (this.core.queued > 0 && !isHeldBack) {
      expect(roles).not.toContain(Role.both)
      expect(roles.has(Role.prefill) && roles.has(Role.decode)).toBe(false)
    }
    this.told.check(this)
  }

  private end(slot: number, how: string): void {
    this.terminals[this.requestOf.get(slot)!]!.push(how)
    this.log.push(`${this.requestOf.get(slot)} ${how}`)
    this.holders.delete(slot)
    this.table.at(slot).ended()
  }
}
