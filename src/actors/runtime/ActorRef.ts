import type { Process } from "./Process.ts"

/** What became of a message: in the mailbox, refused because the mailbox is full, or nobody is there to read it. */
export type Told = "accepted" | "full" | "dead"

/**
 * How to reach an actor, near or far. Belongs to one incarnation: after a restart there is a new reference.
 * "accepted" says that the message is in the mailbox (for a remote actor: that the link took it), not that it was handled.
 */
export interface ActorRef<M> extends Process {
  readonly incarnation: number
  /** Puts a message behind all others told before. Never throws, never waits. */
  readonly tell: (message: M) => Told
  /** Puts a message into the control lane, which is emptied before the ordinary one. */
  readonly tellControl: (message: M) => Told
  /** Lets it finish the message in hand and end normally; what else waits is dropped. From now on it takes no message. */
  readonly stop: () => void
  /** Ends it without finishing the message in hand, as far as that can be cut short. */
  readonly kill: () => void
}
