import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { startBalancer } from "../../../src/actors/Balancer.ts"
import { BalancerHost, type BalancerHostOptions } from "../../../src/actors/BalancerHost.ts"
import { type PoolManagerMessage, startPoolManager } from "../../../src/actors/PoolManager.ts"
import type { ActorRef } from "../../../src/actors/runtime/ActorRef.ts"
import { Dispatcher } from "../../../src/actors/runtime/Dispatcher.ts"
import { FailureDetector } from "../../../src/actors/runtime/FailureDetector.ts"
import { idleLoad } from "../../../src/domain/WorkerLoad.ts"
import type { Placement } from "../../../src/policies/Placement.ts"
import { choiceOf, makePipeline, pipelines } from "../../../src/policies/pipelines.ts"
import type { Admission } from "../../../src/policies/Admission.ts"
import type { Rescue } from "../../../src/policies/Rescue.ts"
import { encodeFrame, locate, pack, parts, unpack } from "../../../src/protocol/Codec.ts"
import { Connection, type ConnectionContext } from "../../../src/protocol/Connection.ts"
import { openGate } from "../../../src/protocol/credentials.ts"
import {
  At,
  Flag,
  HEADER_OFFSET,
  LENGTH_BYTES,
  readU16,
  readU32,
  Type
} from "../../../src/protocol/Header.ts"
import { defaultLimits } from "../../../src/protocol/Limits.ts"
import { packExtras, type Register } from "../../../src/protocol/Message.ts"
import type { Role } from "../../../src/protocol/Roles.ts"
import type { Timers } from "../../../src/protocol/Timers.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { makeRng } from "../../../src/structures/Rng.ts"

/** A frame as a peer received it. */
export interface Received {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly attempt: number
  readonly epoch: number
  readonly model: number
  /** Of an ASSIGN. */
  readonly timeoutMs: number
  readonly a: number
  readonly b: number
  readonly c: number
  readonly payload: unknown
}

export interface RequestOptions {
  readonly stream: number
  readonly model?: string
  readonly id?: number
  readonly flags?: number
  readonly promptTokens?: number
  readonly maxTokens?: number
  readonly timeoutMs?: number
  readonly prompt?: string
  /** Block hashes, 8 bytes each. */
  readonly chain?: Buffer | undefined
}

/** The other end of one connection: a socket without a network. What is said to it is decoded when the turn ends. */
export class Peer {
  readonly received: Array<Received> = []
  closed = false
  readonly connection: Connection
  /** Bytes that it reads before it stops. */
  room = Infinity
  private readonly node: Pick<VirtualNode, "context" | "host" | "settle">
  private bytes = Buffer.alloc(0)

  constructor(node: Peer["node"], role: Role, identity: string, incarnation = 1) {
    this.node = node
    this.connection = Connection.accept(
      {
        remoteAddress: "virtual",
        write: (bytes, from, length) => {
          const taken = Math.min(length, this.room)
          this.bytes = Buffer.concat([this.bytes, bytes.subarray(from, from + taken)])
          this.room -= taken
          return taken
        },
        shutdown: () => {},
        terminate: () => {},
        pause: () => {},
        resume: () => {}
      },
      node.context,
      node.host.greet,
      () => {
        this.closed = true
      }
    )
    this.send(
      encodeFrame(Type.hello, {}, { payload: pack({ major: 1, minor: 0, role, identity, incarnation }) })
    )
  }

  /** Sends frames and lets the node react. */
  send(...frames: ReadonlyArray<Buffer>): void {
    this.push(...frames)
    this.node.settle()
  }

  /** Sends frames; the node reacts at its next turn. */
  push(...frames: ReadonlyArray<Buffer>): void {
    for (const frame of frames) this.connection.data(frame)
  }

  /** Reads so many bytes more. */
  read(room: number): void {
    this.room = room
    this.connection.drain()
    this.node.settle()
  }

  /** The network drops the connection. */
  drop(): void {
    this.connection.closed()
    this.node.settle()
  }

  /** Frames of one type received so far. */
  of(type: number): ReadonlyArray<Received> {
    this.decode()
    return this.received.filter((frame) => frame.type === type)
  }

