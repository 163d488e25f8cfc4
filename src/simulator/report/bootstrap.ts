import { mean } from "../../structures/mean.ts"
import { makeRng } from "../../structures/Rng.ts"

/** A mean over seeds and its 95 % interval, which is too narrow for few seeds; NaN where there is one seed only. */
export interface Estimate {
  readonly mean: number
  readonly low: number
  readonly high: number
}

const RESAMPLES = 1000
const TAIL = 0.025

/**
 * The mean of some values and its 95 % bootstrap interval by percentiles: of as many values drawn from them, again and again. Values that
 * are NaN are left out. Same values, same interval. It lies between the least and the largest value, and so holds the true mean less often
 * than it says where there are few: of normal ones in 70 of 100 cases with 3 values, 92 with 20.
 *
 * Source: Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 7(1), 1979.
 */
export const estimate = (values: ReadonlyArray<number>): Estimate => {
  const known = values.filter((value) => !Number.isNaN(value))
  const count = known.length
  if (count < 2) return { mean: mean(known), low: Number.NaN, high: Number.NaN }
  const rng = makeRng(1)
  const means = Float64Array.from({ length: RESAMPLES }, () => {
    let sum = 0
    for (let i = 0; i < count; i++) sum += known[rng.int(count)]!
    return sum / count
  }).toSorted()
  return { mean: mean(known), low: means[RESAMPLES * TAIL]!, high: means[RESAMPLES * (1 - TAIL) - 1]! }
}
