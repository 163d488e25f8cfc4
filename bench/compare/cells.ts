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

/** Traces by name. */
type Extents = Readonly<Record<string, Extent>>

/** What parameters of our policies are chosen on. Short ones in full copies, long ones in windows of a minute or more at the highest load. */
const chosenOn: Extents = {
  "mooncake-conversation-a": { copies: 1, requests: 2500 },
  "coding-agents-a": { copies: 1, requests: 2500 },
  "agents-swe-a": { copies: 16, requests: 6432 },
  "azure-2023-conv": { copies: 1, requests: 6000 },
  "servegen-reason-a": { copies: 1, requests: 2500 }
}

/** What no parameter is chosen on. Windows last about a minute at the highest load, and three of them do not overlap. */
const heldOut: Extents = {
  "servegen-large-a": { copies: 1, requests: 12_000 },
  "servegen-large-day-a": { copies: 1, requests: 12_000 },
  "servegen-models-a": { copies: 1, requests: 9600 },
  "arena-tenants-a": { copies: 72, requests: 17_112 },
  "made-up-conversations": { copies: 1, requests: 6000 },
  "made-up-documents": { copies: 1, requests: 6000 }
}

export const extents: Extents = { ...chosenOn, ...heldOut }

const cellsOf = (
  traces: ReadonlyArray<string>,
  engines: ReadonlyArray<Cell["engine"]>,
  workerCounts: ReadonlyArray<number>,
  loads: ReadonlyArray<number>
): ReadonlyArray<Cell> =>
  traces.flatMap((trace) =>
    engines.flatMap((engine) =>
      workerCounts.flatMap((workers) => loads.map((load) => ({ trace, engine, workers, load })))
    )
  )

/** Where it is measured how good the default pipeline is. */
export const cells = cellsOf(Object.keys(chosenOn), ["8b-h100", "70b-4xa100"], [8, 32], [0.6, 0.8, 0.95, 1.2])

/** Where it is checked that this holds on traffic, engines and a number of workers that nothing was fitted to. */
export const heldOutCells = cellsOf(Object.keys(heldOut), ["8b-a100", "70b-4xh100"], [12], [0.8, 1.2])

/** Where it is checked that nothing is lost with little to do: traces of which prompts share much, on fewer and on more workers. */
const lightCells = cellsOf(
  ["mooncake-conversation-a", "coding-agents-a", "agents-swe-a"],
  ["8b-h100", "70b-4xa100"],
  [4, 64],
  [0.3, 0.5]
)

/** All of them, by what the page of results calls them. */
export const groups: Readonly<Record<string, ReadonlyArray<Cell>>> = {
  cells,
  "held-out cells": heldOutCells,
  "light cells": lightCells
}

export const nameOf = ({ engine, load, trace, workers }: Cell): string =>
  `${trace} ${workers}×${engine} ${load}`
