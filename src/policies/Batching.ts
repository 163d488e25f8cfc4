import { definer, type PolicyEntry, type PolicyEvents, type PolicyFacts } from "./Policy.ts"

/** What waits to be placed, as batching sees it. */
export interface BatchView {
  readonly count: number
  /** When the one that waits longest began to. */
  readonly sinceMs: number
  /** Whether a worker has nothing to do. */
  readonly idle: boolean
}

/** Decides when queued requests are placed: at once, or together with others. */
export interface Batching extends PolicyEvents {
  /**
   * When what waits is to be placed: not after `nowMs` for at once, and always some time. Called with `count` ≥ 1, again whenever the
   * count has changed or the time it gave has come.
   */
  readonly closesAtMs: (waiting: BatchView, nowMs: number) => number
  /** Most requests placed together, at least 1; what is beyond makes the next batch. Called once for each batch that closes. */
  readonly sizeMax: () => number
}

export interface BatchingFacts {
  /**
   * Whether requests that arrive within one turn wait for its end, so that they are placed together; false places each
   * as it arrives.
   */
  readonly joint: boolean
}

export type BatchingEntry = BatchingFacts & PolicyEntry<Batching>

export const defineBatching = definer<Batching, BatchingFacts & PolicyFacts>()
