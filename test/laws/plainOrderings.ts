import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Ordering } from "../../src/policies/Ordering.ts"
import { assert } from "../../src/structures/assert.ts"
import type { Tariff } from "./fairnessLaws.ts"

/*
 * Orderings over plain arrays: slow, and short enough to be seen to be right. Laws are tried on them whole, and with one part broken. The
 * parts are options, so that a broken one stands alone.
 */

/** What is remembered of a queued request. */
export interface Row {
  readonly slot: number
  readonly tenant: number
  readonly weight: number
  readonly class: number
  readonly promptTokens: number
  readonly maxTokens: number
  readonly arrivedMs: number
  readonly deadlineMs: number
}

/** Queued requests by arrival. */
class Rows {
  all: Array<Row> = []

  add({ ...facts }: RequestView, back = false): void {
    const behind = this.all.findIndex(({ arrivedMs }) =>
      back ? arrivedMs >= facts.arrivedMs : arrivedMs > facts.arrivedMs
    )
    this.all.splice(behind < 0 ? this.all.length : behind, 0, facts)
  }

  of(tenant: number): ReadonlyArray<Row> {
    return this.all.filter((row) => row.tenant === tenant)
  }

  tenants(): ReadonlyArray<number> {
    return [...new Set(this.all.map(({ tenant }) => tenant))]
  }

  take(slot: number): Row | undefined {
    const row = this.all.find((each) => each.slot === slot)
    this.all = this.all.filter((each) => each !== row)
    return row
  }
}

const least = <Value>(values: ReadonlyArray<Value>, key: (value: Value) => number): Value | undefined =>
  values.toSorted((a, b) => key(a) - key(b))[0]

/** `arrival`; a defect replaces one of its operations. */
export const plainArrival = (defect: (queue: Array<Row>) => Partial<Ordering> = () => ({})): Ordering => {
  const queue: Array<Row> = []
  const add = ({ ...row }: RequestView): void => {
    assert(row.slot < 65_536, "slots are below 65 536")
    assert(!queue.some(({ slot }) => slot === row.slot), "a slot is queued once")
    queue.push(row)
    queue.sort((a, b) => a.arrivedMs - b.arrivedMs)
  }
  return {
    enqueue: add,
    requeue: add,
    next: () => queue.shift()?.slot ?? -1,
    remove: (slot) => {
      const at = queue.findIndex((queued) => queued.slot === slot)
      if (at >= 0) queue.splice(at, 1)
      return at >= 0
    },
    size: () => queue.length,
    ...defect(queue)
  }
}

/** The least key is next, worked out at each decision; then by arrival. */
export const plainByKey = (key: (row: Row, pool: PoolView, nowMs: number) => number): Ordering => {
  const rows = new Rows()
  return {
    enqueue: (request) => rows.add(request),
    requeue: (request) => rows.add(request, true),
    next: (pool, nowMs) => {
      const slot = least(rows.all, (row) => key(row, pool, nowMs))?.slot ?? -1
      rows.take(slot)
      return slot
    },
    remove: (slot) => rows.take(slot) !== undefined,
    size: () => rows.all.length
  }
}

const rightCounters = {
  lift: (own: number, waiting: ReadonlyArray<number>, last: number): number =>
    Math.max(own, waiting.length === 0 ? last : Math.min(...waiting)),
  liftAtOnce: true,
  perWeight: (cost: number, weight: number): number => cost / weight,
  refunds: 1,
  outputs: 1,
  tie: (_tenant: number, movedAt: number): number => movedAt,
  /** What to bring the counters down by: numbers are exact here without. */
  rebase: (_counters: Map<number, number>, _waiting: ReadonlyArray<number>): void => {}
}

