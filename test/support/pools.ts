import type { Forecast, PoolView, WorkerColumns } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { QueueView } from "../../src/policies/Admission.ts"
import { classCeiling } from "../../src/policies/ceilings.ts"
import { pendingStepsMs } from "../../src/policies/costs.ts"
import type { Estimates } from "../../src/policies/estimators/Estimates.ts"
import { hash64, mix } from "../../src/structures/hash.ts"
import type { PrefixChain } from "../../src/structures/PrefixChain.ts"

/** One row of `WorkerColumns`. */
export type WorkerRow = { readonly [Column in keyof WorkerColumns]: number }

/** A worker of a pool, and whether the request may go there. */
export interface Candidate extends WorkerRow {
  readonly eligible: boolean
  /** Prompt tokens it holds of any request, as far as that has a chain. */
  readonly cachedTokens: number
}

/** Prompt tokens of one block in these pools. */
export const BLOCK_TOKENS = 256

const columnTypes = {
  keyHigh: Uint32Array,
  keyLow: Uint32Array,
  inFlight: Int32Array,
  prefilling: Int32Array,
  capacity: Int32Array,
  maxSequences: Int32Array,
  speed: Float64Array,
  pendingPrefillTokens: Float64Array,
  pendingPrefillAttention: Float64Array,
  prefillSinceMs: Float64Array,
  prefillDueMs: Float64Array,
  contextTokens: Float64Array,
  answerTokens: Float64Array,
  running: Int32Array,
  waiting: Int32Array,
  kvUsedTokens: Float64Array,
  kvCapacityTokens: Float64Array,
  observedAtMs: Float64Array,
  baseMs: Float64Array,
  prefillTokenMs: Float64Array,
  prefillAttentionMs: Float64Array,
  decodeSequenceMs: Float64Array,
  decodeContextMs: Float64Array
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
  const columns: Partial<Record<keyof WorkerColumns, WorkerColumns[keyof WorkerColumns]>> = {}
  for (const name of columnNames) {
    const column = new columnTypes[name](rows.length)
    for (let i = 0; i < rows.length; i++) column[slots[i]!] = rows[i]![name]
    columns[name] = column
  }
  const workers = columns as WorkerColumns
  const pool: PoolView = {
    workers,
    eligible: Int32Array.from(slots),
    eligibleCount: 0,
    prefill: new Int32Array(0),
    prefillCount: 0,
    decode: new Int32Array(0),
    decodeCount: 0,
    blockTokens: BLOCK_TOKENS,
    ...cachesOf(rows, slots),
    forecast: quietForecast
  }
  const mayPick = new Uint8Array(rows.length)
  for (const [i, { eligible }] of rows.entries()) mayPick[slots[i]!] = eligible ? 1 : 0
  setEligible(pool, (slot) => mayPick[slot] === 1)
  return pool
}

/** What a pool says of its workers' prefix caches: of each request the leading blocks that the row's `cachedTokens` fill. */
const cachesOf = (
  rows: ReadonlyArray<Candidate>,
  slots: ReadonlyArray<number>
): Pick<PoolView, "match" | "cachedTokens"> => {
  const blocksOf = ({ cachedTokens }: Candidate, { chain }: RequestView): number =>
    Math.min(Math.floor(cachedTokens / BLOCK_TOKENS), chain.count)
  return {
    match: (request) => {
      const holders = rows
        .map((row, i) => ({ slot: slots[i]!, blocks: blocksOf(row, request) }))
        .filter(({ blocks }) => blocks > 0)
        .toSorted((a, b) => b.blocks - a.blocks)
      return {
        count: holders.length,
        workers: Int32Array.from(holders, ({ slot }) => slot),
        blocks: Int32Array.from(holders, ({ blocks }) => blocks)
      }
    },
    cachedTokens: (request) => {
      const column = new Float64Array(rows.length)
      for (const [i, row] of rows.entries())
        column[slots[i]!] = Math.min(
          blocksOf(row, request) * BLOCK_TOKENS,
          Math.max(0, request.promptTokens - 1)
        )
      return column
    }
  }
}

/** Half of what a request may produce, and predictions that come true. */
export const quietForecast: Forecast = {
  outputTokens: ({ maxTokens }, quantile) => Math.max(1, Math.ceil(maxTokens * quantile)),
  meanOutputTokens: ({ maxTokens }) => Math.max(1, Math.ceil(maxTokens / 2)),
  ttftRatio: 1,
  placedMs: () => 0,
  placedTtftMs: () => 0
}

/** The same, with what `estimates` predict of placements that they hear of. */
export const foreseen = ({ placedMs, placedTtftMs }: Estimates): Forecast => ({
  ...quietForecast,
  placedMs,
  placedTtftMs
})

/**
 * Charges a request to a worker as the balancer does before it sends it. Returns it as placed: with what it is expected to compute there.
 */
