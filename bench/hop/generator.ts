import { reasonName } from "../../src/domain/Outcome.ts"
import { At, HEADER_OFFSET, readU32, Type, writeU32 } from "../../src/protocol/Header.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { elapse } from "../../test/support/elapse.ts"
import { goodbyeFrame, helloFrame, pongFrame, Reply, requestFrame, STREAM_TOKENS } from "./frames.ts"
import { Latencies } from "./Latencies.ts"
import { type Reading, readUsage, type Usage, usedBetween } from "./process.ts"
import { Cutter, Out, type Sink } from "./wire.ts"

/*
 * The bench's clients: one process that runs the loads its parent sends it over IPC, one at a time, and answers each with a `LoadResult`.
 * Requests are copied from a frame encoded beforehand; stream and request id are patched in place.
 */

export interface Load {
  /** `host:port` of a broker, or of the worker for a direct connection. */
  readonly address: string
  readonly connectionCount: number
  /** Closed loop: requests kept in flight, over all connections. */
  readonly inFlight: number
  /** Open loop: requests sent a second, whatever comes back. 0 for a closed loop. */
  readonly requestsPerSecond: number
  readonly reply: Reply
  readonly warmMs: number
  readonly measureMs: number
  /** Processes whose CPU time is read at both ends of the measured window. */
  readonly pids: Readonly<Record<string, number>>
}

export interface LoadResult {
  /** Requests that ended, and milliseconds, in the measured window. */
  readonly requests: number
  readonly elapsedMs: number
  readonly p50Us: number
  readonly p99Us: number
  /** For each of `pids`, what it used in the window. */
  readonly usage: Readonly<Record<string, Usage>>
  /** Why the load is not valid: answers lost, doubled, refused or incomplete. */
  readonly fault: string | undefined
}

/** Open loop: the timer's period. Requests due since the last tick leave together, as the timer is no finer. */
const TICK_MS = 1
const GREETING_MS = 10_000
const RETRY_MS = 20
const SETTLE_MS = 10_000

/** Live streams a connection can tell apart: power of two. A stream outrun by as many younger ones would be a fault. */
const RING = 4096
let incarnation = 1
let nextRequestId = 1

/** One load from greeting to the last answer. */
class Run {
  readonly latencies = new Latencies()
  readonly done = Promise.withResolvers<void>()
  readonly request: Buffer
  readonly greeting = requestFrame(Reply.small, true)
  readonly closedLoop: boolean
  issuing = false
  sent = 0
  ended = 0
  tokens = 0
  fault: string | undefined
  private readyCount = 0
  private readonly clients: Array<Client> = []
  private readonly ready = Promise.withResolvers<void>()
  private readonly load: Load

  constructor(load: Load) {
    this.load = load
    this.request = requestFrame(load.reply, false)
    this.closedLoop = load.requestsPerSecond === 0
  }

  fail(why: string): void {
    this.fault ??= why
    this.issuing = false
    this.ready.resolve()
    this.done.resolve()
  }

  clientReady(): void {
    if (++this.readyCount === this.load.connectionCount) this.ready.resolve()
  }

  async run(): Promise<LoadResult> {
    const { load, latencies } = this
    const giveUp = systemTimers.after(GREETING_MS, () => this.fail("the greeting took too long"))
    for (let i = 0; i < load.connectionCount; i++) this.clients.push(new Client(this))
    await Promise.all(this.clients.map((client) => client.connect(load.address)))
    await this.ready.promise
    giveUp()
    const stopTicking = this.start()
    await elapse(load.warmMs)
    latencies.clear()
    const before = this.read()
    await elapse(load.measureMs)
    const after = this.read()
    stopTicking()
    const p50Us = latencies.quantileUs(0.5)
    const p99Us = latencies.quantileUs(0.99)
    await this.settle()
    for (const client of this.clients) client.leave()
    const usage: Record<string, Usage> = {}
    for (const name of Object.keys(load.pids))
      usage[name] = usedBetween(before.usage[name]!, after.usage[name]!)
    const requests = after.ended - before.ended
    return { requests, elapsedMs: after.nowMs - before.nowMs, p50Us, p99Us, usage, fault: this.fault }
  }

  private read() {
    const usage = Object.entries(this.load.pids).map(([name, pid]) => [name, readUsage(pid)] as const)
    return {
      nowMs: performance.now(),
      ended: this.ended,
      usage: Object.fromEntries(usage) as Record<string, Reading>
    }
  }

  /** Starts the load; returns what stops an open loop's timer. */
  private start(): () => void {
    this.issuing = this.fault === undefined
    const { inFlight, requestsPerSecond } = this.load
    const startedMs = performance.now()
    if (!this.closedLoop) {
      return systemTimers.every(TICK_MS, () => {
        const nowMs = performance.now()
        const due = Math.floor(((nowMs - startedMs) * requestsPerSecond) / 1000)
        while (this.sent < due && this.issuing) {
          const client = this.clients[this.sent % this.clients.length]!
          client.issue(nowMs)
          client.out.flush()
        }
      })
    }
    for (let i = 0; i < inFlight && this.issuing; i++) this.clients[i % this.clients.length]!.issue(startedMs)
    for (const client of this.clients) client.out.flush()
    return () => undefined
  }

