import type { BalancerSnapshot, WorkerSnapshot, WorkerState } from "../domain/Snapshot.ts"
import { reasonName } from "../domain/Outcome.ts"
import { type RequestView, TENANTS_MAX } from "../domain/RequestView.ts"
import { idleLoad, type WorkerLoad } from "../domain/WorkerLoad.ts"
import type { RequestKind } from "../observability/RequestKinds.ts"
import type { RequestRecorder } from "../observability/Recording.ts"
import type { Connection, ConnectionContext, Greeting, Verdict } from "../protocol/Connection.ts"
import { type Gate, guarded } from "../protocol/credentials.ts"
import { encodeFrame } from "../protocol/Codec.ts"
import { Type } from "../protocol/Header.ts"
import { type Hello, type Register, version } from "../protocol/Message.ts"
import type { Explanation } from "../domain/Explanation.ts"
import type { Pipeline, PipelineChoice } from "../policies/pipelines.ts"
import { hash64, type Hash64 } from "../structures/hash.ts"
import { sum } from "../structures/mean.ts"
import { Names } from "../structures/Names.ts"
import { PrefixIndex } from "../structures/PrefixIndex.ts"
import { AdminLink } from "./AdminLink.ts"
import type { BalancerMessage } from "./BalancerMessage.ts"
import { DecisionLog } from "./DecisionLog.ts"
import { explain } from "./explain.ts"
import { ClientLink, type Tenant } from "./ClientLink.ts"
import { Links, type PrefixPort } from "./Links.ts"
import type { PoolManagerMessage } from "./PoolManager.ts"
import type { ActorRef } from "./runtime/ActorRef.ts"
import { Stopwatch, type Stopwatches } from "./Stopwatch.ts"
import { makeTotals, type Totals } from "./Totals.ts"
import { WorkerLink } from "./WorkerLink.ts"
import { WorkerTable } from "./WorkerTable.ts"

export interface BalancerHostOptions {
  readonly name: string
  readonly incarnation: number
  /** Fencing number in every frame about work; grows from one process to the next. */
  readonly epoch: number
  readonly context: ConnectionContext
  /** The models offered from the start; workers may bring more. */
  readonly models: ReadonlyArray<string>
  readonly pipeline: (model: string) => Pipeline
  /** Whether some pipeline asks who holds which prefix blocks. */
  readonly usesPrefixes: boolean
  /** Prompt tokens that one block of a chain stands for. */
  readonly blockTokens: number
  /** Bytes of each model's prefix index. */
  readonly prefixBytesMax: number
  /** Keeps the prefixes of tenants apart: what is mixed into chains is made of this and the tenant's name. */
  readonly salt: string
  /** Share of a tenant relative to others, > 0. */
  readonly weightOf: (tenant: string) => number
  /** Who may come in. */
  readonly gate: Gate
  readonly requestsMax: number
  readonly heldBytesMax: number
  readonly workersMax: number
  readonly streamsMax: number
  readonly requestTimeoutMs: number
  readonly attemptsMax: number
  readonly retryBudget: number
  readonly faultsEnabled: boolean
  /** Has requests recorded, under the names that tenants and models have here. */
  readonly recorder?: ((names: RecordedNames) => RequestRecorder) | undefined
  /** How many times faster than on the clock time passes for the core: for deadlines and whatever policies reckon with. 1 unless told. */
  readonly timeScale?: number
  /** Of how many requests decisions are kept, about, and the policies that make them; of none when left out. */
  readonly decisions?: { readonly kept: number; readonly choice: PipelineChoice } | undefined
  /** A worker is connected; or is not any more, for a reason. `code` is how either side ended the connection, as it has it. */
  readonly workerSeen?: (worker: string, gone?: string, code?: string) => void
  /** A pool without a manager has its first worker: one is to be started, which calls `poolStarted`. */
  readonly poolWanted: (pool: string, model: number) => void
}

/** By index. */
export interface RecordedNames {
  readonly tenantName: (index: number) => string
  readonly modelName: (index: number) => string
}

