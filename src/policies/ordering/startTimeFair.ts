import { type RequestView, TENANTS_MAX } from "../../domain/RequestView.ts"
import { DeclaredCosts } from "../DeclaredCosts.ts"
import { priceOptions } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { ArrivalQueues } from "../RequestQueues.ts"
import { TenantCounters } from "../TenantCounters.ts"

/**
 * A tenant's counter is the start tag of its next request: the finish tag of the one before, or the virtual time at which it began to
 * wait. Needs no rate of the workers, which nobody knows.
 *
 * What two tenants f and g that wait all the while were given differs by at most c_f/weight_f + c_g/weight_g per weight, c the largest
 * cost of a request of each. 45 bytes a tenant, and as many a slot.
 */
export const startTimeFair = defineOrdering(
  {
    name: "start-time-fair",
    summary:
      "Tenants share expected cost by weight: fair queuing over requests whose cost is set when they are queued.",
    definition:
      "A request costs inputPrice × its prompt tokens that no worker holds + outputPrice × the mean answer of its tenant, as known when it " +
      "was queued, and at least 1. The next request is of the waiting tenant with the least start tag, of equal ones the one whose tag moved " +
      "longest ago; among its own requests a tenant is served by arrival. Virtual time is the largest start tag given out. A tenant that " +
      "begins to wait has the larger of virtual time and its finish tag; each request given out moves its tag on by cost ÷ weight, also one " +
      "placed without waiting, and one that is requeued, or dropped before it is placed, gives that back. When nothing waits and all that was given out has ended, virtual time " +
      "is the largest finish tag.",
    cost: "O(log N)",
    source: "Goyal, Vin, Cheng, Start-time Fair Queueing, SIGCOMM 1996",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  priceOptions,
  (options) => {
    const queues = new ArrivalQueues(TENANTS_MAX)
    const costs = new DeclaredCosts(options)
    const tags = new TenantCounters()
    let virtualTime = 0
    let lastFinish = 0
    /** Requests given out and not ended. */
    let unfinished = 0
    const give = ({ slot, tenant, weight }: RequestView): void => {
      virtualTime = Math.max(virtualTime, tags.at(tenant))
      if (queues.first(tenant) < 0) tags.leave(tenant)
      tags.add(tenant, costs.pay(slot) / weight)
      unfinished++
      lastFinish = Math.max(lastFinish, tags.at(tenant))
      const down = tags.rebase()
      virtualTime -= down
      lastFinish -= down
    }
    /** Forgets a request that goes back or has ended. Returns what was paid for it. */
    const forget = (slot: number): number => {
      const paid = costs.forget(slot)
      if (paid > 0) unfinished--
      return paid
    }
    return {
      enqueue: (request, pool) => {
        queues.add(request.tenant, request, pool)
        costs.declare(request, pool)
        tags.join(request.tenant, virtualTime)
      },
      requeue: (request, pool) => {
        const { slot, tenant, weight } = request
        queues.putBack(tenant, request, pool)
        costs.declare(request, pool)
        // One that was not even placed finds the place that its tenant had.
        tags.join(tenant, costs.isTaken(slot) ? Number.NEGATIVE_INFINITY : virtualTime)
        tags.add(tenant, -forget(slot) / weight)
      },
      next: () => {
        const tenant = tags.first()
        if (tenant < 0) return -1
        const slot = queues.first(tenant)
        const request = queues.at(slot)
        queues.remove(slot)
        give(request)
        return slot
      },
      remove: (slot) => {
        const tenant = queues.queueOf(slot)
        if (!queues.remove(slot)) return false
        if (queues.first(tenant) < 0) tags.leave(tenant)
        return true
      },
      size: () => queues.size,
      placed: (request, _worker, pool) => {
        const { slot, tenant } = request
        if (!costs.isPaid(slot)) {
          costs.declare(request, pool)
          tags.join(tenant, virtualTime)
          give(request)
        }
        costs.place(slot)
      },
      ended: ({ slot, tenant, weight }) => {
        const isDropped = costs.isTaken(slot)
        const paid = forget(slot)
        if (isDropped) tags.add(tenant, -paid / weight)
        if (unfinished === 0 && queues.size === 0) virtualTime = lastFinish
      }
    }
  }
)
