/** What befalls workers, given by their places among the workers of the replay. Times in ms. */
export interface Crash {
  readonly worker: number
  readonly atMs: number
  /** How long until its process is back; left out, it stays away. */
  readonly goneMs?: number | undefined
  /** Whether its connection does not end: the balancer hears nothing any more, and must find that out. */
  readonly silent?: boolean
}

export interface SlowDown {
  readonly worker: number
  readonly fromMs: number
  readonly toMs: number
  /** How many times longer its steps take, at least 1. Those of several slow-downs multiply. */
  readonly factor: number
}

/** How many times slower a worker is at some time than it should be. */
export const slownessOf = (slowDowns: ReadonlyArray<SlowDown>, worker: number, nowMs: number): number =>
  slowDowns.reduce(
    (slowness, one) =>
      one.worker === worker && one.fromMs <= nowMs && nowMs < one.toMs ? slowness * one.factor : slowness,
    1
  )