/** Requests whose decisions are taken down: more are gone before anybody asks, and would cost as much as the decisions. */
const EXPLAINED_PER_SECOND = 1_000

/** A worker as it last registered. Its slot is its name's number, also when it comes back. */
interface WorkerRecord {
  readonly incarnation: number
  readonly models: ReadonlyArray<string>
  readonly role: Register["role"]
  load: WorkerLoad
  heardMs: number
  /** Which of all registrations it came with: tells its connection from the one before and the one after. */
  readonly registration: number
}

/** A worker that is connected: its slot, its name, and what it may do. */
export interface Member {
  readonly worker: number
  readonly name: string
  readonly state: WorkerState
}

/** A pool that has a manager. */
interface Pool {
  readonly manager: ActorRef<PoolManagerMessage>
  /** Its view of a worker; undefined of one that is no member. */
  readonly stateOf: (worker: number) => WorkerState | undefined
}

/** A core, as its host sees it: counts of all models, and of one. */
interface Core {
  readonly queued: number
  readonly inFlight: number
  readonly queuedOf: (model: number) => number
  readonly eachQueued: (visit: (request: RequestView) => void) => void
  readonly inFlightOf: (model: number) => number
  readonly vacate: (worker: number, nowMs: number) => void
}

/** What a core has in hand: requests by model, attempts by worker. */
interface InHand {
  readonly models: ReadonlyArray<{ readonly inFlight: number; readonly queued: number }>
  readonly attempts: Int32Array
}

const MODELS_MAX = 1024

/** How long a worker that is gone is still listed. */
const LOST_SHOWN_MS = 10 * 60_000

/** What is mixed into the chains of a tenant. */
export const saltOf = (salt: string, tenant: string): Hash64 => hash64(`${salt}/${tenant}`)

/** Pools are named by what they serve. No model has a space in its name. */
const poolName = (model: string, role: Register["role"]): string =>
  role === "both" ? model : `${model} ${role}`

/**
 * Everything of a balancer process that outlives its actors: the links and their facts, names, load columns, totals. Actors that start
 * anew are told from here what there is; connections are greeted here.
 */
export class BalancerHost {
  readonly links: Links
  readonly workers: WorkerTable
  readonly totals: Totals = makeTotals()
  readonly stopwatches: Stopwatches
  /** By model, the worker processes there should be, and those of them that are ready; empty where no autoscaler says. */
  readonly desiredWorkers = new Map<string, number>()
  readonly actualWorkers = new Map<string, number>()
  readonly decisions: DecisionLog | undefined
  readonly models = new Names(MODELS_MAX)
  readonly tenants = new Names(TENANTS_MAX)
  readonly options: BalancerHostOptions
  /** New requests are refused. */
  draining = false
  restarts = 0
  /** The identity of the client that is the HTTP listener of this process: one that nobody can guess, as it may do more than others. */
  gateway: string | undefined
  private readonly tenantRecords: Array<Tenant> = []
  private readonly prefixes: Array<PrefixIndex | undefined> = []
  private readonly workerNames: Names
  private readonly records: Array<WorkerRecord> = []
  /** By name; undefined until it has a manager. */
  private readonly pools = new Map<string, Pool | undefined>()
  private readonly clients = new Set<ClientLink>()
  /** Client links there have been. */
  private clientCount = 0
  /** Registrations of workers there have been. */
  private registrations = 0
  readonly startedMs: number
  readonly timeScale: number
  /** The live core. */
  core: Core = {
    queued: 0,
    inFlight: 0,
    queuedOf: () => 0,
    eachQueued: () => undefined,
    inFlightOf: () => 0,
    vacate: () => undefined
  }

  /** What the former core had in hand, until the live one has heard of all there is. */
  private former: InHand | undefined

