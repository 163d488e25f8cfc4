import type { WorkerColumns } from "../../domain/PoolView.ts"

/**
 * Who goes first when a pool shrinks: of `candidates` (worker slots, at least one) the one whose prefix cache is worth least, then the
 * one with the fewest requests to finish, then the one of the lowest key. `cachedValue` is by slot.
 */
export const chooseVictim = (
  workers: Pick<WorkerColumns, "inFlight" | "keyHigh" | "keyLow">,
  candidates: ReadonlyArray<number>,
  cachedValue: Float64Array
): number =>
  candidates.reduce((victim, slot) => {
    const order =
      cachedValue[slot]! - cachedValue[victim]! ||
      workers.inFlight[slot]! - workers.inFlight[victim]! ||
      workers.keyHigh[slot]! - workers.keyHigh[victim]! ||
      workers.keyLow[slot]! - workers.keyLow[victim]!
    return order < 0 ? slot : victim
  })
