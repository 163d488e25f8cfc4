import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { Chain } from "./Chain.ts"

/** How something that was alive ended. Success is a normal end; see `isNormal`. */
export interface Down {
  readonly id: string
  readonly incarnation: number
  readonly exit: Exit.Exit<unknown, unknown>
}

/** What a supervisor has to know of anything alive: an actor, a fiber, a remote actor, another supervisor, a child process. */
export interface Process {
  readonly id: string
  /** Asks it to end in order. Returns at once; the end is told to those who watch. May be called any number of times. */
  readonly interrupt: () => void
  /** Ends it as fast as it can be ended. Absent where there is nothing harder than `interrupt`. */
  readonly kill?: () => void
  /**
   * Calls `onDown` exactly once, when this ends or, if it has ended, at once. Returns what takes the watch back.
   * What `onDown` throws keeps nobody else from hearing; it is nobody's to catch, and surfaces as an uncaught error.
   */
  readonly watch: (onDown: (down: Down) => void) => () => void
}

/** The end of a process that was killed. Not a normal end. */
export class Killed extends Schema.TaggedError<Killed>()("Killed", { id: Schema.String }) {}

/** A normal end is success or an interruption from outside (OTP's `normal` and `shutdown`). Everything else is a crash. */
export const isNormal = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)

/** Ends a process as fast as it can be ended. */
export const kill = (process: Process): void =>
  process.kill === undefined ? process.interrupt() : process.kill()

let incarnations = 0

/** A number no other incarnation of anything in this operating system process has, from 1. It tells a reborn actor from the old one. */
export const nextIncarnation = (): number => ++incarnations

/**
 * Those who watch one process. `announce` ends it: everyone hears once, and whoever comes later hears at once.
 * Taking a watch back costs O(1).
 */
export class Watchers {
  private down: Down | undefined
  private watches: Chain<(down: Down) => void> | undefined

  watch(onDown: (down: Down) => void): () => void {
    if (this.down !== undefined) {
      onDown(this.down)
      return () => {}
    }
    const watches = (this.watches ??= new Chain())
    const watch = watches.add(onDown)
    return () => void watches.remove(watch)
  }

  announce(down: Down): void {
    if (this.down !== undefined) return
    this.down = down
    const errors: Array<unknown> = []
    // One by one: whoever hears may take back the watch of those who have not.
    for (let onDown = this.watches?.shift(); onDown !== undefined; onDown = this.watches?.shift()) {
      try {
        onDown(down)
      } catch (error) {
        errors.push(error)
      }
    }
    this.watches = undefined
    if (errors.length > 0) throw errors[0]
  }
}
