import type { presets } from "../../src/engines/simulated/CostModel.ts"

/** One trace on one fleet at one load. */
export interface Cell {
  readonly trace: string
  readonly engine: keyof typeof presets
  readonly workers: number
  /** Share of the time of all workers that the traffic takes, were every block computed once and every step full. */
  readonly load: number
}

/** How much of a trace is replayed. */
export interface Extent {
  /** The trace is laid over itself so often, each copy with tenants and sessions of its own and begun at another place. */
  readonly copies: number
  /** Requests of one window. Each seed has the next window; beyond the end of the trace windows overlap. */
  readonly requests: number
}

/** Short ones in full copies, long ones in windows of a minute or more at the highest load. */
export const extents: Readonly<Record<string, Extent>> = {
  "mooncake-conversation-a": { copies: 1, requests: 2500 },
  "coding-agents-a": { copies: 1, requests: 2500 },
  "agents-swe-a": { copies: 16, requests: 6432 },
  "azure-2023-conv": { copies: 1, requests: 6000 },
  "servegen-reason-a": { copies: 1, requests: 2500 }
}

export const loads: ReadonlyArray<number> = [0.6, 0.8, 0.95, 1.2]

export const cells: ReadonlyArray<Cell> = Object.keys(extents).flatMap((trace) =>
  (["8b-h100", "70b-4xa100"] as const).flatMap((engine) =>
    [8, 32].flatMap((workers) => loads.map((load) => ({ trace, engine, workers, load })))
  )
)

export const nameOf = ({ engine, load, trace, workers }: Cell): string =>
  `${trace} ${workers}×${engine} ${load}`
