/*
 * What does the balancer's own code cost per request and per token frame, with sockets and kernel left out?
 *
 * `bun run bench:balancer` · connections, links, actors and policies are the real ones; sockets hand bytes over in memory, and a turn of the
 * event loop ends when the bench says so. CPU time of the whole process (compiler and collector included) around the balancer's part
 * alone: what the peers do between is not counted.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { startBalancer } from "../src/actors/Balancer.ts"
import { BalancerHost } from "../src/actors/BalancerHost.ts"
import { startPoolManager } from "../src/actors/PoolManager.ts"
import { Dispatcher } from "../src/actors/runtime/Dispatcher.ts"
import { FailureDetector } from "../src/actors/runtime/FailureDetector.ts"
import { choiceOf, makePipeline, pipelines } from "../src/policies/pipelines.ts"
import { Connection } from "../src/protocol/Connection.ts"
import { openGate } from "../src/protocol/credentials.ts"
import { At, HEADER_OFFSET, LENGTH_BYTES, readU32, writeU32 } from "../src/protocol/Header.ts"
import { defaultLimits } from "../src/protocol/Limits.ts"
import type { Role } from "../src/protocol/Roles.ts"
import { systemTimers, type Timers } from "../src/protocol/Timers.ts"
import type { TransportSocket } from "../src/protocol/Transport.ts"
import { Turn } from "../src/protocol/Turn.ts"
import { assert } from "../src/structures/assert.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { json, oneOf, onOff, readFlags, someOf, whole } from "./flags.ts"
import * as frames from "./hop/frames.ts"
import { machine, machineText } from "./machine.ts"
import { aligned } from "./table.ts"

const cellNames = ["request", "burst", "steps"] as const
const presetNames = Object.keys(pipelines) as ReadonlyArray<keyof typeof pipelines>
const flags = readFlags({
  cell: someOf(`what is measured: some of ${cellNames.join(", ")}; by default all`, cellNames),
  preset: oneOf(`pipeline: one of ${presetNames.join(", ")}`, presetNames, "default"),
  samples: whole("samples of each cell", 25),
  rounds: whole("rounds of a sample; a hundredth of them where tokens are measured", 60),
  decisions: whole("requests of which an account is kept, as in a balancer that runs; 0 keeps none", 4096, 0),
  cold: onOff("empty the core's caches before every turn, as the kernel's work on sockets does"),
  json
})

const CLIENTS = 16
const WORKERS = 8
/** In flight on each client connection at the start of a round. */
const REQUESTS_PER_CLIENT = 64
const REQUESTS = CLIENTS * REQUESTS_PER_CLIENT
const EPOCH = 1

/** What is deferred to the end of a turn, and to a timer. */
const ending: Array<() => void> = []
const later: Array<() => void> = []
const settle = (): void => {
  for (let run = ending.shift(); run !== undefined; run = ending.shift()) run()
}
const turn = new Turn((run) => void ending.push(run))
const timers: Timers = {
  nowMs: systemTimers.nowMs,
  after: (_, run) => {
    later.push(run)
    return () => undefined
  },
  every: () => () => undefined
}
const dispatcher = new Dispatcher(turn, timers.nowMs)

const choice = choiceOf(pipelines[flags.preset])
const kept = flags.decisions

