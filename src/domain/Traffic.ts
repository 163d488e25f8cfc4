import { quantile } from "../structures/nearestRank.ts"
import type { Trace } from "./Trace.ts"

/** What matters of some traffic, and of who is to serve it, for the choice of policies. */
export interface TrafficSummary {
  /** Null where all came at one moment. */
  readonly requestsPerSecond: number | null
  readonly meanPromptTokens: number
  readonly promptTokensP99: number
  /** Standard deviation over mean of prompt lengths. */
  readonly promptVariation: number
  readonly meanOutputTokens: number
  /** Share of the prompt tokens that came before, at the head of an earlier prompt of the same tenant. */
  readonly repeatedShare: number
  readonly tenants: number
  /** Share of all tokens that the largest tenant sent or got. */
  readonly largestTenantShare: number
  readonly models: number
}

/** Sums up a trace. O(blocks). */
export const summarize = ({ header, requests }: Trace): TrafficSummary => {
  const blockTokens = header.blockSize ?? 0
  const seen = new Set<string>()
  const tokensOf = new Map<string, number>()
  const models = new Set<string | undefined>()
  let prompts = 0
  let squares = 0
  let outputs = 0
  let repeated = 0
  for (const { blocks, model, outputTokens, promptTokens, tenant = "default" } of requests) {
    prompts += promptTokens
    squares += promptTokens * promptTokens
    outputs += outputTokens
    models.add(model)
    tokensOf.set(tenant, (tokensOf.get(tenant) ?? 0) + promptTokens + outputTokens)
    let known = 0
    for (const block of blocks) {
      const key = `${tenant}/${block}`
      if (!seen.has(key)) break
      known++
    }
    for (const block of blocks) seen.add(`${tenant}/${block}`)
    repeated += Math.min(known * blockTokens, promptTokens)
  }
  const count = Math.max(1, requests.length)
  const mean = prompts / count
  const spanMs = (requests.at(-1)?.arrivalMs ?? 0) - (requests[0]?.arrivalMs ?? 0)
  const byLength = requests.map(({ promptTokens }) => promptTokens).toSorted((a, b) => a - b)
  return {
    requestsPerSecond: spanMs > 0 ? (1000 * (requests.length - 1)) / spanMs : null,
    meanPromptTokens: mean,
    promptTokensP99: requests.length === 0 ? 0 : quantile(byLength, 0.99),
    promptVariation: mean === 0 ? 0 : Math.sqrt(Math.max(0, squares / count - mean * mean)) / mean,
    meanOutputTokens: outputs / count,
    repeatedShare: prompts === 0 ? 0 : repeated / prompts,
    tenants: tokensOf.size,
    largestTenantShare: Math.max(0, ...tokensOf.values()) / Math.max(1, prompts + outputs),
    models: models.size
  }
}
