import { jain } from "../../structures/imbalance.ts"
import { sum } from "../../structures/mean.ts"

/** What one tenant asked for, and what of that it was served, in any one unit. */
export interface TenantDemand {
  readonly asked: number
  readonly served: number
  readonly weight: number
}

/**
 * What of all that was served would have been each tenant's, in the same order: max-min fair by weight, of which nobody has more than it
 * asked for. O(n log n).
 */
export const fairShares = (tenants: ReadonlyArray<TenantDemand>): ReadonlyArray<number> => {
  let left = sum(tenants.map(({ served }) => served))
  let weights = sum(tenants.map(({ weight }) => weight))
  let level = Number.POSITIVE_INFINITY
  for (const { asked, weight } of tenants.toSorted((a, b) => a.asked / a.weight - b.asked / b.weight)) {
    if (asked * weights >= left * weight) {
      level = left / weights
      break
    }
    left -= asked
    weights -= weight
  }
  return tenants.map(({ asked, weight }) => Math.min(asked, level * weight))
}

/**
 * Jain's index of what tenants were served over their fair shares: 1 when everybody has its share, also when one asks for little and has
 * that while another one floods and has the rest; 1 / n when one of n has all, which the others wanted as well. Of nothing at all
 * everybody has its share. NaN for one tenant, who has no others to be compared with; who asked for nothing does not count.
 *
 * Source: Jain, Durresi, Babic, Throughput Fairness Index: An Explanation, ATM Forum 99-0045, 1999; the index itself is of Jain, Chiu, Hawe,
 * DEC-TR-301, 1984.
 */
export const jainIndex = (tenants: ReadonlyArray<TenantDemand>): number => {
  const asking = tenants.filter(({ asked }) => asked > 0)
  if (asking.length < 2) return Number.NaN
  const shares = fairShares(asking)
  const parts = asking.flatMap(({ served }, i) => (shares[i]! > 0 ? served / shares[i]! : []))
  return parts.length === 0 ? 1 : jain(parts)
}