const host: BalancerHost = new BalancerHost({
  name: "bench",
  incarnation: 1,
  epoch: EPOCH,
  context: {
    turn,
    timers,
    limits: defaultLimits,
    violation: (kind, hint) => assert(false, `${kind}: ${hint}`)
  },
  models: [],
  pipeline: () => makePipeline(choice, makeRng(1)),
  usesPrefixes: makePipeline(choice, makeRng(1)).usesPrefixes,
  blockTokens: 256,
  prefixBytesMax: 2 ** 28,
  salt: "bench",
  weightOf: () => 1,
  gate: openGate,
  requestsMax: 65_536,
  heldBytesMax: 2 ** 28,
  workersMax: 1024,
  streamsMax: 8192,
  requestTimeoutMs: 600_000,
  attemptsMax: 3,
  retryBudget: 0.1,
  faultsEnabled: false,
  decisions: kept === 0 ? undefined : { kept, choice },
  poolWanted: (pool, model) => {
    const detector = (nowMs: number) => new FailureDetector(nowMs)
    keep(startPoolManager({ host, dispatcher, pool, model, detector, checkMs: 250 }))
  }
})
const keep = (actor: Effect.Effect<unknown, never, Scope.Scope>): void =>
  void Effect.runFork(Effect.scoped(Effect.andThen(actor, Effect.never)))

/** The peer's end of a socket: takes all it is given. */
class Peer implements TransportSocket {
  readonly remoteAddress = "memory"
  private readonly connection: Connection

  constructor(role: Role, identity: string) {
    this.connection = Connection.accept(this, host.options.context, host.greet, () => undefined)
    this.say(frames.helloFrame(role, identity, 1))
  }

  say(bytes: Buffer): void {
    this.connection.data(bytes)
  }

  write(_bytes: Uint8Array, _from: number, length: number): number {
    return length
  }
  readonly shutdown = (): void => undefined
  readonly terminate = (): void => undefined
  readonly pause = (): void => undefined
  readonly resume = (): void => undefined
}

const repeated = (frame: Buffer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => frame))

let nextRequestId = 1
/** Sends requests, numbered anew each time. */
class Client extends Peer {
  private readonly request = frames.requestFrame(frames.Reply.small, false)
  private readonly requests = repeated(this.request, REQUESTS_PER_CLIENT)
  private stream = 1

  prepare(): Buffer {
    for (let at = HEADER_OFFSET; at < this.requests.length; at += this.request.length) {
      writeU32(this.requests, at + At.stream, ++this.stream)
      writeU32(this.requests, at + At.idLow, nextRequestId++)
    }
    return this.requests
  }
}

/** Answers what it was assigned with prepared frames. */
class Worker extends Peer {
  /** What it was sent since it last looked. */
  private readonly heard = Buffer.alloc(512 * 1024)
  private heardBytes = 0
  /** Offset of each ASSIGN in `heard`. */
  private readonly assigns: Array<number> = []

  override write(bytes: Uint8Array, from: number, length: number): number {
    this.heard.set(bytes.subarray(from, from + length), this.heardBytes)
    this.heardBytes += length
    return length
  }

  /** Reads the ASSIGNs it was sent. */
  take(): void {
    this.assigns.length = 0
    for (let at = 0; at < this.heardBytes; at += LENGTH_BYTES + readU32(this.heard, at)) this.assigns.push(at)
    this.forget()
  }

  forget(): void {
    this.heardBytes = 0
  }

  /** All `answers` to each request, one request after the other. */
  answer(answers: ReadonlyArray<Buffer>): Buffer {
    const all = Buffer.concat(answers)
    const bytes = repeated(all, this.assigns.length)
    let at = 0
    for (const assign of this.assigns) {
      for (const { length } of answers) {
        this.heard.copy(
          bytes,
          at + HEADER_OFFSET + At.attempt,
          assign + HEADER_OFFSET + At.attempt,
          assign + HEADER_OFFSET + At.a
        )
        at += length
      }
    }
    return bytes
  }
}

keep(startBalancer({ host, dispatcher }))
settle()
const workers = Array.from({ length: WORKERS }, (_, i) => new Worker("worker", `worker-${i}`))
for (const worker of workers) {
  worker.say(frames.registerFrame)
  worker.say(frames.heartbeatFrame)
  settle()
  worker.forget()
}
const clients = Array.from({ length: CLIENTS }, (_, i) => new Client("client", `client-${i}`))
const done = frames.doneFrame(frames.Reply.small)
const streamDone = frames.streamDoneFrame()
const tokens = Array.from({ length: frames.STREAM_TOKENS }, (_, i) => frames.tokenFrame(i))

