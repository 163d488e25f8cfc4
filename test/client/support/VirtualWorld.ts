import type { Cancel, Timers } from "../../../src/protocol/Timers.ts"
import type { SocketEvents, Transport, TransportSocket } from "../../../src/protocol/Transport.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { makeRng } from "../../../src/structures/Rng.ts"

interface Timer {
  dueMs: number
  readonly periodMs: number | undefined
  readonly run: () => void
}

/** One end of a virtual socket: bytes wait in `inbox` until the world delivers them. */
interface End {
  peer: End | undefined
  events: SocketEvents | undefined
  inbox: Array<Buffer>
  finReceived: boolean
  finTold: boolean
  finSent: boolean
  closed: boolean
}

/**
 * A process with two sides in one: sockets in memory, a clock that stands still, turns that end when told to.
 * With a seed, bytes arrive cut into pieces of random size. They take `hopMs` to the other end, Infinity for never.
 */
export class VirtualWorld {
  nowMs = 1_000
  /** Dials fail while true. */
  refusing = false
  /** Dials hang while true. */
  silent = false
  dials = 0
  hopMs: number
  private readonly timersSet = new Set<Timer>()
  private deferred: Array<() => void> = []
  private hung: Array<() => void> = []
  private readonly ends: Array<End> = []
  private readonly rng: ReturnType<typeof makeRng> | undefined
  private accept: ((socket: TransportSocket) => SocketEvents) | undefined

  constructor(seed?: number, hopMs = 0) {
    this.hopMs = hopMs
    this.rng = seed === undefined ? undefined : makeRng(seed)
  }

  readonly turn = new Turn((run) => void this.deferred.push(run))

  readonly timers: Timers = {
    nowMs: () => this.nowMs,
    after: (delayMs, run) => this.arm({ dueMs: this.nowMs + delayMs, periodMs: undefined, run }),
    every: (periodMs, run) => this.arm({ dueMs: this.nowMs + periodMs, periodMs, run })
  }

  readonly transport: Transport = {
    listen: (host, _port, accept) => {
      this.accept = accept
      return { host, port: 7420, close: () => (this.accept = undefined) }
    },
    connect: (_host, _port, opened, failed) => {
      this.dials++
      const answer = (): void => {
        if (this.silent) return void this.hung.push(answer)
        if (this.refusing || this.accept === undefined) return failed("connection refused")
        const [near, far] = [this.makeEnd(), this.makeEnd()]
        near.peer = far
        far.peer = near
        far.events = this.accept(this.socket(far))
        near.events = opened(this.socket(near))
      }
      this.deferred.push(answer)
    }
  }

  /** Dials that hung are answered after all. */
  answerDials(): void {
    this.silent = false
    this.deferred.push(...this.hung.splice(0))
  }

  /** Timers that would run if time went on. */
  get timerCount(): number {
    return this.timersSet.size
  }

  /** Lets everything happen that needs no time to pass. */
  settle(): void {
    for (let rounds = 0; rounds < 100_000; rounds++) if (!this.step()) return
    throw new Error("the world does not come to rest")
  }

  /** `settle`, with promise continuations in between. */
  async rest(): Promise<void> {
    for (let rounds = 0; rounds < 10; rounds++) {
      this.settle()
      await Promise.resolve()
    }
  }

  advance(ms: number): void {
    const untilMs = this.nowMs + ms
    this.settle()
    while (true) {
      let next: Timer | undefined
      for (const timer of this.timersSet) if (next === undefined || timer.dueMs < next.dueMs) next = timer
      if (next === undefined || next.dueMs > untilMs) break
      this.nowMs = next.dueMs
      if (next.periodMs === undefined) this.timersSet.delete(next)
      else next.dueMs += next.periodMs
      next.run()
      this.settle()
    }
    this.nowMs = untilMs
  }

  /** Everything in flight is lost, on every socket, without a FIN. */
  cutAll(): void {
    for (const end of [...this.ends]) this.close(end)
  }

  private arm(timer: Timer): Cancel {
    this.timersSet.add(timer)
    return () => void this.timersSet.delete(timer)
  }

  private makeEnd(): End {
    const end: End = {
      peer: undefined,
      events: undefined,
      inbox: [],
      finReceived: false,
      finTold: false,
      finSent: false,
      closed: false
    }
    this.ends.push(end)
    return end
  }

  private socket(end: End): TransportSocket {
    return {
      write: (bytes, from, length) => {
        if (end.closed || end.finSent) return -1
        const copy = Buffer.from(bytes.subarray(from, from + length))
        const arrive = () => !end.peer!.closed && end.peer!.inbox.push(copy)
        if (this.hopMs > 0) this.timers.after(this.hopMs, arrive)
        else arrive()
        return length
      },
      shutdown: () => {
        end.finSent = true
        end.peer!.finReceived = true
      },
      terminate: () => this.close(end),
      pause: () => undefined,
      resume: () => undefined,
      remoteAddress: "virtual"
    }
  }

  private close(end: End): void {
    for (const each of [end, end.peer!]) {
      if (each.closed) continue
      each.closed = true
      each.inbox = []
      this.ends.splice(this.ends.indexOf(each), 1)
      each.events?.closed()
    }
  }

  /** One thing that can happen now: a delivery, a FIN, the end of a turn. */
  private step(): boolean {
    for (const end of this.ends) {
      const chunk = end.inbox.shift()
      if (chunk !== undefined) {
        const cut = this.rng === undefined ? chunk.length : 1 + this.rng.int(chunk.length)
        if (cut < chunk.length) end.inbox.unshift(chunk.subarray(cut))
        end.events!.data(chunk.subarray(0, cut))
        return true
      }
      if (end.finReceived && !end.finTold) {
        end.finTold = true
        end.events!.ended()
        return true
      }
      if (end.finReceived && end.finSent) {
        this.close(end)
        return true
      }
    }
    const run = this.deferred.shift()
    run?.()
    return run !== undefined
  }
}
