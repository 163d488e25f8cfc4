import type { PoolView } from "../domain/PoolView.ts"
import type { Reason } from "../domain/Outcome.ts"
import type { RequestView } from "../domain/RequestView.ts"
import { definer, type PolicyEntry } from "./Policy.ts"

/** The queue in front of one pool, as admission sees it. */
export interface QueueView {
  readonly queuedCount: number
  readonly queuedPromptTokens: number
  /** Expected time until a request that joins now is placed; 0 while a worker is eligible, Infinity when nothing ends. */
  readonly expectedWaitMs: number
}

/** `retryAfterMs` is never 0. */
export interface Rejection {
  readonly reason: Reason
  readonly retryAfterMs: number
}

/** Decides whether a request is let in. */
export interface Admission {
  /** `null` lets the request in. Cost O(1), no allocation when admitted. */
  readonly decide: (request: RequestView, pool: PoolView, queue: QueueView, nowMs: number) => Rejection | null
}

export type AdmissionEntry = PolicyEntry<Admission>

export const defineAdmission = definer<Admission>()
