import { definer, type PolicyEntry, type PolicyFacts } from "./Policy.ts"

/** What was asked of a pool in one sampling period, and what came of it. NaN where nothing was seen. */
export interface DemandView {
  /** How long the period was. */
  readonly periodMs: number
  /** Requests that arrived, those that were refused too. */
  readonly arrivalsPerSecond: number
  /** Mean time at their workers of the attempts that ended. */
  readonly serviceMs: number
  /** 95 of 100 requests that started had their first token within this time. */
  readonly ttftMsP95: number
  /** Requests at workers, the mean over the period. */
  readonly inFlight: number
  /** Requests that wait to be placed, at its end. */
  readonly queued: number
}

/** A pool at the end of a sampling period, as scaling sees it. Figures of load are NaN while they are not known. */
export interface ScalingView extends DemandView {
  /** Workers that take work, and those that are to take some soon. */
  readonly ready: number
  readonly starting: number
  /** The least and the most there may be. */
  readonly min: number
  readonly max: number
  /** Requests one worker takes at once. */
  readonly capacity: number
  /** Predicted time to compute the prompts that are pending at workers or queued, the mean over workers. */
  readonly backlogMs: number
  /** Mean share of the KV cache in use, 0 to 1. */
  readonly kvUse: number
  /** From the order to start a worker until it takes work. */
  readonly coldStartMs: number
}

/** Decides how many workers a pool should have. */
export interface Scaling {
  /** Wanted number of workers, between `min` and `max`. Called once a sampling period; `nowMs` never decreases. */
  readonly desired: (view: ScalingView, nowMs: number) => number
}

/** The figures that load makes larger. */
export type LoadSignal = keyof Omit<
  ScalingView,
  "ready" | "starting" | "min" | "max" | "capacity" | "periodMs" | "coldStartMs"
>

export interface ScalingFacts extends PolicyFacts {
  /** The figures of load it looks at; nothing else changes what it decides. None: the number does not depend on load. */
  readonly signals: ReadonlyArray<LoadSignal>
}

export type ScalingEntry = ScalingFacts & PolicyEntry<Scaling>

export const defineScaling = definer<Scaling, ScalingFacts>()