  constructor(options: BalancerHostOptions) {
    this.options = options
    this.timeScale = options.timeScale ?? 1
    this.links = new Links({ ...options, timers: options.context.timers, timeScale: this.timeScale })
    this.workers = new WorkerTable(options.workersMax)
    this.workerNames = new Names(options.workersMax)
    this.decisions =
      options.decisions &&
      new DecisionLog({
        kept: options.decisions.kept,
        perSecond: EXPLAINED_PER_SECOND,
        stateOf: (worker, model) => this.stateOf(worker, this.models.nameOf(model))
      })
    const { nowMs } = options.context.timers
    this.startedMs = nowMs()
    this.stopwatches = { admission: new Stopwatch(nowMs), placement: new Stopwatch(nowMs) }
    this.tenantOf("default")
    if (options.usesPrefixes) this.links.prefixes = this.prefixPort()
    this.links.recorder = options.recorder?.({
      tenantName: (index) => this.tenants.nameOf(index),
      modelName: (index) => this.models.nameOf(index)
    })
    for (const model of options.models) this.models.add(model)
  }

  /** Answers a HELLO: every role has its kind of link. */
  readonly greet = (connection: Connection, hello: Hello): Greeting =>
    guarded(this.options.gate, hello, () => this.welcome(connection, hello))

  private welcome(connection: Connection, hello: Hello): Verdict {
    const { options } = this
    const handler = this.handlerOf(connection, hello)
    if (handler === undefined) return { refuse: "bad_message", message: "this is a balancer" }
    const { limits } = options.context
    return {
      handler,
      welcome: {
        major: version.major,
        minor: version.minor,
        identity: options.name,
        incarnation: options.incarnation,
        frameBytes: limits.frameBytes,
        models: this.models.all()
      }
    }
  }

  /** A pool manager is up: it is told of the workers there are, and of those that are gone. */
  poolStarted(name: string, pool: Pool): void {
    const { manager } = pool
    this.pools.set(name, pool)
    for (const [worker, record] of this.records.entries()) {
      if (!record.models.some((model) => poolName(model, record.role) === name)) continue
      tellPool(manager, { _tag: "Joined", worker, registration: record.registration })
      const link = this.links.workers[worker]
      // The manager before this one may not have heard of it.
      if (link === undefined) tellPool(manager, { _tag: "Left", worker })
      else if (link.draining) tellPool(manager, { _tag: "Draining", worker })
      else tellPool(manager, { _tag: "Heartbeat", worker, load: record.load })
    }
  }

  /** Has every pool manager tell the balancer who is ready, then runs `then`. A pool without a manager speaks up when it has one. */
  announceWorkers(then: () => void): void {
    let waiting = 1
    const answered = (): void => {
      if (--waiting === 0) then()
    }
    for (const pool of this.pools.values()) {
      if (pool === undefined) continue
      const { manager } = pool
      waiting++
      // One that ends before it answers leaves it to its successor.
      const unwatch = manager.watch(answered)
      const told = (): void => {
        unwatch()
        answered()
      }
      const question = { _tag: "Announce" as const, answered: told }
      // Behind the heartbeats that have come, where there is room: they make workers ready.
      if (manager.tell(question) === "full" && manager.tellControl(question) === "full") told()
    }
    answered()
  }

  /** Who holds which prefix blocks of `model`. */
  prefixesOf(model: number): PrefixIndex {
    const { prefixBytesMax, workersMax } = this.options
    return (this.prefixes[model] ??= new PrefixIndex({ workersMax, bytesMax: prefixBytesMax }))
  }

  /** Keeps the indexes as the workers' own word says. */
  private prefixPort(): PrefixPort {
    return {
      stored: (worker, model, chain, from) =>
        this.prefixesOf(model).stored(
          worker,
          chain.high[from - 1]!,
          chain.low[from - 1]!,
          chain,
          from,
          chain.count
        ),
      removed: (worker, model, chain) => this.prefixesOf(model).removed(worker, chain, 0, chain.count),
      cleared: (worker) => {
        for (const index of this.prefixes) index?.forget(worker)
      }
    }
  }

