import type { PoolView } from "../domain/PoolView.ts"
import type { Reason } from "../domain/Outcome.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry, type PolicyEvents } from "./Policy.ts"

/** The queue in front of one pool, as admission sees it. */
export interface QueueView {
  readonly queuedCount: number
  readonly queuedPromptTokens: number
  /** Expected time until a request that joins now is placed; 0 while a worker is eligible, Infinity when nothing ends. */
  readonly expectedWaitMs: number
  /** Share of every bound that the request may fill, by its class and by what its tenant was served. */
  readonly ceiling: (request: RequestView) => number
}

/** `retryAfterMs` is never 0. */
export interface Rejection {
  readonly reason: Reason
  readonly retryAfterMs: number
}

/** Decides whether a request is let in. What it reserves for a request it gives back at `ended`. */
export interface Admission extends PolicyEvents {
  /**
   * `null` lets the request in, as far as this policy goes: another may still refuse it, so nothing is reserved before `admitted`.
   * No allocation when it lets it in. Of a request that was refused it may be asked once more at the same moment, with larger ceilings:
   * nobody acts on that answer.
   */
  readonly decide: (request: RequestView, pool: PoolView, queue: QueueView, nowMs: number) => Rejection | null
  /** Asked when a request's turn has come: whether it waited so long that it is dropped in place of being placed. */
  readonly isOverdue?: (request: RequestView, nowMs: number) => boolean
}

export type AdmissionEntry = PolicyEntry<Admission>

export const defineAdmission = definer<Admission>()
