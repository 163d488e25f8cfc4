import type { Connection, ConnectionHandler } from "../protocol/Connection.ts"
import type { Welcome } from "../protocol/Message.ts"
import { greet, type Introduction } from "./greet.ts"
import type { RandomU32 } from "./randomU32.ts"

/** How a lost connection is made again: after random(0 … min(cap, base · 2ⁿ)) ms, at most `attemptsMax` (≥ 1) times in a row. */
export interface Reconnect {
  readonly attemptsMax: number
  readonly baseMs: number
  readonly capMs: number
}

export interface RedialOptions {
  readonly introduction: Introduction
  readonly reconnect: Reconnect
  readonly randomU32: RandomU32
  readonly opened: (connection: Connection, welcome: Welcome) => ConnectionHandler
  /** A wait is over: time to `dial`, if a connection is still wanted. */
  readonly rested: () => void
  /** The last attempt of the row failed, or the balancer will never have us. */
  readonly gaveUp: (why: string) => void
}

/** Makes one connection at a time, with a wait after each failure. */
export class Redial {
  private readonly options: RedialOptions
  private failures = 0
  /** Abandons the dial in progress, or ends the wait. */
  private stop: (() => void) | undefined
  /** Sockets greeted and not gone. */
  private sockets = 0
  private whenGone: (() => void) | undefined

  constructor(options: RedialOptions) {
    this.options = options
  }

  /** Dials, unless a dial or a wait is on. A failure is followed by a wait; `first` hears of this attempt instead. */
  dial(first?: (why: string | undefined) => void): void {
    if (this.stop !== undefined) return
    this.stop = greet(this.options.introduction, {
      opened: (connection, welcome) => {
        this.stop = undefined
        this.failures = 0
        this.sockets++
        const handler = this.options.opened(connection, welcome)
        first?.(undefined)
        return handler
      },
      failed: (why) => {
        this.stop = undefined
        if (first === undefined) this.failed(why)
        else first(why)
      },
      gone: () => {
        this.sockets--
        this.settle()
      }
    })
  }

  /** Waits, unless a dial or a wait is on. */
  rest(): void {
    if (this.stop !== undefined) return
    this.stop = this.options.introduction.context.timers.after(this.backoffMs(this.failures), () => {
      this.stop = undefined
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
    this.stop?.()
    this.stop = () => undefined
    this.whenGone = gone
    this.settle()
  }

  private failed(why: string): void {
    this.failures++
    if (this.failures < this.options.reconnect.attemptsMax && !isFinal(why)) return this.rest()
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

/** The balancer said that coming back is of no use. */
export const isFinal = (why: string): boolean => /^goodbye: (?:unauthorized|version)/.test(why)
