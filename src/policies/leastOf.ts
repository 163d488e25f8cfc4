import type { WorkerColumns } from "../domain/PoolView.ts"
import { mix } from "../structures/hash.ts"

/**
 * The worker of least cost among slots[0 .. count), or -1 when there is none; `costs` are by worker, and not NaN. Ties are settled as in
 * `LeastCost`, which this is the faster form of where all costs are in a column: only the tied are hashed.
 */
export const leastOf = (
  { keyHigh, keyLow }: WorkerColumns,
  slots: Int32Array,
  count: number,
  costs: Float64Array,
  keyState: number
): number => {
  let cost = Number.POSITIVE_INFINITY
  for (let i = 0; i < count; i++) cost = Math.min(cost, costs[slots[i]!]!)
  let least = -1
  let highest = -1
  for (let i = 0; i < count; i++) {
    const worker = slots[i]!
    if (costs[worker]! > cost) continue
    const score = mix(keyState, keyHigh[worker]!, keyLow[worker]!)
    if (score <= highest) continue
    least = worker
    highest = score
  }
  return least
}