  /** A tenant by name. Names beyond the bound count as the first tenant, with a salt of their own. */
  private tenantOf(name: string): Tenant {
    const number = this.tenants.add(name)
    const known = this.tenantRecords[number]
    if (known !== undefined) return known
    const { salt, weightOf } = this.options
    const tenant = { index: Math.max(0, number), weight: weightOf(name), salt: saltOf(salt, name) }
    if (number >= 0) this.tenantRecords[number] = tenant
    return tenant
  }

  /** Sends a worker on its way: no new work, finish, leave. False when there is none of that name. */
  drainWorker(name: string): boolean {
    const worker = this.workerNames.find(name)
    const link = worker < 0 ? undefined : this.links.workers[worker]
    if (link === undefined) return false
    link.connection.send(encodeFrame(Type.drain, {}))
    this.workerDrains(link)
    return true
  }

  /** Refuses new requests from now on. */
  drain(): void {
    this.draining = true
    this.tellBalancer({ _tag: "Drain" })
  }

  /** Ends the connection of a worker that was given up, unless it has come back since on another one. */
  cutWorker(worker: number, registration: number): void {
    if (this.records[worker]?.registration === registration)
      this.links.workers[worker]?.connection.cut("lost: no heartbeat")
  }

  /** Workers of `model` that may get work, of one role. */
  readyCount(model: string, role: Register["role"] = "both"): number {
    return this.membersOf(model, role).filter(({ state }) => state === "ready").length
  }

  /** Whether requests for `model` may get to workers: to one that does both, or to one of either part. */
  isServed(model: string): boolean {
    const isPartly = this.readyCount(model, "prefill") > 0 && this.readyCount(model, "decode") > 0
    return isPartly || this.readyCount(model) > 0
  }

  /** The connected workers of `model` that have one role. */
  membersOf(model: string, role: Register["role"] = "both"): ReadonlyArray<Member> {
    return [...this.records.entries()].flatMap(([worker, record]) => {
      const state = this.stateOf(worker, model) ?? "starting"
      if (state === "lost" || record.role !== role || !record.models.includes(model)) return []
      return [{ worker, name: this.workerNames.nameOf(worker), state }]
    })
  }

  /** The state of a worker in its pool of `model`; undefined while nothing is known there of one that is connected. */
  private stateOf(worker: number, model: string): WorkerState | undefined {
    const record = this.records[worker]
    if (record === undefined || this.links.workers[worker] === undefined) return "lost"
    return this.pools.get(poolName(model, record.role))?.stateOf(worker)
  }

  /** A new core is to be told what there is. Its predecessor may not have been told all of it either. */
  coreStarted(core: Core): void {
    this.former ??= this.inHand()
    this.workers.uncharge()
    this.core = core
  }

  /** The live core was told all there is. */
  coreInformed(): void {
    this.former = undefined
  }

  private inHand(): InHand {
    const { core, models, workers } = this
    return {
      models: models
        .all()
        .map((_, model) => ({ inFlight: core.inFlightOf(model), queued: core.queuedOf(model) })),
      attempts: workers.inFlight.slice()
    }
  }

  tellBalancer(message: BalancerMessage): void {
    this.links.balancer.tell(message)
  }

  snapshot(): BalancerSnapshot {
    const { totals, options } = this
    const nowMs = options.context.timers.nowMs()
    const inHand = this.former ?? this.inHand()
    return {
      epoch: options.epoch,
      uptimeMs: nowMs - this.startedMs,
      timeScale: this.timeScale,
      restarts: this.restarts,
      clients: this.clients.size,
      accepted: totals.accepted,
      rejected: totals.rejected,
      done: totals.done,
      failed: totals.failed,
      cancelled: totals.cancelled,
      expired: totals.expired,
      retries: totals.retries,
      rescues: Object.fromEntries(totals.rescues),
      outputTokens: totals.outputTokens,
      cachedTokens: totals.cachedTokens,
      inFlight: sum(inHand.models.map(({ inFlight }) => inFlight)),
      queued: sum(inHand.models.map(({ queued }) => queued)),
      models: this.models
        .all()
        .map((name, model) => ({ name, inFlight: 0, queued: 0, ...inHand.models[model] })),
      rejections: byName(totals.rejections),
      failures: byName(totals.failures),
      workers: this.records
        .map((record, worker) => this.workerSnapshot(record, worker, inHand.attempts[worker]!, nowMs))
        .filter(({ state, heardMsAgo }) => state !== "lost" || heardMsAgo < LOST_SHOWN_MS)
    }
  }