/** `virtual-token-counter` with charge = uncached. */
export const plainCounters = (
  { inputPrice, outputPrice }: Tariff,
  parts: Partial<typeof rightCounters> = {}
): Ordering => {
  const { lift, liftAtOnce, outputs, perWeight, rebase, refunds, tie } = { ...rightCounters, ...parts }
  const rows = new Rows()
  const counters = new Map<number, number>()
  const movedAt = new Map<number, number>()
  /** By slot, what was paid for the prompt, and whether the request was placed, and has started. */
  const paid = new Map<number, { cost: number; placed: boolean; started: boolean }>()
  let moves = 0
  let last = 0
  const at = (tenant: number): number => counters.get(tenant) ?? 0
  const move = (tenant: number): void => void movedAt.set(tenant, ++moves)
  const charge = ({ tenant, weight }: RequestView | Row, cost: number): void => {
    if (cost === 0) return
    counters.set(tenant, at(tenant) + perWeight(cost, weight))
    if (rows.of(tenant).length > 0) move(tenant)
  }
  const raise = (tenant: number): void =>
    void counters.set(tenant, lift(at(tenant), rows.tenants().map(at), at(last)))
  const left = (tenant: number): void => {
    if (rows.of(tenant).length === 0) last = tenant
  }
  return {
    enqueue: (request) => {
      if (rows.of(request.tenant).length === 0) {
        raise(request.tenant)
        move(request.tenant)
      }
      rows.add(request)
    },
    requeue: (request) => {
      const was = paid.get(request.slot)
      if (rows.of(request.tenant).length === 0) {
        if (was === undefined || was.placed) raise(request.tenant)
        move(request.tenant)
      }
      rows.add(request, true)
      charge(request, -(was?.cost ?? 0) * refunds)
      paid.delete(request.slot)
    },
    next: () => {
      const tenants = rows.tenants().toSorted((a, b) => tie(a, movedAt.get(a)!) - tie(b, movedAt.get(b)!))
      const tenant = least(tenants, at)
      if (tenant === undefined) return -1
      const row = rows.of(tenant)[0]!
      rows.take(row.slot)
      left(tenant)
      const cost = inputPrice * row.promptTokens
      charge(row, cost)
      rebase(counters, rows.tenants())
      paid.set(row.slot, { cost, placed: false, started: false })
      return row.slot
    },
    remove: (slot) => {
      const row = rows.take(slot)
      if (row !== undefined) left(row.tenant)
      return row !== undefined
    },
    size: () => rows.all.length,
    placed: (request) => {
      const was = paid.get(request.slot)
      if (was === undefined && rows.of(request.tenant).length === 0 && liftAtOnce) {
        raise(request.tenant)
        last = request.tenant
      }
      if (was?.started === true) return
      const cost = inputPrice * request.uncachedTokens
      charge(request, cost - (was?.cost ?? 0))
      paid.set(request.slot, { cost, placed: true, started: false })
    },
    started: ({ slot }) => void paid.set(slot, { ...paid.get(slot)!, started: true }),
    produced: (request, tokens) => charge(request, outputPrice * tokens * outputs),
    ended: ({ slot }) => void paid.delete(slot)
  }
}

/** What a request is declared to cost, in the pools of these tests. */
const declaredCost = (
  { maxTokens, promptTokens }: Row | RequestView,
  { inputPrice, outputPrice }: Tariff
): number => Math.max(1, inputPrice * promptTokens + outputPrice * Math.ceil(maxTokens / 2))

const rightTags = {
  lift: (own: number, virtualTime: number): number => Math.max(own, virtualTime),
  perWeight: (cost: number, weight: number): number => cost / weight,
  /** Virtual time once all work has ended. */
  atRest: (_virtualTime: number, lastFinish: number): number => lastFinish
}

/** `start-time-fair`. */
export const plainTags = (tariff: Tariff, parts: Partial<typeof rightTags> = {}): Ordering => {
  const { atRest, lift, perWeight } = { ...rightTags, ...parts }
  const rows = new Rows()
  const tags = new Map<number, number>()
  const movedAt = new Map<number, number>()
  /** The slots given out and not ended: whether they are still to be placed. */
  const taken = new Map<number, boolean>()
  let virtualTime = 0
  let lastFinish = 0
  let moves = 0
  const join = (tenant: number, isTaken = false): void => {
    if (rows.of(tenant).length > 0) return
    if (!isTaken) tags.set(tenant, lift(tags.get(tenant) ?? 0, virtualTime))
    movedAt.set(tenant, ++moves)
  }
  const move = (request: Row | RequestView, sign: number): void => {
    const { tenant, weight } = request
    tags.set(tenant, tags.get(tenant)! + sign * perWeight(declaredCost(request, tariff), weight))
    if (rows.of(tenant).length > 0) movedAt.set(tenant, ++moves)
  }
  const give = (request: Row | RequestView): void => {
    virtualTime = Math.max(virtualTime, tags.get(request.tenant)!)
    move(request, 1)
    lastFinish = Math.max(lastFinish, tags.get(request.tenant)!)
    taken.set(request.slot, true)
  }
  return {
    enqueue: (request) => {
      join(request.tenant)
      rows.add(request)
    },
    requeue: (request) => {
      join(request.tenant, taken.get(request.slot))
      rows.add(request, true)
      if (taken.delete(request.slot)) move(request, -1)
    },
    next: () => {
      const tenants = rows.tenants().toSorted((a, b) => movedAt.get(a)! - movedAt.get(b)!)
      const tenant = least(tenants, (each) => tags.get(each)!)
      if (tenant === undefined) return -1
      const row = rows.of(tenant)[0]!
      rows.take(row.slot)
      give(row)
      return row.slot
    },
    remove: (slot) => rows.take(slot) !== undefined,
    size: () => rows.all.length,
    placed: (request) => {
      if (!taken.has(request.slot)) {
        join(request.tenant)
        give(request)
      }
      taken.set(request.slot, false)
    },
    ended: (request) => {
      const isDropped = taken.get(request.slot) === true
      taken.delete(request.slot)
      if (isDropped) move(request, -1)
      if (taken.size === 0 && rows.all.length === 0) virtualTime = atRest(virtualTime, lastFinish)
    }
  }
}

const rightTurns = {
  /** What of a deficit a tenant has that begins to wait. */
  kept: (_deficit: number): number => 0,
  costOf: declaredCost
}

