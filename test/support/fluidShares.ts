/** A request of a single worker that gives it `cost` units of time. */
export interface TimedArrival {
  readonly tenant: number
  readonly atMs: number
  readonly cost: number
}

/**
 * When each request would end if the worker could be shared without limit: at any moment the tenants that have work get it in proportion to
 * their weights, and each serves its own requests in order. Arrivals by `atMs`; the worker does one unit of cost in a ms.
 *
 * Source: generalized processor sharing; Parekh and Gallager, IEEE/ACM ToN 1(3), 1993.
 */
export const fluidEndsMs = (
  arrivals: ReadonlyArray<TimedArrival>,
  weights: ReadonlyArray<number>
): ReadonlyArray<number> => {
  const endsMs = arrivals.map(() => Number.NaN)
  const left = arrivals.map(({ cost }) => cost)
  const waiting: Array<Array<number>> = weights.map(() => [])
  let arrived = 0
  let nowMs = 0
  for (;;) {
    const busy = weights.map((_, tenant) => tenant).filter((tenant) => waiting[tenant]!.length > 0)
    const total = busy.reduce((sum, tenant) => sum + weights[tenant]!, 0)
    const ends = busy.map((tenant) => ({
      tenant,
      afterMs: (left[waiting[tenant]![0]!]! * total) / weights[tenant]!
    }))
    const next = ends.toSorted((a, b) => a.afterMs - b.afterMs)[0]
    const arrivesMs = arrivals[arrived]?.atMs ?? Number.POSITIVE_INFINITY
    if (next === undefined && arrived === arrivals.length) return endsMs
    const untilMs = Math.min(arrivesMs, nowMs + (next?.afterMs ?? Number.POSITIVE_INFINITY))
    for (const tenant of busy) left[waiting[tenant]![0]!]! -= ((untilMs - nowMs) * weights[tenant]!) / total
    nowMs = untilMs
    if (untilMs === arrivesMs) {
      waiting[arrivals[arrived]!.tenant]!.push(arrived)
      arrived++
    } else endsMs[waiting[next!.tenant]!.shift()!] = nowMs
  }
}

/**
 * When each request of a tenant would begin on a worker of its own that runs at the tenant's share of the real one, whoever else is there.
 *
 * Source: expected arrival time; Goyal, Vin, Cheng, Start-time Fair Queueing, SIGCOMM 1996.
 */
export const reservedStartsMs = (
  arrivals: ReadonlyArray<TimedArrival>,
  weights: ReadonlyArray<number>
): ReadonlyArray<number> => {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const freeMs = weights.map(() => 0)
  return arrivals.map(({ atMs, cost, tenant }) => {
    const startMs = Math.max(atMs, freeMs[tenant]!)
    freeMs[tenant] = startMs + (cost * total) / weights[tenant]!
    return startMs
  })
}