  request({
    stream,
    model = "sim",
    id = stream,
    flags = 0,
    promptTokens = 10,
    maxTokens = 8,
    timeoutMs = 0,
    prompt = "hello",
    chain
  }: RequestOptions): Buffer {
    return encodeFrame(
      Type.request,
      { stream, flags: flags | Flag.extras },
      {
        chain,
        extras: packExtras({ modelName: model, tenantName: null, idempotencyKey: null }),
        payload: pack({ prompt })
      },
      { idHigh: 0, idLow: id, model: 1, promptTokens, maxTokens, timeoutMs }
    )
  }

  /** TOKEN, DONE or ERROR about an ASSIGN. */
  about(
    assign: Received,
    type: number,
    fields: { readonly a?: number; readonly b?: number; readonly attempt?: number } = {}
  ): Buffer {
    const { stream, attempt, epoch } = assign
    return encodeFrame(
      type,
      { stream, attempt, epoch, ...fields },
      { payload: pack(type === Type.token ? "x" : { message: "m" }) }
    )
  }

  token(assign: Received, index: number, count = 1): Buffer {
    return this.about(assign, Type.token, { a: index, b: count })
  }

  private decode(): void {
    while (this.bytes.length >= LENGTH_BYTES) {
      const end = LENGTH_BYTES + readU32(this.bytes, 0)
      if (this.bytes.length < end) return
      const { bytes } = this
      locate(bytes, 0, end, defaultLimits)
      const header = HEADER_OFFSET
      const type = bytes[header + At.type]!
      this.received.push({
        type,
        flags: bytes[header + At.flags]!,
        stream: readU32(bytes, header + At.stream),
        attempt: readU16(bytes, header + At.attempt),
        epoch: readU32(bytes, header + At.epoch),
        model: type === Type.assign ? readU16(bytes, header + At.model) : 0,
        timeoutMs: type === Type.assign ? readU32(bytes, header + At.timeoutMs) : 0,
        a: readU32(bytes, header + At.a),
        b: readU32(bytes, header + At.b),
        c: readU32(bytes, header + At.c),
        payload: unpack(bytes, parts.payloadStart, end, defaultLimits)
      })
      this.bytes = bytes.subarray(end)
    }
  }
}

interface Timer {
  readonly everyMs: number | undefined
  dueMs: number
  readonly run: () => void
}

export interface VirtualNodeOptions {
  readonly streamsMax?: number
  readonly outboxBytes?: number
  readonly models?: ReadonlyArray<string>
  readonly rescues?: ReadonlyArray<Rescue>
  /** Before those of the pipeline. */
  readonly admissions?: ReadonlyArray<Admission>
  readonly retryBudget?: number
  readonly placement?: (made: Placement) => Placement
  readonly batching?: string
  readonly faultsEnabled?: boolean
}

/** A balancer process without sockets and clocks: links, pool managers and the balancer actor as they are, on virtual time. */
export class VirtualNode {
  nowMs = 0
  readonly violations: Array<string> = []
  /** Workers that came, and why they went. */
  readonly workersSeen: Array<
    readonly [worker: string, gone?: string | undefined, code?: string | undefined]
  > = []
  readonly host: BalancerHost
  readonly context: ConnectionContext
  /** By pool: the manager that was started last. */
  readonly managers = new Map<string, ActorRef<PoolManagerMessage>>()
  private readonly timers = new Set<Timer>()
  private readonly turns: Array<() => void> = []
  private readonly dispatcher: Dispatcher

  constructor(options: VirtualNodeOptions = {}) {
    const timers: Timers = {
      nowMs: () => this.nowMs,
      after: (delayMs, run) => this.timer(undefined, delayMs, run),
      every: (periodMs, run) => this.timer(periodMs, periodMs, run)
    }
    const turn = new Turn((run) => this.turns.push(run))
    this.dispatcher = new Dispatcher(turn, timers.nowMs)
    const { outboxBytes = defaultLimits.outboxBytes } = options
    const limits = { ...defaultLimits, outboxBytes }
    this.context = { turn, timers, limits, violation: (kind) => this.violations.push(kind) }
    this.host = new BalancerHost({
      ...hostOptions(this.context, options),
      workerSeen: (...seen) => this.workersSeen.push(seen),
      poolWanted: (pool, model) => this.startManager(pool, model)
    })
    this.startBalancer()
  }

