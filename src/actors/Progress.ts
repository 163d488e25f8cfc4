import { Attempt } from "./Charges.ts"

/** How far a request has come: with nobody, in the queue, at a worker without a token yet, or with tokens. */
export const State = { none: 0, queued: 1, placed: 2, streaming: 3 } as const

/**
 * What the balancer's core knows of a request that is not on record in its `Request`. It is at the same time the live attempt, or the last:
 * one object, for each costs a request a miss in the processor's caches.
 */
export class Progress extends Attempt {
  state: number = State.none
  /** Whether an earlier core has placed it. */
  inherited = false
  /** The one that is tied to it. Policies hear of it when it has won. */
  copy: Attempt | undefined
  /** While its prompt is read: the place that is kept for it where its answer is to be produced. */
  producer: Attempt | undefined
  /** The worker of the attempt before, to be avoided; -1 for none. */
  avoided = -1
  /** Attempts that were ended by a rescue: they were no failures. */
  moves = 0
  /** Output tokens the policies were told of. */
  toldTokens = 0

  /** Another attempt is the live one from now on. */
  become(attempt: Attempt): void {
    Object.assign(this, attempt)
  }
}
