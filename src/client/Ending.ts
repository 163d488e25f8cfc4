/** How a request ended, as its caller sees it. Every request has exactly one, and none is reported by throwing. */
export type Ending = Done | Rejected | Broken

/** The answer is complete. Times are the client's own, from `generate` on, unless said. */
export interface Done {
  readonly outcome: "done"
  /** Why the answer stops: the model ended it, or `maxTokens` was reached. */
  readonly reason: "stop" | "length"
  readonly tokens: number
  /** Prompt tokens found in the worker's prefix cache. */
  readonly cachedTokens: number
  readonly attempts: number
  /** Name of the worker that answered. */
  readonly worker: string
  /** Name of the one that read the prompt, where that was another one. */
  readonly reader: string | undefined
  /** Undefined for an answer without tokens. */
  readonly ttftMs: number | undefined
  readonly e2eMs: number
  /** On the engine's clock: waiting for the batch, reading the prompt, and everything from submission to the last token. */
  readonly queueMs: number
  readonly prefillMs: number
  readonly engineMs: number
}

/** The balancer did not let the request in; nothing ran. */
export interface Rejected {
  readonly outcome: "rejected"
  /** A name of `domain/Outcome.ts`: `queue_full`, `no_worker`, `unknown_model` … */
  readonly reason: string
  /** When another try may succeed; 0 when none will. */
  readonly retryAfterMs: number
  readonly retryable: boolean
  readonly message: string
  readonly e2eMs: number
}

/** The request was let in, or at least sent, and did not finish. */
export interface Broken {
  readonly outcome: "error" | "cancelled" | "expired"
  /** A name of `domain/Outcome.ts`: `worker_lost`, `connection_lost` … */
  readonly reason: string
  /** Tokens that had come before: whoever reads them one by one may have stopped at fewer. */
  readonly delivered: number
  /** When another try may succeed, as far as the balancer said; else 0. */
  readonly retryAfterMs: number
  /** Whether the same request may succeed when sent again. */
  readonly retryable: boolean
  readonly message: string
  /** 0 when it never reached a worker. */
  readonly attempts: number
  readonly ttftMs: number | undefined
  readonly e2eMs: number
}