  /** As a supervisor does it, first and after a crash. `meanwhile` happens in the same turn. */
  startBalancer(meanwhile?: () => void): void {
    this.keep(startBalancer({ host: this.host, dispatcher: this.dispatcher }))
    meanwhile?.()
    this.settle()
  }

  /** As a supervisor does it, first and after a crash. */
  startManager(pool: string, model = this.host.models.find(pool)): void {
    const { dispatcher, host, managers } = this
    const detector = (nowMs: number) => new FailureDetector(nowMs)
    const starting = startPoolManager({ host, dispatcher, pool, model, detector, checkMs: 250 })
    this.keep(Effect.map(starting, (manager) => managers.set(pool, manager)))
  }

  /** Lets every turn of the event loop pass that somebody asked for. */
  settle(): void {
    for (let run = this.turns.shift(); run !== undefined; run = this.turns.shift()) run()
  }

  /** Lets time pass. */
  advance(ms: number): void {
    const untilMs = this.nowMs + ms
    while (true) {
      const next = [...this.timers].toSorted((one, other) => one.dueMs - other.dueMs)[0]
      if (next === undefined || next.dueMs > untilMs) break
      this.nowMs = next.dueMs
      if (next.everyMs === undefined) this.timers.delete(next)
      else next.dueMs += next.everyMs
      next.run()
      this.settle()
    }
    this.nowMs = untilMs
  }

  client(identity = "client"): Peer {
    return new Peer(this, "client", identity)
  }

  /** A registered worker with a first heartbeat: ready. */
  worker(
    name: string,
    options: {
      readonly models?: ReadonlyArray<string>
      readonly role?: Register["role"]
      readonly capacity?: number
      readonly incarnation?: number
    } = {}
  ): Peer {
    const { incarnation, ...offer } = options
    const peer = new Peer(this, "worker", name, incarnation)
    peer.send(register(offer), heartbeat)
    return peer
  }

  private timer(everyMs: number | undefined, delayMs: number, run: () => void): () => void {
    const timer: Timer = { everyMs, dueMs: this.nowMs + delayMs, run }
    this.timers.add(timer)
    return () => this.timers.delete(timer)
  }

  private keep(start: Effect.Effect<unknown, unknown, Scope.Scope>): void {
    Effect.runFork(Effect.scoped(Effect.andThen(start, Effect.never)))
  }
}

export const register = (offer: Partial<Register> = {}): Buffer => {
  const usual: Register = { models: ["sim"], role: "both", capacity: 64, speed: 1, kvCapacityTokens: 1000 }
  return encodeFrame(Type.register, {}, { payload: pack({ ...usual, ...offer }) })
}

export const heartbeat = encodeFrame(Type.heartbeat, {}, { payload: pack(idleLoad) })

/** One model, the simplest pipeline with the least loaded worker, and small limits. */
export const hostOptions = (
  context: ConnectionContext,
  options: VirtualNodeOptions = {}
): Omit<BalancerHostOptions, "poolWanted"> => {
  const rng = makeRng(1)
  const choice = {
    ...choiceOf(pipelines.simple),
    batching: { policy: options.batching ?? "none", options: {} },
    placement: { policy: "least-connections", options: {} }
  }
  return {
    name: "balancer",
    incarnation: 1,
    epoch: 7,
    context,
    models: options.models ?? ["sim"],
    pipeline: () => {
      const made = makePipeline(choice, rng)
      const admissions = [...(options.admissions ?? []), ...made.admissions]
      const placement = options.placement?.(made.placement) ?? made.placement
      return { ...made, admissions, placement, rescues: options.rescues ?? [] }
    },
    decisions: { kept: 16, choice },
    usesPrefixes: true,
    blockTokens: 256,
    prefixBytesMax: 1 << 22,
    salt: "salt",
    weightOf: () => 1,
    gate: openGate,
    requestsMax: 4096,
    heldBytesMax: 1 << 20,
    workersMax: 16,
    streamsMax: options.streamsMax ?? 1024,
    requestTimeoutMs: 60_000,
    attemptsMax: 3,
    retryBudget: options.retryBudget ?? 0.1,
    faultsEnabled: options.faultsEnabled ?? true
  }
}
