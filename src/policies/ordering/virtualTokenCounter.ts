import { TENANTS_MAX } from "../../domain/RequestView.ts"
import { priceOptions } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { ArrivalQueues } from "../RequestQueues.ts"
import { shortestOptions, shortestQueues } from "../shortestQueues.ts"
import { TenantCounters } from "../TenantCounters.ts"
import { TokenLedger } from "../TokenLedger.ts"

/**
 * The order of tenants follows the tokens they got, which is known only as they come; so a tenant's counter moves with every charge, and
 * the least one is next.
 *
 * With at most M tokens in flight (prompts and answers), prompts of at most L and U = max(outputPrice × M, inputPrice × L + outputPrice ×
 * (M − L)), the services of two tenants f and g that wait all the while differ by at most U × (1/weight_f + 1/weight_g) per weight; with
 * `predict` by (U + outputPrice × M) × the same. 45 bytes a tenant, and as many a slot.
 */
export const virtualTokenCounter = defineOrdering(
  {
    name: "virtual-token-counter",
    summary:
      "Tenants share tokens by weight, whatever their demand: the waiting tenant that got the fewest is next.",
    definition:
      "Each tenant has a counter of what it got ÷ its weight: inputPrice × the prompt tokens of a request when it is given out, all of " +
      "them until it is placed and, with charge = uncached, those expected to be computed from then on; outputPrice × output tokens as they " +
      "come, or with predict the expected ones ahead, corrected at the end. The next request is of the waiting tenant with the least " +
      "counter, of equal ones the one whose counter moved longest ago. A tenant that begins to wait has its counter raised to the least of " +
      "those that wait, or of the tenant that stopped waiting last when none does: idle time earns nothing. A request placed without " +
      "waiting counts as one that waited for no time. An attempt that ends before its first token is refunded, unless its tenant " +
      "cancelled it or let it expire. Among its own requests a tenant is served by arrival, or by expected cost as shortest-job does it, " +
      "classes first.",
    cost: "O(log N)",
    source: "Sheng et al., Fairness in Serving Large Language Models, OSDI 2024 (arXiv 2401.00588)",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    ...priceOptions,
    charge: {
      kind: "choice",
      default: "uncached",
      choices: ["uncached", "all"],
      summary:
        "The prompt tokens that are charged. Those not cached share the time of the workers; all of them share what is billed."
    },
    predict: {
      kind: "boolean",
      default: false,
      summary:
        "Charge the mean answer of the tenant when a request is given out, and correct it as tokens come: smoother while answers are alike."
    },
    within: {
      kind: "choice",
      default: "arrival",
      choices: ["arrival", "shortest"],
      summary: "Order of a tenant's own requests; outputQuantile and aging count for shortest only."
    },
    ...shortestOptions
  },
  (options) => {
    const queues =
      options.within === "arrival" ? new ArrivalQueues(TENANTS_MAX) : shortestQueues(TENANTS_MAX, options)
    const tenants = new TenantCounters()
    const ledger = new TokenLedger(options, ({ tenant, weight }, cost) => tenants.add(tenant, cost / weight))
    return {
      enqueue: (request, pool) => {
        queues.add(request.tenant, request, pool)
        tenants.join(request.tenant, tenants.least())
      },
      requeue: (request, pool) => {
        const { slot, tenant } = request
        queues.putBack(tenant, request, pool)
        // One that was not even placed finds the place that its tenant had.
        tenants.join(tenant, ledger.isTaken(slot) ? Number.NEGATIVE_INFINITY : tenants.least())
        ledger.putBack(request)
      },
      next: (pool) => {
        const tenant = tenants.first()
        if (tenant < 0) return -1
        const slot = queues.first(tenant)
        const request = queues.at(slot)
        queues.remove(slot)
        if (queues.first(tenant) < 0) tenants.leave(tenant)
        ledger.take(request, pool)
        tenants.rebase()
        return slot
      },
      remove: (slot) => {
        const tenant = queues.queueOf(slot)
        if (!queues.remove(slot)) return false
        if (queues.first(tenant) < 0) tenants.leave(tenant)
        return true
      },
      size: () => queues.size,
      placed: (request, _worker, pool) => {
        const { slot, tenant } = request
        if (ledger.isNew(slot) && queues.first(tenant) < 0) tenants.pass(tenant)
        ledger.place(request, pool)
      },
      started: (request) => ledger.start(request),
      produced: (request, tokens) => ledger.produce(request, tokens),
      ended: (request, reason) => ledger.end(request, reason)
    }
  }
)