  /** Requests that wait for a worker, by kind: only of kinds that have any. Cost O(requests). */
  queuedByKind(): ReadonlyMap<RequestKind, number> {
    const counts = new Map<RequestKind, number>()
    this.core.eachQueued((request) => {
      const kind = this.totals.kinds.of(request)
      counts.set(kind, (counts.get(kind) ?? 0) + 1)
    })
    return counts
  }

  /** Why the request of this id went where it went; undefined where nothing is kept of it. */
  explain(idHigh: number, idLow: number): Explanation | undefined {
    const { decisions, models, options, startedMs, tenants, timeScale, workerNames } = this
    if (decisions === undefined) return undefined
    return explain(decisions, idHigh, idLow, {
      workerOf: (worker) => workerNames.nameOf(worker),
      tenantOf: (tenant) => tenants.nameOf(tenant),
      modelOf: (model) => models.nameOf(model),
      choice: options.decisions!.choice,
      startedMs: startedMs * timeScale
    })
  }

  private workerSnapshot(
    record: WorkerRecord,
    worker: number,
    inFlight: number,
    nowMs: number
  ): WorkerSnapshot {
    return {
      name: this.workerNames.nameOf(worker),
      state: this.stateOf(worker, record.models[0]!) ?? "starting",
      models: record.models,
      role: record.role,
      speed: this.workers.speed[worker]!,
      incarnation: record.incarnation,
      inFlight,
      capacity: this.workers.capacity[worker]!,
      ...this.assignedTo(worker),
      load: record.load,
      heardMsAgo: nowMs - record.heardMs
    }
  }

  private assignedTo(worker: number): Pick<WorkerSnapshot, "assigned" | "assignedFor"> {
    const counts = [...this.workers.assigned].flatMap(([why, byWorker]) =>
      byWorker[worker]! > 0 ? [[why, byWorker[worker]!] as const] : []
    )
    return { assigned: sum(counts.map(([, count]) => count)), assignedFor: Object.fromEntries(counts) }
  }

  private handlerOf(connection: Connection, { identity, role }: Hello) {
    const { options } = this
    const { limits } = options.context
    switch (role) {
      case "client": {
        const link = new ClientLink(connection, {
          links: this.links,
          limits,
          number: this.clientCount++,
          models: this.models,
          tenantOf: (name) => this.tenantOf(name),
          keepsChains: options.usesPrefixes || this.links.recorder !== undefined,
          requestTimeoutMs: options.requestTimeoutMs,
          timeScale: this.timeScale,
          streamsMax: options.streamsMax,
          isGateway: identity === this.gateway,
          rejected: (reason) => {
            this.totals.rejected++
            this.totals.rejections[reason]!++
            this.totals.kinds.others.rejected++
          },
          closed: (gone) => this.clients.delete(gone)
        })
        this.clients.add(link)
        return link
      }
      case "worker":
        return new WorkerLink(connection, {
          links: this.links,
          limits,
          itlMs: this.totals.itlMs,
          registered: this.registered,
          heartbeat: this.heartbeat,
          draining: (link) => this.workerDrains(link),
          closed: this.workerClosed
        })
      case "admin":
        return new AdminLink(connection, {
          limits,
          snapshot: () => this.snapshot(),
          drainWorker: (name) => this.drainWorker(name),
          crashBalancer: () => {
            if (options.faultsEnabled) this.tellBalancer({ _tag: "Crash" })
            return options.faultsEnabled
          }
        })
      case "balancer":
        return undefined
    }
  }