/** Larger than the second level cache of a core. */
const cold = new Uint8Array(flags.cold ? 4 * 1024 * 1024 : 0)
const sweep = (): void => {
  for (let at = 0; at < cold.length; at += 64) cold[at]!++
}

/** CPU time of the measured parts since it was last taken, in µs. */
let spentUs = 0
/** One turn of the event loop in which every one of `peers` says something. */
const deliver = <P extends Peer>(
  peers: ReadonlyArray<P>,
  bytesOf: (peer: P) => Buffer,
  measured: boolean
): void => {
  const chunks = peers.map(bytesOf)
  sweep()
  const before = process.cpuUsage()
  for (const [i, peer] of peers.entries()) peer.say(chunks[i]!)
  settle()
  const { user, system } = process.cpuUsage(before)
  if (measured) spentUs += user + system
}
const request = (measured: boolean): void => {
  deliver(clients, (client) => client.prepare(), measured)
  for (const worker of workers) worker.take()
}
/** Timers fire after it: answers that come this fast save the ACCEPTED. */
const reply = (answers: ReadonlyArray<Buffer>, measured: boolean): void => {
  deliver(workers, (worker) => worker.answer(answers), measured)
  for (const run of later.splice(0)) run()
}

interface Cell {
  readonly name: (typeof cellNames)[number]
  readonly about: string
  /** What one round is divided by. */
  readonly count: number
  readonly round: () => void
}
const cells: ReadonlyArray<Cell> = [
  {
    name: "request",
    about: "REQUEST and DONE",
    count: REQUESTS,
    round: () => {
      request(true)
      reply([done], true)
    }
  },
  {
    name: "burst",
    about: "TOKEN, all of a stream in one go",
    count: REQUESTS * tokens.length,
    round: () => {
      request(false)
      reply(tokens, true)
      reply([streamDone], false)
    }
  },
  {
    name: "steps",
    about: "TOKEN, one of each stream a turn",
    count: REQUESTS * tokens.length,
    round: () => {
      request(false)
      for (const token of tokens) reply([token], true)
      reply([streamDone], false)
    }
  }
]

/** Nanoseconds per `count` of a cell, ascending. */
const measure = ({ count, round }: Cell): ReadonlyArray<number> => {
  const rounds = Math.max(1, Math.ceil((flags.rounds * REQUESTS) / count))
  const sample = (): number => {
    spentUs = 0
    for (let i = 0; i < rounds; i++) round()
    assert(host.core.inFlight === 0, "every request of a round has ended")
    return (spentUs * 1000) / (rounds * count)
  }
  for (let warm = 0; warm < 5; warm++) sample()
  return Array.from({ length: flags.samples }, sample).toSorted((a, b) => a - b)
}

const naming = frames.requestFrame(frames.Reply.small, true)
writeU32(naming, HEADER_OFFSET + At.stream, 1)
deliver(clients, () => naming, false)
for (const worker of workers) worker.take()
reply([done], false)

const about = machine()
const results = cells
  .filter(({ name }) => flags.cell.includes(name))
  .map((cell) => ({ cell, sorted: measure(cell) }))
  .map(({ cell, sorted }) => ({
    cell: cell.name,
    about: cell.about,
    minNs: sorted[0]!,
    medianNs: sorted[sorted.length >> 1]!,
    maxNs: sorted.at(-1)!
  }))
if (flags.json) process.stdout.write(`${JSON.stringify({ ...about, cells: results })}\n`)
else {
  const rows = results.map(({ cell, about, minNs, medianNs, maxNs }) => [
    cell,
    about,
    ...[minNs, medianNs, maxNs].map((ns) => ns.toFixed(0))
  ])
  process.stdout.write(
    `${machineText(about)}\n\n${aligned([["cell", "of", "min ns", "median", "max"], ...rows])}\n`
  )
}
process.exit(0)
