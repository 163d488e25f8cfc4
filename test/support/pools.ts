import type { PoolView, WorkerColumns } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { hash64 } from "../../src/structures/hash.ts"

/** One row of `WorkerColumns`. */
export type WorkerRow = { readonly [Column in keyof WorkerColumns]: number }

/** A worker of a pool, and whether the request may go there. */
export interface Candidate extends WorkerRow {
  readonly eligible: boolean
}

const columnTypes = {
  keyHigh: Uint32Array,
  keyLow: Uint32Array,
  inFlight: Int32Array,
  capacity: Int32Array,
  speed: Float64Array,
  pendingPromptTokens: Float64Array,
  running: Int32Array,
  waiting: Int32Array,
  kvUsedTokens: Float64Array,
  kvCapacityTokens: Float64Array,
  observedAtMs: Float64Array
} satisfies { readonly [Column in keyof WorkerColumns]: unknown }

const columnNames = Object.keys(columnTypes) as ReadonlyArray<keyof WorkerColumns>

/**
 * The view of a pool whose i-th row lies in slot `slots[i]` (row i in slot i when left out). Beyond `eligibleCount` the array
 * `eligible` holds the slots of the other workers, as a list that has shrunk does.
 */
export const poolOf = (
  rows: ReadonlyArray<Candidate>,
  slots: ReadonlyArray<number> = rows.map((_, i) => i)
): PoolView => {
  const workers: Partial<Record<keyof WorkerColumns, WorkerColumns[keyof WorkerColumns]>> = {}
  for (const name of columnNames) {
    const column = new columnTypes[name](rows.length)
    for (const [i, worker] of rows.entries()) column[slots[i]!] = worker[name]
    workers[name] = column
  }
  const byKey = rows
    .map((worker, i) => ({ ...worker, slot: slots[i]! }))
    .toSorted((a, b) => a.keyHigh - b.keyHigh || a.keyLow - b.keyLow)
  const eligible = byKey.filter((worker) => worker.eligible)
  const others = byKey.filter((worker) => !worker.eligible)
  return {
    workers: workers as WorkerColumns,
    eligible: Int32Array.from([...eligible, ...others], ({ slot }) => slot),
    eligibleCount: eligible.length
  }
}

/** `count` workers that differ in their keys alone. */
export const equalWorkers = (count: number, row: Partial<Candidate> = {}): ReadonlyArray<Candidate> =>
  Array.from({ length: count }, (_, i) => {
    const { high, low } = hash64(`worker-${i}`)
    return {
      keyHigh: high,
      keyLow: low,
      inFlight: 2,
      capacity: 64,
      speed: 1,
      pendingPromptTokens: 0,
      running: 0,
      waiting: 0,
      kvUsedTokens: 0,
      kvCapacityTokens: 0,
      observedAtMs: 0,
      eligible: true,
      ...row
    }
  })

/** A request without a session that arrived at 0. */
export const oneRequest: RequestView = {
  slot: 0,
  model: 0,
  tenant: 0,
  class: 0,
  promptTokens: 100,
  maxTokens: 100,
  sessionHigh: 0,
  sessionLow: 0,
  idHigh: 0,
  idLow: 0,
  arrivedMs: 0,
  deadlineMs: 60_000,
  attempt: 1
}