/** `deficit-round-robin`, walking every round. */
export const plainTurns = (tariff: Tariff, parts: Partial<typeof rightTurns> = {}): Ordering => {
  const { costOf, kept } = { ...rightTurns, ...parts }
  const rows = new Rows()
  let ring: Array<{ readonly tenant: number; granted: boolean }> = []
  const deficits = new Map<number, number>()
  let weightMax = 0
  /** What was paid for those that are still to be placed. */
  const taken = new Map<number, number>()
  const add = (tenant: number, amount: number): void =>
    void deficits.set(tenant, (deficits.get(tenant) ?? 0) + amount)
  const leave = (tenant: number): void => {
    if (rows.of(tenant).length === 0) ring = ring.filter((each) => each.tenant !== tenant)
  }
  return {
    enqueue: (request) => {
      const { tenant, weight } = request
      weightMax = Math.max(weightMax, weight)
      if (rows.of(tenant).length === 0) {
        deficits.set(tenant, kept(deficits.get(tenant) ?? 0))
        ring.push({ tenant, granted: false })
      }
      rows.add(request)
    },
    requeue: (request) => {
      const { tenant } = request
      if (rows.of(tenant).length === 0) ring.unshift({ tenant, granted: true })
      rows.add(request, true)
      add(tenant, costOf(request, tariff))
      taken.delete(request.slot)
    },
    next: () => {
      while (ring.length > 0) {
        const turn = ring[0]!
        const row = rows.of(turn.tenant)[0]!
        if (!turn.granted) add(turn.tenant, Math.max(1, (tariff.quantum * row.weight) / weightMax))
        turn.granted = true
        const cost = costOf(row, tariff)
        if (cost <= deficits.get(turn.tenant)!) {
          add(turn.tenant, -cost)
          rows.take(row.slot)
          taken.set(row.slot, cost)
          leave(turn.tenant)
          return row.slot
        }
        ring.push({ ...ring.shift()!, granted: false })
      }
      return -1
    },
    remove: (slot) => {
      const row = rows.take(slot)
      if (row !== undefined) leave(row.tenant)
      return row !== undefined
    },
    size: () => rows.all.length,
    placed: ({ slot, weight }) => {
      weightMax = Math.max(weightMax, weight)
      taken.delete(slot)
    },
    ended: ({ slot, tenant }) => {
      if (rows.of(tenant).length > 0) add(tenant, taken.get(slot) ?? 0)
      taken.delete(slot)
    }
  }
}

const rightDeficits = { cap: (filled: number, share: number): number => Math.min(filled, share) }

/** `prefix-fair` where no prefix is held. */
export const plainDeficits = (
  { inputPrice, outputPrice, quantum }: Tariff,
  parts: Partial<typeof rightDeficits> = {}
): Ordering => {
  const { cap } = { ...rightDeficits, ...parts }
  const rows = new Rows()
  /** Of every tenant heard of. */
  const deficits = new Map<number, { left: number; weight: number }>()
  const paid = new Map<number, number>()
  const know = ({ tenant, weight }: RequestView): void => {
    if (!deficits.has(tenant)) deficits.set(tenant, { left: shareOf(weight), weight })
  }
  const shareOf = (weight: number): number => {
    const weights = [...deficits.values()].map((each) => each.weight)
    return Math.max(1, (quantum * weight) / Math.max(weight, ...weights))
  }
  const pay = (tenant: number, cost: number): void => void (deficits.get(tenant)!.left -= cost)
  const isAble = (tenant: number): boolean => deficits.get(tenant)!.left > 0
  const beginRound = (): void => {
    for (const each of deficits.values()) {
      const share = shareOf(each.weight)
      each.left = cap(each.left + share, share)
    }
  }
  return {
    enqueue: (request) => {
      know(request)
      rows.add(request)
    },
    requeue: (request) => {
      rows.add(request, true)
      pay(request.tenant, -(paid.get(request.slot) ?? 0))
      paid.delete(request.slot)
    },
    next: () => {
      if (rows.all.length === 0) return -1
      const ableRow = (): Row | undefined => rows.all.find(({ tenant }) => isAble(tenant))
      while (ableRow() === undefined) beginRound()
      const { slot, tenant, promptTokens } = ableRow()!
      rows.take(slot)
      paid.set(slot, inputPrice * promptTokens)
      pay(tenant, inputPrice * promptTokens)
      return slot
    },
    remove: (slot) => rows.take(slot) !== undefined,
    size: () => rows.all.length,
    placed: (request) => {
      know(request)
      if (!paid.has(request.slot) && rows.all.length === 0) while (!isAble(request.tenant)) beginRound()
      const cost = inputPrice * request.uncachedTokens
      pay(request.tenant, cost - (paid.get(request.slot) ?? 0))
      paid.set(request.slot, cost)
    },
    produced: ({ tenant }, tokens) => pay(tenant, outputPrice * tokens),
    ended: ({ slot }) => void paid.delete(slot)
  }
}