  /** Lets everything in flight end and checks that each request ended once, with all its tokens. */
  private async settle(): Promise<void> {
    this.issuing = false
    const giveUp = systemTimers.after(SETTLE_MS, () =>
      this.fail(`${this.sent - this.ended} requests never ended`)
    )
    if (this.ended < this.sent) await this.done.promise
    giveUp()
    const streams = this.load.reply === Reply.burst || this.load.reply === Reply.steps
    const expected = streams ? this.ended * STREAM_TOKENS : 0
    if (this.tokens !== expected) this.fail(`${this.tokens} tokens came, and not ${expected}`)
  }
}

/** One client connection. */
class Client implements Sink {
  out!: Out
  readonly cutter = new Cutter(this)
  private readonly run: Run
  private readonly streams = new Uint32Array(RING)
  private readonly sentAtMs = new Float64Array(RING)
  private nextStream = 1
  private nowMs = 0
  private greeted = false
  private leaving = false
  private socket: Bun.Socket | undefined

  constructor(run: Run) {
    this.run = run
  }

  async connect(address: string): Promise<void> {
    const [hostname, port] = address.split(":")
    this.socket = await Bun.connect({
      hostname: hostname!,
      port: Number(port),
      socket: {
        binaryType: "buffer",
        open: (socket) => {
          socket.setNoDelay(true)
          this.out = new Out(socket)
          this.out.append(helloFrame("client", `bench-client-${incarnation}`, incarnation++))
          this.out.flush()
        },
        data: (_, chunk) => {
          this.nowMs = performance.now()
          this.cutter.push(chunk)
          this.out.flush()
        },
        drain: () => this.out.drained(),
        close: () => {
          if (!this.leaving) this.run.fail("a connection was closed")
        }
      }
    })
  }

  leave(): void {
    if (this.socket === undefined) return
    this.leaving = true
    this.out.append(goodbyeFrame)
    this.out.flush()
    this.socket.shutdown()
  }

  issue(nowMs: number): void {
    const { run } = this
    run.sent++
    this.send(run.request, nowMs)
  }

  frame(bytes: Buffer, start: number): void {
    const { run } = this
    const header = start + HEADER_OFFSET
    const type = bytes[header]!
    if (type === Type.token) run.tokens++
    else if (type === Type.done) this.ended(readU32(bytes, header + At.stream))
    else if (type === Type.accepted) return
    else if (type === Type.rejected || type === Type.error) this.refused(bytes, header)
    else if (type === Type.welcome) this.send(run.greeting, this.nowMs)
    else if (type === Type.ping) this.out.append(pongFrame)
    else if (type === Type.goodbye) run.fail("the broker said GOODBYE")
  }

  private send(frame: Buffer, nowMs: number): void {
    const { out } = this
    const stream = this.nextStream++
    const slot = stream & (RING - 1)
    if (this.streams[slot] !== 0) this.run.fail(`a stream was outrun by ${RING} others`)
    this.streams[slot] = stream
    this.sentAtMs[slot] = nowMs
    const at = out.reserve(frame.length)
    frame.copy(out.bytes, at)
    writeU32(out.bytes, at + HEADER_OFFSET + At.stream, stream)
    writeU32(out.bytes, at + HEADER_OFFSET + At.idLow, nextRequestId++)
  }

  private ended(stream: number): void {
    const { run } = this
    const slot = stream & (RING - 1)
    if (this.streams[slot] !== stream) return run.fail(`stream ${stream} ended twice, or never began`)
    this.streams[slot] = 0
    if (!this.greeted) {
      this.greeted = true
      return run.clientReady()
    }
    run.latencies.record(this.nowMs - this.sentAtMs[slot]!)
    run.ended++
    if (run.issuing) {
      if (run.closedLoop) this.issue(this.nowMs)
    } else if (run.ended === run.sent) run.done.resolve()
  }

  /** The first request on a connection is tried again until the broker's workers are ready. */
  private refused(bytes: Buffer, header: number): void {
    const stream = readU32(bytes, header + At.stream)
    this.streams[stream & (RING - 1)] = 0
    if (this.greeted)
      return this.run.fail(`a request was refused: ${reasonName(readU32(bytes, header + At.reason))}`)
    systemTimers.after(RETRY_MS, () => {
      this.send(this.run.greeting, performance.now())
      this.out.flush()
    })
  }
}

process.on("message", (load: Load) => {
  void new Run(load).run().then(
    (result) => process.send!(result),
    (error: unknown) => process.send!({ fault: String(error) })
  )
})
process.on("disconnect", () => process.exit(0))
