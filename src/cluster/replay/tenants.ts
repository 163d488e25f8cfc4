import { sum } from "../../structures/mean.ts"

/** What came of the requests of one tenant. */
export interface TenantWork {
  readonly requests: number
  readonly done: number
  /** Of these, how many met every target. */
  readonly met: number
  /** Of done requests, prompts and answers. */
  readonly tokens: number
}

/** The same, as a report has it. */
export interface TenantFigures {
  readonly tenant: string
  readonly requests: number
  readonly done: number
  /** Null when no target was given. */
  readonly met: number | null
  /** Of the tokens of all tenants, in [0, 1]. */
  readonly tokenShare: number
}

/** Tenants that are told one by one. */
const TENANTS_MAX = 8

/** Those with the most requests first, and all others as one. None of a single tenant, whose figures are those of the replay. */
export const tenantFigures = (
  tenants: ReadonlyMap<string, TenantWork>,
  aimed: boolean
): ReadonlyArray<TenantFigures> => {
  if (tenants.size < 2) return []
  const totalOf = (of: ReadonlyArray<TenantWork>, what: keyof TenantWork): number =>
    sum(of.map((work) => work[what]))
  const all = totalOf([...tenants.values()], "tokens")
  const told = (tenant: string, of: ReadonlyArray<TenantWork>): TenantFigures => ({
    tenant,
    requests: totalOf(of, "requests"),
    done: totalOf(of, "done"),
    met: aimed ? totalOf(of, "met") : null,
    tokenShare: all === 0 ? 0 : totalOf(of, "tokens") / all
  })
  const sorted = [...tenants].toSorted(([, a], [, b]) => b.requests - a.requests)
  const others = sorted.slice(TENANTS_MAX).map(([, work]) => work)
  return [
    ...sorted.slice(0, TENANTS_MAX).map(([tenant, work]) => told(tenant, [work])),
    ...(others.length === 0 ? [] : [told("all others", others)])
  ]
}
