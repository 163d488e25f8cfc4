/** Why a request went where it went, as a document. Times in ms. What there is none of is null. */
export interface Explanation {
  /** 16 hexadecimal digits. */
  readonly id: string
  readonly request: {
    readonly model: string
    readonly tenant: string
    readonly class: number
    readonly promptTokens: number
    readonly maxTokens: number
    /** 16 hexadecimal digits. */
    readonly session: string | null
    /** Since the balancer started, or the first request of a replay. */
    readonly arrivedMs: number
    readonly timeoutMs: number
  }
  /** In the order in which they are asked; from the first that refuses on none is. */
  readonly admission: ReadonlyArray<{
    readonly policy: string
    readonly verdict: "let in" | "refused" | "not asked"
  }>
  /** How it was refused. */
  readonly refused: {
    readonly reason: string
    readonly retryAfterMs: number
    /** Share of every bound of admission that a request of its class and tenant might fill. */
    readonly ceiling: number
  } | null
  /** How it came into the queue when it arrived; null when it was placed at once, or refused. */
  readonly queue: {
    readonly why: "no worker had room" | "others were waiting" | "it is placed together with others"
    readonly policy: string
    /** Requests that were waiting. */
    readonly ahead: number
    /** Until it was picked for, and how many others were in the meantime; null while it waits, and when it never was. */
    readonly waitedMs: number | null
    readonly placedMeanwhile: number | null
  } | null
  readonly placement: {
    readonly policy: string
    readonly options: Readonly<Record<string, number | boolean | string>>
    readonly summary: string
    readonly definition: string
    /** Of the terms and their sum: `seconds`, `requests`, `tokens` or `score`. */
    readonly unit: string
  }
  readonly decisions: ReadonlyArray<Decision>
  /** How it ended; null while it goes on, and when it was refused. */
  readonly outcome: {
    readonly reason: string
    readonly ttftMs: number | null
    readonly e2eMs: number
    readonly outputTokens: number
    /** Prompt tokens that were cached where it was served; null where nobody said. */
    readonly cachedTokens: number | null
  } | null
}

/** As a running cluster tells it. */
export interface LiveExplanation extends Explanation {
  /** The file of the cluster's recording that the request is in, or will be once it and all before it have ended; null where there is none. */
  readonly recording: string | null
}

/** One choice of a worker for the request. */
export interface Decision {
  /** Since the request arrived. */
  readonly afterMs: number
  /** `picked`, `picked together`, or what a rescue did: `hedged`, `moved`, `requeued`. */
  readonly act: string
  /** The policy that decided: the placement or a rescue. */
  readonly policy: string
  readonly attempt: number
  /** How many requests were placed together; 1 for this one alone. */
  readonly together: number
  readonly chosen: string | null
  /** Who produces the answer, where that is another worker. */
  readonly answers: string | null
  /** The candidates, least cost first where the policy has terms, then those that were none. */
  readonly workers: ReadonlyArray<DecisionWorker>
  /** Workers of the pool that are not in the list, by what they were. */
  readonly unlisted: Readonly<Record<string, number>>
  /** Of the candidates listed the next best, and by how much; where the placement policy has terms and picked by them. */
  readonly runnerUp: { readonly worker: string; readonly margin: number } | null
  /** The rule that chose among candidates of equal cost; null where the cost did. */
  readonly tie: string | null
  /** At the chosen worker, from here on. */
  readonly predicted: { readonly ttftMs: number; readonly outputTokens: number } | null
  /** What came of it. */
  readonly actual: {
    /** `sent`, `started`, `gone` when the worker could not be reached, or the reason for which it was over. */
    readonly result: string
    /** From the decision to the first token. */
    readonly ttftMs: number | null
  }
}

/** A worker, as the decision saw it. */
export interface DecisionWorker {
  readonly worker: string
  /** `candidate`, or why it was none. */
  readonly standing: string
  readonly inFlight: number
  readonly capacity: number
  /** Uncached prompt tokens that wait there, KV tokens held there, and prompt tokens of the request that are expected to be cached. */
  readonly pendingTokens: number
  readonly contextTokens: number
  readonly cachedTokens: number
  /** Predicted time to first token. */
  readonly ttftMs: number
  readonly terms: Readonly<Record<string, number>> | null
  readonly cost: number | null
}
