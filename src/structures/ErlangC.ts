/**
 * Waiting in front of equal servers, for arrivals at random (Poisson) and service times of any mean that are exponential: M/M/c.
 * `load` is arrivals × mean service time, the servers that are busy on average. Times are in mean service times. O(servers).
 *
 * Source: A. K. Erlang (1917); the recursion B(n) = load·B(n−1) / (n + load·B(n−1)), which neither overflows nor cancels.
 */

/** Erlang B: the share of arrivals that find all servers busy, where those go away. It holds for service times of any distribution. */
export const erlangB = (servers: number, load: number): number => {
  let blocked = 1
  for (let n = 1; n <= servers; n++) blocked = oneMore(blocked, n, load)
  return blocked
}

/** Erlang C: the share of arrivals that wait, where all wait; 1 where there are no more servers than are busy. */
export const erlangC = (servers: number, load: number): number =>
  waiting(erlangB(servers, load), servers, load)

/** Mean wait, of those too that do not; infinite where there are no more servers than are busy. */
export const meanWait = (servers: number, load: number): number =>
  servers > load ? erlangC(servers, load) / (servers - load) : Number.POSITIVE_INFINITY

/** The share of arrivals that wait longer than `time`. */
export const waitingLonger = (servers: number, load: number, time: number): number =>
  erlangC(servers, load) * outlasting(servers, load, time)

/**
 * The least number of groups of `size` servers each with which at most the share `share` > 0 of arrivals wait longer than `time`; `max`
 * where fewer do not do. 0 without load. O(size · the number), in one pass of the recursion.
 */
export const leastGroups = (
  load: number,
  { size, time, share }: { readonly size: number; readonly time: number; readonly share: number },
  max: number
): number => {
  if (load <= 0) return 0
  if (!(load < max * size)) return max
  let blocked = 1
  let servers = 0
  for (let groups = 1; groups < max; groups++) {
    while (servers < groups * size) blocked = oneMore(blocked, ++servers, load)
    if (waiting(blocked, servers, load) * outlasting(servers, load, time) <= share) return groups
  }
  return max
}

/** Erlang B of `servers`, from that of one server less. */
const oneMore = (blocked: number, servers: number, load: number): number =>
  (load * blocked) / (servers + load * blocked)

/** Erlang C from Erlang B. */
const waiting = (blocked: number, servers: number, load: number): number =>
  servers > load ? (servers * blocked) / (servers - load * (1 - blocked)) : 1

/** The share of those who wait that wait longer than `time`. */
const outlasting = (servers: number, load: number, time: number): number =>
  servers > load ? Math.exp((load - servers) * time) : 1
