import type * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { ActorRef, Told } from "./ActorRef.ts"
import { type Down, Watchers } from "./Process.ts"

/** What a connection has to offer so that an actor at its other end can be reached like a local one. */
export interface RemoteLink<M> {
  /** Hands a message to the other side, behind all others of its lane. False: the link is gone. Never throws, never waits. */
  readonly send: (message: M, lane: "user" | "control") => boolean
  /** Asks the other side to stop or to kill the actor. Does nothing when the link is gone. */
  readonly end: (how: "stop" | "kill") => void
  /**
   * Calls `listener` once, with how the actor ended: when the other side says so, or with `LinkLost` when the link is gone; at once
   * if that has happened.
   */
  readonly onDown: (listener: (exit: Exit.Exit<unknown, unknown>) => void) => void
}

/** The link to a remote actor is gone. Whether the actor itself is alive cannot be known. */
export class LinkLost extends Schema.TaggedError<LinkLost>()("LinkLost", { actor: Schema.String }) {}

/**
 * An actor at the other end of a link. Behaves as a local reference does, but for one thing: "accepted" means that the link took the
 * message. Belongs to one incarnation over one link: when either is gone, it is down for good.
 */
export class RemoteRef<M> implements ActorRef<M> {
  readonly id: string
  readonly incarnation: number
  private readonly link: RemoteLink<M>
  private readonly watchers = new Watchers()
  private open = true

  constructor(actor: { readonly id: string; readonly incarnation: number }, link: RemoteLink<M>) {
    this.id = actor.id
    this.incarnation = actor.incarnation
    this.link = link
    link.onDown((exit) => {
      this.open = false
      this.watchers.announce({ id: this.id, incarnation: this.incarnation, exit })
    })
  }

  tell(message: M): Told {
    return this.open && this.link.send(message, "user") ? "accepted" : "dead"
  }

  tellControl(message: M): Told {
    return this.open && this.link.send(message, "control") ? "accepted" : "dead"
  }

  stop(): void {
    this.open = false
    this.link.end("stop")
  }

  interrupt(): void {
    this.stop()
  }

  kill(): void {
    this.open = false
    this.link.end("kill")
  }

  watch(onDown: (down: Down) => void): () => void {
    return this.watchers.watch(onDown)
  }
}