export const charge = (pool: PoolView, worker: number, request: RequestView, nowMs = 0): RequestView => {
  const placed = { ...request, uncachedTokens: request.promptTokens - pool.cachedTokens(request)[worker]! }
  pool.workers.inFlight[worker]!++
  pool.workers.answerTokens[worker]! += pool.forecast.meanOutputTokens(placed)
  pool.workers.contextTokens[worker]! += heldTokens(pool, placed)
  addPrefill(pool, worker, placed, 1)
  if (pool.workers.prefilling[worker] === 1) beginPrefill(pool, worker, nowMs)
  return placed
}

/** The first token of a request that `charge` returned: its prompt is no longer pending. */
export const prefilled = (pool: PoolView, worker: number, placed: RequestView, nowMs = 0): void => {
  addPrefill(pool, worker, placed, -1)
  beginPrefill(pool, worker, nowMs)
}

/** The end of such a request, after its first token. */
export const release = (pool: PoolView, worker: number, placed: RequestView): void => {
  pool.workers.inFlight[worker]!--
  pool.workers.answerTokens[worker]! -= pool.forecast.meanOutputTokens(placed)
  pool.workers.contextTokens[worker]! -= heldTokens(pool, placed)
}

const heldTokens = ({ forecast }: PoolView, request: RequestView): number =>
  request.promptTokens + forecast.meanOutputTokens(request)

const beginPrefill = ({ workers }: PoolView, worker: number, nowMs: number): void => {
  workers.prefillSinceMs[worker] = nowMs
  workers.prefillDueMs[worker] = nowMs + pendingStepsMs(workers, worker)
}

const addPrefill = ({ workers }: PoolView, worker: number, request: RequestView, count: 1 | -1): void => {
  const n = request.uncachedTokens
  workers.prefilling[worker]! += count
  workers.pendingPrefillTokens[worker]! += count * n
  workers.pendingPrefillAttention[worker]! += count * n * (request.promptTokens - n / 2)
}

/** Makes the workers for which `mayPick` says so the eligible ones of a pool. Calls `changed` for each that was not, or is no longer. */
export const setEligible = (
  pool: PoolView,
  mayPick: (slot: number) => boolean,
  changed: (slot: number, eligible: boolean) => void = () => {}
): void => {
  const before = new Set(pool.eligible.subarray(0, pool.eligibleCount))
  const byKey = sortedByKey(pool.workers, pool.eligible)
  const after = byKey.filter(mayPick)
  pool.eligible.set(after)
  pool.eligible.set(
    byKey.filter((slot) => !mayPick(slot)),
    after.length
  )
  Object.assign(pool, { eligibleCount: after.length })
  for (const slot of byKey) if (before.has(slot) !== mayPick(slot)) changed(slot, !before.has(slot))
}

const sortedByKey = ({ keyHigh, keyLow }: WorkerColumns, slots: Int32Array): Int32Array =>
  slots.toSorted((a, b) => keyHigh[a]! - keyHigh[b]! || keyLow[a]! - keyLow[b]!)

/** `count` workers that differ in their keys alone. */
export const equalWorkers = (count: number, row: Partial<Candidate> = {}): ReadonlyArray<Candidate> =>
  Array.from({ length: count }, (_, i) => {
    const { high, low } = hash64(`worker-${i}`)
    return {
      keyHigh: high,
      keyLow: low,
      inFlight: 2,
      prefilling: 0,
      capacity: 64,
      maxSequences: 65_536,
      speed: 1,
      pendingPrefillTokens: 0,
      pendingPrefillAttention: 0,
      prefillSinceMs: 0,
      prefillDueMs: 0,
      contextTokens: 0,
      answerTokens: 0,
      running: 0,
      waiting: 0,
      kvUsedTokens: 0,
      kvCapacityTokens: 0,
      observedAtMs: 0,
      baseMs: 8,
      prefillTokenMs: 0.03125,
      prefillAttentionMs: 0,
      decodeSequenceMs: 0.03125,
      decodeContextMs: 0,
      cachedTokens: 0,
      eligible: true,
      ...row
    }
  })

/** A chain whose block hashes are these numbers, in both halves mixed. */
export function chainOf(blocks: ReadonlyArray<number>): PrefixChain {
  return {
    count: blocks.length,
    high: Uint32Array.from(blocks, (block) => mix(1, 0, block)),
    low: Uint32Array.from(blocks, (block) => mix(2, 0, block))
  }
}

/** A request without a session that arrived at 0. */
export const oneRequest: RequestView = {
  slot: 0,
  model: 0,
  tenant: 0,
  class: 0,
  weight: 1,
  promptTokens: 100,
  uncachedTokens: 100,
  chain: chainOf([]),
  maxTokens: 100,
  sessionHigh: 0,
  sessionLow: 0,
  idHigh: 0,
  idLow: 0,
  arrivedMs: 0,
  deadlineMs: 60_000,
  attempt: 1,
  outputTokens: 0
}

/** Nobody waits, and all tenants were served alike. */
export const emptyQueue: QueueView = {
  queuedCount: 0,
  queuedPromptTokens: 0,
  expectedWaitMs: 0,
  ceiling: (request) => classCeiling(request.class)
}
