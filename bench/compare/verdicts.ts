import { estimate, type Estimate } from "../../src/simulator/report/bootstrap.ts"
import { assert } from "../../src/structures/assert.ts"
import { type Cell, nameOf } from "./cells.ts"
import type { Results } from "./results.ts"
import { BARE, type Row } from "./runCell.ts"

/** How the default pipeline did in one cell against the rival with the highest goodput there, and of equal ones the lowest TTFT. */
export interface Against {
  readonly rival: string
  readonly goodput: number
  readonly ttftMs: number
  /** Of our goodput less its, seed by seed. */
  readonly gain: Estimate
  /** Whether the interval of the gain reaches 0, or lies above; and whether that of our mean TTFT less its reaches 0, or lies below. */
  readonly holds: boolean
  readonly isSooner: boolean
  /** Whether the interval of the gain lies below 0, and that of our mean TTFT less its above, with intervals as wide as few windows ask for. */
  readonly isLess: boolean
  readonly isLater: boolean
}

export interface Verdict {
  readonly cell: Cell
  readonly bound: number
  readonly ours: { readonly goodput: Estimate; readonly ttftMs: number; readonly refused: number }
  /** Rivals as they are, and with our admission, queue and rescues. */
  readonly bare: Against
  readonly admitting: Against
}

/** The verdicts of those of some cells that were replayed; those that were lost by most first, the others as cells are listed. */
export const verdictsOf = (results: Results, cells: ReadonlyArray<Cell>): ReadonlyArray<Verdict> =>
  cells.flatMap((cell) => verdictOf(cell, results) ?? []).toSorted((a, b) => lossOf(a) - lossOf(b))

/** Below 0 where a cell is lost. */
const lossOf = ({ admitting, bare }: Verdict): number =>
  Math.min(bare.holds ? 0 : bare.gain.mean, admitting.holds ? 0 : admitting.gain.mean)

const verdictOf = (cell: Cell, { cells: kept }: Results): Verdict | undefined => {
  const result = kept[nameOf(cell)]
  if (result === undefined) return undefined
  const ours = result.rows["default"]
  assert(ours !== undefined, "the default pipeline competes in every cell")
  const rivals = Object.entries(result.rows).filter(([name]) => isRival(name, result.rows))
  const [bare, admitting] = [true, false].map((isBare) => {
    const those = rivals.filter(([name]) => name.endsWith(BARE) === isBare)
    const best = ([, a]: readonly [string, Row], [, b]: readonly [string, Row]): number =>
      mean(b.goodput) - mean(a.goodput) || mean(a.ttftMs) - mean(b.ttftMs)
    return against(ours, those.toSorted(best)[0]!)
  })
  return {
    cell,
    bound: mean(result.bound),
    ours: { goodput: estimate(ours.goodput), ttftMs: mean(ours.ttftMs), refused: mean(ours.refused) },
    bare: bare!,
    admitting: admitting!
  }
}

/** A rival is a contender that also runs bare. */
const isRival = (name: string, rows: object): boolean =>
  name.endsWith(BARE) || Object.hasOwn(rows, name + BARE)

const against = (ours: Row, [rival, row]: readonly [string, Row]): Against => {
  const gains = ours.goodput.map((value, seed) => value - row.goodput[seed]!)
  const delays = ours.ttftMs.map((value, seed) => value - row.ttftMs[seed]!)
  const [gain, later] = [estimate(gains), estimate(delays)]
  return {
    rival: rival.replace(BARE, ""),
    goodput: mean(row.goodput),
    ttftMs: mean(row.ttftMs),
    gain,
    holds: (Number.isNaN(gain.high) ? gain.mean : gain.high) >= 0,
    isSooner: (Number.isNaN(later.low) ? later.mean : later.low) <= 0,
    isLess: mean(gains) < -halfWidth(gains),
    isLater: mean(delays) > halfWidth(delays)
  }
}

/** Quantiles of Student's t for 95 of 100 cases, from two values on. */
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]

/** Half of the 95 % interval of a mean, by Student's t, which holds for few normal values as well; 0 for one. */
export const halfWidth = (values: ReadonlyArray<number>): number => {
  const count = values.length
  if (count < 2) return 0
  const center = mean(values)
  const variance = values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (count - 1)
  return (T95[count - 2] ?? T95.at(-1)!) * Math.sqrt(variance / count)
}

const mean = (values: ReadonlyArray<number>): number => estimate(values).mean
