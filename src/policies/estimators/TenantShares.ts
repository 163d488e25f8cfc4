import type { RequestView } from "../../domain/RequestView.ts"
import { floats, grow } from "../../structures/grow.ts"

/** Most that is kept free for others, as a share of a bound. */
export const ROOM_KEPT = 0.3
/** What a refusal adds, as a share of what could be kept beyond what is, where the tenant was served nothing. */
const KEPT_STEP = 0.5
/** After so long what was served, and what is kept, counts half. */
const HALF_LIFE_MS = 60_000
/** As in Sheng et al.: a token of an answer is the price of two of a prompt. */
export const OUTPUT_PRICE = 2
/** How long one scale serves, which is then 0.2 % off at most. */
const SCALE_MS = 100
/** Past this everything is scaled down. */
const SCALE_MOST = 2 ** 40

/**
 * Counts what each tenant of a pool was served lately, in tokens per weight, and says how much of a bound it may fill.
 *
 * A bound counts for all tenants together. Without more, one that floods would fill it, and everybody would be refused at the same rate. So
 * a refusal has the tenants that were served more than the refused one leave a part of every bound free, in proportion to what they were
 * served. The refused tenant finds room there until it has caught up. Nothing is kept free while nobody is refused, or only the tenant that
 * was served most: who is alone has everything, at any time. Nor is it for requests that so much more room would not have let in.
 *
 * O(1); 8 bytes a tenant. Counters do not decay: what comes later counts for more, so that the greatest of them is known.
 */
export class TenantShares {
  private served = new Float64Array(0)
  /** Of the tenant that was served most. */
  private most = 0
  private scale = 1
  private scaledMs = 0
  private sinceMs = 0
  /** Share that is kept free, by the same scale. */
  private kept = 0

  /** Share of a bound that the tenant of a request may fill. */
  ceiling({ tenant }: RequestView): number {
    return this.kept === 0 ? 1 : 1 - (this.kept / this.scale) * this.shareOf(tenant)
  }

  /** Whether another tenant was served more. */
  isBehind({ tenant }: RequestView): boolean {
    return this.shareOf(tenant) < 1
  }

  /** A request was refused for want of the room that others could have left. */
  refused({ tenant }: RequestView, nowMs: number): void {
    this.rescale(nowMs)
    const more = ROOM_KEPT - this.kept / this.scale
    this.kept += KEPT_STEP * more * (1 - this.shareOf(tenant)) * this.scale
  }

  placed({ tenant, uncachedTokens, weight }: RequestView, nowMs: number): void {
    this.add(tenant, uncachedTokens / weight, nowMs)
  }

  ended({ outputTokens, tenant, weight }: RequestView, nowMs: number): void {
    this.add(tenant, (OUTPUT_PRICE * outputTokens) / weight, nowMs)
  }

  /** Of what was served to whom most was; 1 while nobody was served. */
  private shareOf(tenant: number): number {
    return this.most === 0 ? 1 : (this.served[tenant] ?? 0) / this.most
  }

  private add(tenant: number, amount: number, nowMs: number): void {
    if (tenant >= this.served.length) this.served = grow(this.served, tenant, floats)
    this.rescale(nowMs)
    const served = this.served[tenant]! + amount * this.scale
    this.served[tenant] = served
    if (served > this.most) this.most = served
  }

  private rescale(nowMs: number): void {
    if (nowMs < this.scaledMs + SCALE_MS) return
    this.scaledMs = nowMs
    this.scale = 2 ** ((nowMs - this.sinceMs) / HALF_LIFE_MS)
    if (this.scale < SCALE_MOST) return
    for (let tenant = 0; tenant < this.served.length; tenant++) this.served[tenant]! /= this.scale
    this.most /= this.scale
    this.kept /= this.scale
    this.sinceMs = nowMs
    this.scale = 1
  }
}
