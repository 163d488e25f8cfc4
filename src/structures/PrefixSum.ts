import { assert } from "./assert.ts"

/** Most that may be added up: twice as much is a whole number that a double still holds exactly. */
export const TOTAL_MAX = 2 ** 52

/**
 * Inclusive scan of `values[from .. to)`: sums[i] = before + values[from] + … + values[i]. Returns the last sum, or `before` for an empty
 * range. Values are whole numbers ≥ 0 and the sum is at most 2⁵², so that every order of adding gives the same. `sums` may be `values`.
 * Cost O(to − from).
 */
export const prefixSum = (
  values: Float64Array,
  sums: Float64Array,
  from: number,
  to: number,
  before = 0
): number => {
  let sum = before
  let whole = true
  for (let i = from; i < to; i++) {
    const value = values[i]!
    whole &&= value >= 0 && Math.floor(value) === value
    sum += value
    sums[i] = sum
  }
  assert(whole && sum <= TOTAL_MAX, "what is added up is whole, not negative, and at most 2⁵² together")
  return sum
}

/** What `values[from .. to)` add up to, unchecked. */
export const sumOf = (values: Float64Array, from: number, to: number): number => {
  let sum = 0
  for (let i = from; i < to; i++) sum += values[i]!
  return sum
}

/** Where a block begins when `blockCount` blocks cover `count` values; lengths differ by one at most. */
export const blockStart = (block: number, blockCount: number, count: number): number =>
  Math.floor((block * count) / blockCount)

/**
 * The scan of `values[0 .. count)` in as many blocks as `blockSums` is long: the sums of the blocks, their scan, then each block from
 * what lies before it. Within the first and the last step blocks may go in any order or at the same time: with P threads O(n/P + P).
 */
export const blockedPrefixSum = (
  values: Float64Array,
  sums: Float64Array,
  count: number,
  blockSums: Float64Array
): void => {
  const blocks = blockSums.length
  const start = (block: number): number => blockStart(block, blocks, count)
  for (let block = 0; block < blocks; block++)
    blockSums[block] = sumOf(values, start(block), start(block + 1))
  prefixSum(blockSums, blockSums, 0, blocks)
  for (let block = 0; block < blocks; block++)
    prefixSum(values, sums, start(block), start(block + 1), blockSums[block - 1] ?? 0)
}

/**
 * The scan of `sums[0 .. count)` in place, up and down a binary tree. Additions within one pass of an inner loop are independent of each
 * other: 2·log₂ n steps with n threads, fewer than 2 n additions in all.
 *
 * Source: Brent and Kung, "A regular layout for parallel adders", 1982.
 */
export const treePrefixSum = (sums: Float64Array, count: number): void => {
  let stride = 1
  for (; stride < count; stride *= 2)
    for (let i = 2 * stride - 1; i < count; i += 2 * stride) sums[i]! += sums[i - stride]!
  for (; stride >= 1; stride /= 2)
    for (let i = 3 * stride - 1; i < count; i += 2 * stride) sums[i]! += sums[i - stride]!
}

/** The first of `sums[0 .. count)`, which never fall, that is above `value`; `count` when none is. O(log n). */
export const firstAbove = (sums: Float64Array, count: number, value: number): number => {
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sums[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}
