import { TENANTS_MAX } from "../../domain/RequestView.ts"
import { assert } from "../../structures/assert.ts"
import { DecayingHistograms } from "../../structures/DecayingHistograms.ts"
import { grow } from "../../structures/grow.ts"
import { SlotLists } from "../../structures/SlotLists.ts"

/** Requests of a tenant that weigh as much as the experience with all others together. */
const BACKOFF_REQUESTS = 16
/** Row of the whole pool, which every request counts in; before any it holds as many values as this, spread exponentially. */
const POOL = 0
const PRIOR_REQUESTS = 8

export interface OutputLengthsOptions {
  /** After this time an observation counts half. */
  readonly halfLifeMs?: number
  /** Tenants with a histogram of their own: those that had a request end last. The others have the pool's. */
  readonly tenantsMax?: number
  /** Mean output length expected of a pool that has not seen any. */
  readonly priorTokens?: number
}

/**
 * How long answers are, by tenant, for one pool (so for one model), learned from the requests that were done.
 *
 * A tenant's lengths are mixed with the pool's as if it had sent 16 requests like those; the pool's begin as 8 spread exponentially
 * about `priorTokens`. Quantiles are within 1/32 of the exact ones of that mixture, exact below 32 tokens. Memory: 3.4 KB for each of
 * `tenantsMax`, 4 bytes for each tenant seen. Answers cut off at a tenant's own maximum count as they came.
 */
export class OutputLengths {
  private readonly histograms: DecayingHistograms
  private readonly tenantsMax: number
  private rowsUsed = 1
  /** By tenant: its row, 0 for none. By row: its tenant. */
  private rowOf = new Uint16Array(0)
  private readonly tenantOf: Uint16Array
  /** Rows of tenants, least lately used first. */
  private readonly byUse = new SlotLists(1)

  constructor({ halfLifeMs = 3_600_000, tenantsMax = 256, priorTokens = 256 }: OutputLengthsOptions = {}) {
    assert(tenantsMax >= 1 && tenantsMax <= TENANTS_MAX, "some tenants have a histogram, at most all")
    this.tenantsMax = tenantsMax
    this.tenantOf = new Uint16Array(tenantsMax + 1)
    this.histograms = new DecayingHistograms(tenantsMax + 1, halfLifeMs)
    for (let i = 0; i < PRIOR_REQUESTS; i++)
      this.histograms.record(POOL, -priorTokens * Math.log(1 - (i + 0.5) / PRIOR_REQUESTS))
  }

  /** A request of `tenant` was done after `tokens` ≥ 0 tokens. */
  record(tenant: number, tokens: number, nowMs: number): void {
    this.histograms.advance(nowMs)
    this.histograms.record(POOL, tokens)
    this.histograms.record(this.use(tenant), tokens)
  }

  /** Length that a share `q` in [0, 1] of the tenant's answers does not exceed: a whole number from 1 to `maxTokens`. O(1). */
  quantile(tenant: number, q: number, maxTokens: number): number {
    const length = Math.floor(this.histograms.quantile(this.rowOf[tenant] ?? POOL, q, POOL, BACKOFF_REQUESTS))
    return Math.min(Math.max(1, length), maxTokens)
  }

  /** Mean length of the tenant's answers, from 1 to `maxTokens`. O(1). */
  mean(tenant: number, maxTokens: number): number {
    const length = this.histograms.mean(this.rowOf[tenant] ?? POOL, POOL, BACKOFF_REQUESTS)
    return Math.min(Math.max(1, length), maxTokens)
  }

  /** The row of a tenant, which it has from now on: the least lately used when none is free. */
  private use(tenant: number): number {
    assert(tenant < TENANTS_MAX, "tenants are below 16 384")
    if (tenant >= this.rowOf.length)
      this.rowOf = grow(this.rowOf, tenant, (length) => new Uint16Array(length))
    let row = this.rowOf[tenant]!
    if (row === 0) {
      row = this.rowsUsed <= this.tenantsMax ? this.rowsUsed++ : this.evict()
      this.rowOf[tenant] = row
      this.tenantOf[row] = tenant
    }
    if (this.byUse.last(0) === row) return row
    this.byUse.remove(row)
    this.byUse.pushBack(0, row)
    return row
  }

  private evict(): number {
    const row = this.byUse.first(0)
    this.rowOf[this.tenantOf[row]!] = 0
    this.histograms.clear(row)
    return row
  }
}
