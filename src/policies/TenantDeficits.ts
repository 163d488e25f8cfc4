import { TENANTS_MAX } from "../domain/RequestView.ts"
import { Heaps } from "../structures/Heaps.ts"

const ALL = 0

/**
 * What tenants may still be given before others must be. A round gives each tenant `quantum` × its weight ÷ the largest weight seen, at
 * least 1, and begins when no tenant that waits has anything left; nobody has more than one such share.
 *
 * A deficit is worked out when it is looked at, so rounds cost idle tenants nothing, and tenants in debt stand in a heap by the round in
 * which they are out of it. O(log n) in the tenants that wait, amortized over what they spend. 66 bytes a tenant.
 */
export class TenantDeficits {
  round = 0
  private readonly quantum: number
  private readonly weight = new Float64Array(TENANTS_MAX)
  private weightMax = 0
  private readonly deficit = new Float64Array(TENANTS_MAX)
  /** The round up to which a deficit was refilled: before all of them for a tenant not seen yet, which so has its share. */
  private readonly filledIn = new Float64Array(TENANTS_MAX).fill(Number.NEGATIVE_INFINITY)
  /** Of tenants in debt that wait, the round in which they are out of it. */
  private readonly freeIn = new Float64Array(TENANTS_MAX)
  /** Tenants that wait. */
  private readonly able: Heaps
  private readonly indebted = new Heaps(1, (a, b) => this.freeIn[a]! < this.freeIn[b]!)

  /** `before(a, b)` says which of two tenants that wait goes first when both may. */
  constructor(quantum: number, before: (a: number, b: number) => boolean) {
    this.quantum = quantum
    this.able = new Heaps(1, before)
  }

  know(tenant: number, weight: number): void {
    this.weight[tenant] = weight
    if (weight > this.weightMax) this.weightMax = weight
  }

  /** The part of a known tenant in `quantum`. */
  shareOf(tenant: number, quantum: number): number {
    return Math.max(1, (quantum * this.weight[tenant]!) / this.weightMax)
  }

  /** The tenant that goes first of those that wait with something left; -1 when none waits. Begins rounds where it must. */
  first(): number {
    while (this.able.first(ALL) < 0) {
      if (this.indebted.first(ALL) < 0) return -1
      this.begin(this.freeIn[this.indebted.first(ALL)]!)
    }
    return this.able.first(ALL)
  }

  /** Puts a tenant where it belongs, after it has begun or ceased to wait, or what orders it has changed. */
  stand(tenant: number, waits: boolean): void {
    this.able.remove(tenant)
    this.indebted.remove(tenant)
    if (!waits) return
    const deficit = this.refilled(tenant)
    // Beyond 2⁵³ rounds there is no next one to wait for.
    if (deficit > 0 || this.round + 1 === this.round) return this.able.insert(ALL, tenant)
    this.freeIn[tenant] = this.round + Math.floor(-deficit / this.shareOf(tenant, this.quantum)) + 1
    this.indebted.insert(ALL, tenant)
  }

  /** Has a tenant wait for no time, while nobody else does: rounds begin until it has something left. */
  pass(tenant: number, weight: number): void {
    this.know(tenant, weight)
    this.stand(tenant, true)
    this.first()
    this.stand(tenant, false)
  }

  /** Takes `cost` off what a tenant has left; adds it when it is below 0. */
  spend(tenant: number, cost: number): void {
    const left = this.refilled(tenant) - cost
    this.deficit[tenant] = left
    const wasAble = this.able.heapOf(tenant) === ALL
    if (wasAble ? left <= 0 : this.indebted.heapOf(tenant) === ALL) this.stand(tenant, true)
  }

  private begin(round: number): void {
    this.round = round
    for (
      let tenant = this.indebted.first(ALL);
      tenant >= 0 && this.freeIn[tenant]! <= round;
      tenant = this.indebted.first(ALL)
    )
      this.stand(tenant, true)
  }

  private refilled(tenant: number): number {
    const share = this.shareOf(tenant, this.quantum)
    const rounds = this.round - this.filledIn[tenant]!
    if (rounds > 0) this.deficit[tenant] = Math.min(share, this.deficit[tenant]! + rounds * share)
    this.filledIn[tenant] = this.round
    return this.deficit[tenant]!
  }
}
