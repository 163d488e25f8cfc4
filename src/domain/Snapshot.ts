import type { WorkerLoad } from "./WorkerLoad.ts"

/** `starting → ready → draining → stopped`, or `lost`; `suspect` is late with its heartbeats and gets no new work. */
export type WorkerState = "starting" | "ready" | "suspect" | "draining" | "stopped" | "lost"

/** One worker as the balancer sees it. */
export interface WorkerSnapshot {
  readonly name: string
  readonly state: WorkerState
  readonly models: ReadonlyArray<string>
  /** What it does of its requests. */
  readonly role: "both" | "prefill" | "decode"
  /** 1 for a worker at the pool's norm, as the balancer has it from its word and from what was seen. */
  readonly speed: number
  readonly incarnation: number
  /** Attempts charged to it now, by the balancer's own count. */
  readonly inFlight: number
  readonly capacity: number
  /** Attempts sent to it since the balancer started. */
  readonly assigned: number
  /**
   * Why: the `first` ones of requests, `retry`, the answers of split requests that were `handed_over` to it, and by rescue policy what
   * that sent.
   */
  readonly assignedFor: Readonly<Record<string, number>>
  /** What its last heartbeat said, and how old that is. */
  readonly load: WorkerLoad
  readonly heardMsAgo: number
}

/** What is asked of one model. */
export interface ModelSnapshot {
  readonly name: string
  readonly inFlight: number
  readonly queued: number
}

/** Totals of one balancer since its process started. `accepted = done + failed + cancelled + expired + inFlight + queued`. */
export interface BalancerSnapshot {
  readonly epoch: number
  readonly uptimeMs: number
  /** How many times faster than by the clock time passes for the balancer. */
  readonly timeScale: number
  /** Times the balancer actor was restarted by its supervisor. */
  readonly restarts: number
  readonly clients: number
  readonly accepted: number
  readonly rejected: number
  readonly done: number
  readonly failed: number
  readonly cancelled: number
  readonly expired: number
  /** Attempts that follow one that failed; what rescue policies add is not among them. */
  readonly retries: number
  /** Requests that were taken from their workers or copied before they started, by the rescue policy that did. */
  readonly rescues: Readonly<Record<string, number>>
  readonly outputTokens: number
  readonly cachedTokens: number
  readonly inFlight: number
  readonly queued: number
  /** In the order in which they came up. */
  readonly models: ReadonlyArray<ModelSnapshot>
  /** By `reasonName`: what was not let in, and what was and did not end well. */
  readonly rejections: Readonly<Record<string, number>>
  readonly failures: Readonly<Record<string, number>>
  readonly workers: ReadonlyArray<WorkerSnapshot>
}
