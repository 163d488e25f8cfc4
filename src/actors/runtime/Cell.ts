import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { assert } from "../../structures/assert.ts"
import type { ActorRef, Told } from "./ActorRef.ts"
import type { Dispatcher } from "./Dispatcher.ts"
import { Mailbox } from "./Mailbox.ts"
import { type Down, Killed, nextIncarnation, type Process, Watchers } from "./Process.ts"

/** What a handler may do with the actor it runs in. */
export interface ActorContext<M> {
  readonly self: ActorRef<M>
  /**
   * Watches `process`; its Down comes as a message, in the system lane: before everything else and never refused.
   * Ends with this actor, or by calling what is returned.
   */
  readonly monitor: (process: Process, toMessage: (down: Down) => M) => () => void
}

export interface ActorOptions<M> {
  readonly id: string
  /** Messages that may wait in the ordinary lane; one more is answered "full". */
  readonly capacity: number
  /** The same for the control lane; 64 unless told. */
  readonly controlCapacity?: number
  readonly dispatcher: Dispatcher
  /**
   * Handles one message. An effect it returns suspends the mailbox until it ends. What it throws, or the failure of the effect, is a
   * crash: the actor is down with it.
   */
  readonly receive: (message: M, context: ActorContext<M>) => void | Effect.Effect<void, unknown>
  /** Releases what the actor holds: called once, however it ended, before anyone who watches hears of it. */
  readonly stopped?: (exit: Exit.Exit<unknown, unknown>) => void
}

const CONTROL_CAPACITY = 64
/** Messages one actor handles before the others get their turn. */
const MESSAGES_PER_RUN = 256

/** Starts an actor. It costs an object: no fiber, no mailbox until the first message. */
export const spawn = <M>(options: ActorOptions<M>): ActorRef<M> => new Cell(options)

/* Life of a cell. Not an enum: those do not survive type stripping. */
const IDLE = 0
/** Waits in the dispatcher's list. */
const READY = 1
/** Handles a message in this very call stack. */
const RUNNING = 2
/** Waits for the effect of a handler. */
const SUSPENDED = 3
const DEAD = 4

class Cell<M> implements ActorRef<M>, ActorContext<M> {
  readonly incarnation = nextIncarnation()
  private readonly options: ActorOptions<M>
  private readonly dispatcher: Dispatcher
  private state = IDLE
  /** How it is to end, or has ended. Set, it takes no message any more. */
  private ending: Exit.Exit<unknown, unknown> | undefined
  /* Made when first needed: an idle actor has none of these. */
  private system: Mailbox<M> | undefined
  private control: Mailbox<M> | undefined
  private user: Mailbox<M> | undefined
  private fiber: Fiber.Fiber<void, unknown> | undefined
  private watchers: Watchers | undefined
  private monitors: Set<Monitor> | undefined

  constructor(options: ActorOptions<M>) {
    assert(options.capacity >= 1, "a mailbox holds at least one message")
    this.options = options
    this.dispatcher = options.dispatcher
  }

  get id(): string {
    return this.options.id
  }

  get self(): ActorRef<M> {
    return this
  }

  tell(message: M): Told {
    if (this.ending !== undefined) return "dead"
    if (!(this.user ??= new Mailbox(this.options.capacity)).offer(message)) return "full"
    this.wake()
    return "accepted"
  }

  tellControl(message: M): Told {
    if (this.ending !== undefined) return "dead"
    this.control ??= new Mailbox(this.options.controlCapacity ?? CONTROL_CAPACITY)
    if (!this.control.offer(message)) return "full"
    this.wake()
    return "accepted"
  }

  stop(): void {
    if (this.ending !== undefined) return
    this.ending = Exit.void
    this.wake()
  }

  interrupt(): void {
    this.stop()
  }

  kill(): void {
    if (this.state === DEAD || this.killed) return
    this.ending = Exit.fail(new Killed({ id: this.id }))
    this.fiber?.interruptUnsafe()
    this.wake()
  }

  watch(onDown: (down: Down) => void): () => void {
    return (this.watchers ??= new Watchers()).watch(onDown)
  }

  monitor(process: Process, toMessage: (down: Down) => M): () => void {
    const monitors = (this.monitors ??= new Set())
    const monitor: Monitor = { unwatch: () => {} }
    monitors.add(monitor)
    monitor.unwatch = process.watch((down) => {
      monitors.delete(monitor)
      // Unbounded, but one message for each monitor this actor asked for.
      this.system ??= new Mailbox(Infinity)
      this.system.offer(toMessage(down))
      this.wake()
    })
    return () => {
      monitors.delete(monitor)
      monitor.unwatch()
    }
  }

  /** Called by the dispatcher. */
  run(): void {
    this.state = RUNNING
    for (let budget = MESSAGES_PER_RUN; budget > 0; budget--) {
      if (this.ending !== undefined) return this.end(this.ending)
      const lane = this.nextLane()
      if (lane === undefined) {
        this.state = IDLE
        return
      }
      this.handle(lane.take())
      if (this.state !== RUNNING) return
      if (this.dispatcher.spent()) break
    }
    this.ready()
  }

  private get killed(): boolean {
    return this.ending !== undefined && Exit.isFailure(this.ending)
  }

  private nextLane(): Mailbox<M> | undefined {
    const { control, system, user } = this
    if (system !== undefined && system.size > 0) return system
    if (control !== undefined && control.size > 0) return control
    return user !== undefined && user.size > 0 ? user : undefined
  }

  private handle(message: M): void {
    let effect
    try {
      effect = this.options.receive(message, this)
    } catch (error) {
      return this.end(Exit.die(error))
    }
    if (effect !== undefined && !this.killed) this.suspend(effect)
  }

  private suspend(effect: Effect.Effect<void, unknown>): void {
    const fiber = this.dispatcher.fork(effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) {
      if (Exit.isFailure(exit)) this.crash(exit)
      return
    }
    this.state = SUSPENDED
    this.fiber = fiber
    fiber.addObserver((exit) => this.resume(exit))
    if (this.killed) fiber.interruptUnsafe()
  }

  /** The effect of a handler has ended. */
  private resume(exit: Exit.Exit<void, unknown>): void {
    this.fiber = undefined
    if (Exit.isFailure(exit)) this.crash(exit)
    else this.ready()
  }

  /** The effect of a handler has failed; of one that was killed that is no word about its end. */
  private crash(exit: Exit.Exit<void, unknown>): void {
    this.end(this.killed ? this.ending! : exit)
  }

  private wake(): void {
    if (this.state === IDLE) this.ready()
  }

  private ready(): void {
    this.state = READY
    this.dispatcher.schedule(this)
  }

  private end(exit: Exit.Exit<unknown, unknown>): void {
    const { id, incarnation, monitors } = this
    this.state = DEAD
    this.ending = exit
    this.system = this.control = this.user = undefined
    this.monitors = undefined
    for (const monitor of monitors ?? []) monitor.unwatch()
    try {
      this.options.stopped?.(exit)
    } catch (error) {
      if (Exit.isSuccess(exit)) this.ending = Exit.die(error)
    }
    ;(this.watchers ??= new Watchers()).announce({ id, incarnation, exit: this.ending })
  }
}

interface Monitor {
  unwatch: () => void
}
