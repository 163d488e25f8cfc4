import type { PoolView } from "../domain/PoolView.ts"

/** Whether a policy may pick `worker`. O(log N): the eligible workers are sorted by key. */
export const isEligible = (pool: PoolView, worker: number): boolean =>
  eligibleWith(pool, pool.workers.keyHigh[worker]!, pool.workers.keyLow[worker]!) === worker

/** The eligible worker with this key, or -1. O(log N). */
export const eligibleWith = (pool: PoolView, high: number, low: number): number => {
  const { eligible, workers } = pool
  const worker = eligible[firstAbove(pool, high, low) - 1] ?? -1
  return worker >= 0 && workers.keyHigh[worker] === high && workers.keyLow[worker] === low ? worker : -1
}

/** Position of the first eligible worker whose key is above this one; `eligibleCount` when there is none. O(log N). */
export const firstAbove = (
  { workers: { keyHigh, keyLow }, eligible, eligibleCount }: PoolView,
  high: number,
  low: number
): number => {
  let from = 0
  let to = eligibleCount
  while (from < to) {
    const middle = (from + to) >>> 1
    const worker = eligible[middle]!
    const isAbove = keyHigh[worker]! > high || (keyHigh[worker] === high && keyLow[worker]! > low)
    if (isAbove) to = middle
    else from = middle + 1
  }
  return from
}
