import { TENANTS_MAX } from "../domain/RequestView.ts"
import { floats } from "../structures/grow.ts"
import { Heaps } from "../structures/Heaps.ts"

/** Counters are brought down by multiples of this, which keeps them exact: a power of two, so that no difference changes. */
const REBASE = 2 ** 20

const ALL = 0

/**
 * What tenants were served, per weight, and which of those that wait was served least. Of equal ones the first is the one whose counter
 * moved longest ago. O(log n) in the tenants that wait; one that does not wait costs nothing. 33 bytes a tenant.
 */
export class TenantCounters {
  private readonly counters = floats(TENANTS_MAX)
  private readonly movedAt = floats(TENANTS_MAX)
  private moves = 0
  /** The tenant that stopped waiting last. */
  private last = 0
  private readonly waiting = new Heaps(1, (a, b) => {
    const { counters, movedAt } = this
    return counters[a] === counters[b] ? movedAt[a]! < movedAt[b]! : counters[a]! < counters[b]!
  })

  /** The waiting tenant that was served least, or -1 when none waits. */
  first(): number {
    return this.waiting.first(ALL)
  }

  at(tenant: number): number {
    return this.counters[tenant]!
  }

  /** The least counter of those that wait; that of the tenant that stopped last when none does. */
  least(): number {
    const first = this.first()
    return this.at(first < 0 ? this.last : first)
  }

  /** Has a tenant wait, if it does not yet, with a counter of `least` or more: what it let pass is gone. */
  join(tenant: number, least: number): void {
    if (this.waiting.heapOf(tenant) >= 0) return
    this.raise(tenant, least)
    this.waiting.insert(ALL, tenant)
  }

  leave(tenant: number): void {
    if (this.waiting.remove(tenant)) this.last = tenant
  }

  /** A tenant that does not wait joins at the least counter, and leaves at once. */
  pass(tenant: number): void {
    this.raise(tenant, this.least())
    this.last = tenant
  }

  private raise(tenant: number, least: number): void {
    if (this.counters[tenant]! < least) this.counters[tenant] = least
    this.movedAt[tenant] = ++this.moves
  }

  add(tenant: number, amount: number): void {
    this.counters[tenant]! += amount
    if (this.waiting.heapOf(tenant) < 0) return
    this.movedAt[tenant] = ++this.moves
    this.waiting.update(tenant)
  }

  /**
   * Brings every counter down when those that wait have come far, and says by how much. Differences stay, but for counters below that
   * amount, which no tenant that waits or begins to has. O(tenants there can be), once in 2²⁰ of what is counted.
   */
  rebase(): number {
    const down = Math.floor(this.least() / REBASE) * REBASE
    if (down > 0) for (let tenant = 0; tenant < TENANTS_MAX; tenant++) this.counters[tenant]! -= down
    return Math.max(0, down)
  }
}
