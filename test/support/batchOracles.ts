import type { WorkerRow } from "./batches.ts"

/** Quotas and the level they come from, all as multiples of 1 / `unit`. */
export interface ExactQuotas {
  readonly unit: bigint
  readonly level: bigint
  readonly quotas: ReadonlyArray<bigint>
}

const sum = (values: ReadonlyArray<bigint>): bigint => values.reduce((total, value) => total + value, 0n)

/**
 * The quotas of a water level, by trying every height at which a worker begins to get something or is full, in whole numbers of any
 * size. Between two such heights the workers that get something are known, and one division gives the level.
 */
export const exactQuotas = (total: number, rows: ReadonlyArray<WorkerRow>): ExactQuotas => {
  const work = BigInt(total)
  const workers = rows.map(({ backlog, speed, headroom }) => ({
    backlog: BigInt(backlog),
    speed: BigInt(speed),
    // More room than there is work makes no difference.
    headroom: headroom < total ? BigInt(headroom) : work
  }))
  const at = (level: bigint, unit: bigint): ExactQuotas => ({
    unit,
    level,
    quotas: workers.map(({ backlog, speed, headroom }) => {
      const wanted = level * speed - backlog * unit
      if (wanted < 0n) return 0n
      return wanted > headroom * unit ? headroom * unit : wanted
    })
  })
  const heights = workers
    .flatMap(({ backlog, speed, headroom }) => [
      { level: backlog, unit: speed },
      { level: backlog + headroom, unit: speed }
    ])
    .toSorted((a, b) => Number(a.level * b.unit - b.level * a.unit))
    .map(({ level, unit }) => at(level, unit))
  const below = heights.findLast(({ quotas, unit }) => sum(quotas) <= work * unit)!
  if (sum(below.quotas) === work * below.unit) return below
  const open = workers.filter(({ backlog, speed, headroom }) => {
    const wanted = below.level * speed - backlog * below.unit
    return wanted >= 0n && wanted < headroom * below.unit
  })
  const full = workers.filter(
    ({ backlog, speed, headroom }) => below.level * speed >= (backlog + headroom) * below.unit
  )
  return at(
    work + sum(open.map(({ backlog }) => backlog)) - sum(full.map(({ headroom }) => headroom)),
    sum(open.map(({ speed }) => speed))
  )
}

/** Twice the sum of the quotas up to each worker, rounded up. */
export const exactEdges = ({ quotas, unit }: ExactQuotas): ReadonlyArray<number> => {
  let twice = 0n
  return quotas.map((quota) => {
    twice += 2n * quota
    return Number((twice + unit - 1n) / unit)
  })
}

/** The least time in which `count` idle workers of speed 1 do all of it, by trying every assignment that may be better. */
export const optimalMakespan = (costs: ReadonlyArray<number>, count: number): number => {
  const falling = costs.toSorted((a, b) => b - a)
  const loads = Array.from({ length: count }, () => 0)
  let best = Number.POSITIVE_INFINITY
  const assign = (next: number): void => {
    const makespan = Math.max(...loads)
    if (makespan >= best) return
    if (next === falling.length) {
      best = makespan
      return
    }
    for (let k = 0; k < count; k++) {
      // Workers with the same load are the same.
      if (loads.indexOf(loads[k]!) < k) continue
      loads[k]! += falling[next]!
      assign(next + 1)
      loads[k]! -= falling[next]!
    }
  }
  assign(0)
  return best
}

/** The same where each worker gets neighbours: parametric search over the prefix sums, `count` binary searches a probe. */
export const optimalContiguousMakespan = (costs: ReadonlyArray<number>, count: number): number => {
  const sums = costs.map((_, i) => costs.slice(0, i + 1).reduce((total, cost) => total + cost, 0))
  const reach = (bound: number): number => {
    let done = 0
    for (let k = 0; k < count; k++) {
      let [low, high] = [0, sums.length]
      while (low < high) {
        const middle = (low + high) >> 1
        if (sums[middle]! > done + bound) high = middle
        else low = middle + 1
      }
      done = sums[low - 1] ?? 0
    }
    return done
  }
  const total = sums.at(-1) ?? 0
  let [low, high] = [0, total]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (reach(middle) === total) high = middle
    else low = middle + 1
  }
  return low
}

/** How many different prefixes there are among these paths. */
export const distinctPrefixes = (paths: ReadonlyArray<ReadonlyArray<number>>): number =>
  new Set(paths.flatMap((path) => path.map((_, depth) => path.slice(0, depth + 1).join("/")))).size
