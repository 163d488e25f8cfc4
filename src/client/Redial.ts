import { type Connection, type ConnectionHandler, isRefusal } from "../protocol/Connection.ts"
import type { Welcome } from "../protocol/Message.ts"
import type { Timers } from "../protocol/Timers.ts"
import { type FailedDial, greet, type GreetOptions } from "./greet.ts"
import type { RandomU32 } from "./randomU32.ts"

/**
 * How a lost connection is made again: after random(0 … min(cap, base · 2ⁿ)) ms, at most `attemptsMax` (≥ 1) times in a row. Connections
 * that did not last count in n as dials that failed do.
 */
export interface Reconnect {
  readonly attemptsMax: number
  readonly baseMs: number
  readonly capMs: number
}

export interface RedialOptions {
  readonly greeting: GreetOptions
  readonly reconnect: Reconnect
  readonly randomU32: RandomU32
  readonly opened: (connection: Connection, welcome: Welcome) => ConnectionHandler
  /** A wait is over: time to `dial`, if a connection is still wanted. */
  readonly rested: () => void
  /** The last attempt of the row failed, or the balancer will never have us. */
  readonly gaveUp: (why: string) => void
}

/** A connection that lived as long was no failure: were every one lost then, a dial a second would be no load. */
const GOOD_CONNECTION_MS = 1_000

export type Heard = (failure: FailedDial | undefined) => void

/** Makes one connection at a time, with a wait after each failure. */
export class Redial {
  private readonly options: RedialOptions
  private readonly timers: Timers
  /** In a row: dials that failed, and connections that did not last. */
  private failures = 0
  private shortLived = 0
  private openedMs = 0
  private phase: "idle" | "dialling" | "resting" | "closed" = "idle"
  /** Abandons the dial in progress, or ends the wait. */
  private stop = nothing
  /** Who waits for what becomes of the dial in progress. */
  private hearers: Array<Heard> = []
  /** Sockets greeted and not gone. */
  private sockets = 0
  private whenGone: (() => void) | undefined

  constructor(options: RedialOptions) {
    this.options = options
    this.timers = options.greeting.context.timers
  }

  /** Dials, unless a dial or a wait is on. A failure is followed by a wait. */
  dial(): void {
    if (this.phase === "idle") this.greet()
  }

  /** Dials without a wait, unless a dial is on. `heard` hears what becomes of it, once; no wait follows a failure. */
  dialNow(heard: Heard): void {
    if (this.phase === "closed") return heard(CLOSED)
    this.hearers.push(heard)
    if (this.phase === "dialling") return
    this.stop()
    this.greet()
  }

  /** The connection is lost: a wait follows where another one `isWanted`, or this one did not last. */
  lost(isWanted: boolean): void {
    const isGood = this.timers.nowMs() - this.openedMs >= GOOD_CONNECTION_MS
    this.shortLived = isGood ? 0 : this.shortLived + 1
    if (isWanted || !isGood) this.rest()
  }

  /** Waits, unless a dial or a wait is on. */
  private rest(): void {
    if (this.phase !== "idle") return
    this.phase = "resting"
    this.stop = this.timers.after(this.backoffMs(this.failures + this.shortLived), () => {
      this.phase = "idle"
      this.options.rested()
    })
  }

  /** Full jitter: clients that lost the same balancer come back spread out. */
  backoffMs(failures: number): number {
    const { baseMs, capMs } = this.options.reconnect
    return Math.min(capMs, baseMs * 2 ** failures) * (this.options.randomU32() / 0x1_0000_0000)
  }

  /** Stops dialling and waiting for good; `gone` runs once, when no socket is left. */
  close(gone: () => void): void {
    this.stop()
    this.phase = "closed"
    this.whenGone = gone
    this.tell(CLOSED)
    this.settle()
  }

  private greet(): void {
    this.phase = "dialling"
    this.stop = greet(this.options.greeting, {
      opened: (connection, welcome) => {
        this.phase = "idle"
        this.failures = 0
        this.openedMs = this.timers.nowMs()
        this.sockets++
        const handler = this.options.opened(connection, welcome)
        this.tell(undefined)
        return handler
      },
      failed: (failure) => {
        this.phase = "idle"
        if (this.hearers.length > 0) this.tell(failure)
        else this.failed(failure)
      },
      gone: () => {
        this.sockets--
        this.settle()
      }
    })
  }

  private tell(failure: FailedDial | undefined): void {
    for (const heard of this.hearers.splice(0)) heard(failure)
  }

  private failed({ code, why }: FailedDial): void {
    this.failures++
    if (this.failures < this.options.reconnect.attemptsMax && !isRefusal(code)) return this.rest()
    this.failures = 0
    this.options.gaveUp(why)
  }

  private settle(): void {
    if (this.sockets > 0) return
    const gone = this.whenGone
    this.whenGone = undefined
    gone?.()
  }
}

const CLOSED: FailedDial = { why: "the client is closed" }
const nothing = (): void => undefined
