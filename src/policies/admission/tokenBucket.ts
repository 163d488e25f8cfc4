import { Reason } from "../../domain/Outcome.ts"
import type { PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { bytes, floats, grow } from "../../structures/grow.ts"
import { defineAdmission } from "../Admission.ts"
import { retryAfterMs, retryAfterRule } from "../retryAfter.ts"

/**
 * A rate for each tenant, in tokens. The whole bucket is one number: when it would be full again if nothing more came (GCRA's
 * theoretical arrival time). Memory: 8 bytes a tenant, 9 bytes a request slot.
 */
export const tokenBucket = defineAdmission(
  {
    name: "token-bucket",
    summary:
      "A rate in tokens for each tenant, so that none takes more than was agreed, however it cuts its requests.",
    definition:
      "Each tenant has a bucket of burst × weight tokens that fills at rate × weight a second. A request costs its prompt and the mean " +
      "length of the tenant's answers. It is let in when the bucket holds as much, or is full: a larger request than burst waits for that " +
      "and leaves a debt. When it ends the cost is settled: its prompt if it was placed, and the tokens it produced; what was charged " +
      "beyond that goes back, never more than was charged, and what was charged too little is taken. Otherwise rejects with " +
      `rate_limited. Retry-after is the time until the bucket holds enough, ${retryAfterRule}. In any time T a tenant's charges less ` +
      "what went back are at most rate × weight × T + burst × weight, or one request where that costs more.",
    cost: "O(1)",
    source:
      "generic cell rate algorithm, ITU-T I.371; settling as in smg, model_gateway/src/rate_limit/reservation.rs",
    stability: "stable",
    uses: ["forecast"]
  },
  {
    rate: {
      kind: "number",
      default: 100_000,
      minimum: 1,
      unit: "tokens/s",
      summary: "Tokens a second, prompt and answer, that a tenant of weight 1 may use. Larger admits more."
    },
    burst: {
      kind: "number",
      default: 1_000_000,
      minimum: 1,
      unit: "tokens",
      summary:
        "Tokens that a tenant of weight 1 may use at once after a rest. Larger lets bursts pass, and lasts longer against the rate."
    }
  },
  ({ rate, burst }, rng) => {
    const burstMs = (burst / rate) * 1000
    const msOf = (tokens: number, { weight }: RequestView): number => (tokens / (rate * weight)) * 1000
    const costOf = (request: RequestView, pool: PoolView): number =>
      request.promptTokens + pool.forecast.meanOutputTokens(request)
    /** By tenant: when its bucket is full. */
    let fullAtMs = new Float64Array(0)
    /** By slot: tokens charged for the request, 0 when there are none to settle; and whether it was placed. */
    let charges = new Float64Array(0)
    let placed = new Uint8Array(0)
    return {
      decide: (request, pool, _queue, nowMs) => {
        const emptyMs = (fullAtMs[request.tenant] ?? 0) - nowMs
        if (emptyMs <= 0) return null
        const lackMs = emptyMs + msOf(costOf(request, pool), request) - burstMs
        if (lackMs <= 0) return null
        return { reason: Reason.rateLimited, retryAfterMs: retryAfterMs(Math.min(lackMs, emptyMs), rng) }
      },
      admitted: (request, pool, nowMs) => {
        const { slot, tenant } = request
        if (tenant >= fullAtMs.length) fullAtMs = grow(fullAtMs, tenant, floats)
        if (slot >= charges.length) {
          charges = grow(charges, slot, floats)
          placed = grow(placed, slot, bytes)
        }
        const cost = costOf(request, pool)
        charges[slot] = cost
        placed[slot] = 0
        fullAtMs[tenant] = Math.max(fullAtMs[tenant]!, nowMs) + msOf(cost, request)
      },
      placed: ({ slot }) => {
        if (slot < placed.length) placed[slot] = 1
      },
      ended: (request) => {
        const { slot, tenant, promptTokens, outputTokens } = request
        const charge = charges[slot] ?? 0
        if (charge === 0) return
        charges[slot] = 0
        const used = (placed[slot] === 1 ? promptTokens : 0) + outputTokens
        fullAtMs[tenant]! += msOf(used - charge, request)
      }
    }
  }
)
