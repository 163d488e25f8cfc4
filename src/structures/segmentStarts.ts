/*
 * The midpoint rule: a request goes to the worker in whose quota the middle of its cost lies, when requests and quotas are laid end to
 * end. Requests of one worker are neighbours, and its load differs from its quota by half the costs of the two requests that lie across
 * the quota's ends, at most: that holds for any order of the requests.
 *
 * `sums[0 .. count)` is the inclusive scan of the costs, `edges[0 .. workerCount)` is twice that of the quotas, rounded up; both end at
 * the same total, and the last request costs something. A middle on an edge belongs to the right.
 */

/** Where segment `worker` begins: the first request of this worker or of one after it; `count` when there is none. O(log count). */
export const segmentStart = (
  sums: Float64Array,
  count: number,
  edges: Float64Array,
  worker: number
): number => {
  if (worker === 0) return 0
  const edge = edges[worker - 1]!
  let low = 0
  let high = count
  while (low < high) {
    const middle = (low + high) >>> 1
    if (twiceMiddle(sums, middle) < edge) low = middle + 1
    else high = middle
  }
  return low
}

/**
 * Writes where segments `from` … `to` begin into `starts`; that of `workerCount` is `count`, so worker k has the requests
 * starts[k] … starts[k + 1] − 1. One merge of requests and workers: O(log count + requests + workers) of the range.
 */
export const segmentStarts = (
  sums: Float64Array,
  count: number,
  edges: Float64Array,
  from: number,
  to: number,
  starts: Int32Array
): void => {
  let at = segmentStart(sums, count, edges, from)
  starts[from] = at
  for (let worker = from + 1; worker <= to; worker++) {
    const edge = edges[worker - 1]!
    while (at < count && twiceMiddle(sums, at) < edge) at++
    starts[worker] = at
  }
}

/** Twice the sum at the middle of a request's cost. */
const twiceMiddle = (sums: Float64Array, request: number): number =>
  (request === 0 ? 0 : sums[request - 1]!) + sums[request]!