  private readonly registered = (link: WorkerLink, offer: Register) => {
    const hello = link.connection.peer!
    const models = offer.models.map((model) => this.models.add(model))
    const areNamed = !models.includes(-1)
    const worker = areNamed ? this.workerSlot(hello.identity) : -1
    if (worker < 0) {
      link.connection.refuse("limit", "limit", areNamed ? "too many workers" : "too many models")
      return undefined
    }
    // A reborn worker takes the place of its former self, whose connection may not have been found dead yet.
    // Another process under the same name must end, or the two would take the place from each other for ever.
    const code = this.records[worker]?.incarnation === hello.incarnation ? "done" : "replaced"
    this.links.workers[worker]?.connection.goodbye(code, "a worker has registered anew under this name")
    this.workers.join(worker, { ...offer, name: hello.identity }, link.connection.heardMs * this.timeScale)
    this.records[worker] = {
      incarnation: hello.incarnation,
      models: offer.models,
      role: offer.role,
      load: idleLoad,
      heardMs: link.connection.heardMs,
      registration: this.registrations++
    }
    for (const model of offer.models) {
      const pool = poolName(model, offer.role)
      if (this.pools.has(pool)) continue
      this.pools.set(pool, undefined)
      this.options.poolWanted(pool, this.models.find(model))
    }
    this.tellPools(worker, { _tag: "Joined", worker, registration: this.records[worker].registration })
    this.options.workerSeen?.(hello.identity)
    return { worker, models }
  }

  /** The slot of a worker: its own if it was here before, else a new one, else that of a worker that is gone; -1 when all are here. */
  private workerSlot(name: string): number {
    const known = this.workerNames.add(name)
    if (known >= 0) return known
    const free = this.records.findIndex(
      (_, worker) => this.links.workers[worker] === undefined && this.workers.inFlight[worker] === 0
    )
    if (free < 0) return -1
    // Word that the former worker has left may still be on its way, and names give the keys that lists of workers are sorted by.
    this.core.vacate(free, this.options.context.timers.nowMs() * this.timeScale)
    this.workerNames.rename(free, name)
    for (const counts of this.workers.assigned.values()) counts[free] = 0
    return free
  }

  private readonly heartbeat = (link: WorkerLink, load: WorkerLoad): void => {
    const record = this.records[link.worker]!
    record.load = load
    record.heardMs = link.connection.heardMs
    this.tellPools(link.worker, { _tag: "Heartbeat", worker: link.worker, load })
  }

  private readonly workerClosed = (link: WorkerLink, why: string): void => {
    if (link.worker < 0 || this.links.workers[link.worker] !== link) return
    const { ownCode, peerCode } = link.connection
    this.options.workerSeen?.(this.workerNames.nameOf(link.worker), why, ownCode ?? peerCode)
    this.links.workers[link.worker] = undefined
    this.tellPools(link.worker, { _tag: "Left", worker: link.worker })
  }

  private workerDrains(link: WorkerLink): void {
    const { worker } = link
    link.draining = true
    this.tellPools(worker, { _tag: "Draining", worker })
  }

  private tellPools(worker: number, message: PoolManagerMessage): void {
    const record = this.records[worker]
    if (record === undefined) return
    for (const model of record.models) {
      const pool = this.pools.get(poolName(model, record.role))
      if (pool !== undefined) tellPool(pool.manager, message)
    }
  }
}

/** Heartbeats come again, so only they may find a mailbox full: what is told once has a lane of its own. */
const tellPool = (manager: ActorRef<PoolManagerMessage>, message: PoolManagerMessage): void => {
  if (message._tag === "Heartbeat") manager.tell(message)
  else manager.tellControl(message)
}

/** The counts that are not 0, by the names of their reasons. */
const byName = (counts: Float64Array): Readonly<Record<string, number>> =>
  Object.fromEntries(
    [...counts.entries()].flatMap(([code, count]) => (count > 0 ? [[reasonName(code), count]] : []))
  )
