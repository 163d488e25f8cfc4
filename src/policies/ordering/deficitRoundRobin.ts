import { type RequestView, TENANTS_MAX } from "../../domain/RequestView.ts"
import { SlotLists } from "../../structures/SlotLists.ts"
import { DeclaredCosts } from "../DeclaredCosts.ts"
import { priceOptions } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { ArrivalQueues } from "../RequestQueues.ts"

/** The one ring of tenants that wait; its front has the turn. */
const RING = 0
const NONE = -1

/**
 * What two tenants f and g that wait all the while were given differs by at most quantum + c_f/weight_f + c_g/weight_g per weight, where
 * weights are relative to the largest and c is the largest cost of a request of each. 33 bytes a tenant, 45 a slot.
 */
export const deficitRoundRobin = defineOrdering(
  {
    name: "deficit-round-robin",
    summary:
      "Tenants take turns, each worth a quantum of expected cost by weight: fair over rounds, at a constant cost.",
    definition:
      "A request costs inputPrice × its prompt tokens that no worker holds + outputPrice × the mean answer of its tenant, as known when it " +
      "was queued, and at least 1. Tenants that wait stand in a ring, new ones at its end. A turn adds quantum × weight ÷ the largest weight " +
      "seen (at least 1) to the tenant's deficit; while that covers the tenant's first request by arrival, the request is next and its cost is " +
      "taken off; then the turn passes on. A tenant that begins to wait has a deficit of 0. What a requeued request cost is given back, and " +
      "its tenant, if it does not wait, comes to the front with that alone; what one cost that is dropped before it is placed is given " +
      "back to a tenant that waits. O(1) while a turn covers a request; else rounds without a " +
      "request are counted, not walked, in O(N) tenants.",
    cost: "O(1)",
    source: "Shreedhar and Varghese, Efficient Fair Queuing Using Deficit Round Robin, SIGCOMM 1995",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    quantum: {
      kind: "integer",
      default: 16_384,
      minimum: 1,
      maximum: 1_000_000_000,
      unit: "cost",
      summary:
        "What a turn of the tenant of the largest weight is worth. Larger serves more requests of a tenant in a row and decides faster; smaller is " +
        "fair over shorter times."
    },
    ...priceOptions
  },
  ({ quantum, ...prices }) => {
    const queues = new ArrivalQueues(TENANTS_MAX)
    const costs = new DeclaredCosts(prices)
    const ring = new SlotLists(1)
    let ringSize = 0
    let weightMax = 0
    const deficit = new Float64Array(TENANTS_MAX)
    /** Whether the quantum of the present turn was added. */
    const granted = new Uint8Array(TENANTS_MAX)

    const waits = (tenant: number): boolean => ring.listOf(tenant) === RING

    const enter = (tenant: number, behind: number, begun: number): void => {
      ring.insertAfter(RING, behind, tenant)
      ringSize++
      granted[tenant] = begun
    }

    const leaveIfEmpty = (tenant: number): void => {
      if (queues.first(tenant) >= 0) return
      ring.remove(tenant)
      ringSize--
    }

    const quantumOf = ({ weight }: RequestView): number => Math.max(1, (quantum * weight) / weightMax)

    /** Gives every tenant the rounds, but the last, that the one nearest to its next request needs. Each is short of its first request. */
    const skipRounds = (): void => {
      let rounds = Number.POSITIVE_INFINITY
      for (let tenant = ring.first(RING); tenant >= 0; tenant = ring.after(tenant)) {
        const slot = queues.first(tenant)
        rounds = Math.min(rounds, Math.ceil((costs.of(slot) - deficit[tenant]!) / quantumOf(queues.at(slot))))
      }
      for (let tenant = ring.first(RING); tenant >= 0; tenant = ring.after(tenant))
        deficit[tenant]! += (rounds - 1) * quantumOf(queues.at(queues.first(tenant)))
    }

    const know = (request: RequestView): void => {
      weightMax = Math.max(weightMax, request.weight)
    }

    return {
      enqueue: (request, pool) => {
        const { tenant } = request
        queues.add(tenant, request, pool)
        costs.declare(request, pool)
        know(request)
        if (waits(tenant)) return
        deficit[tenant] = 0
        enter(tenant, ring.last(RING), 0)
      },
      requeue: (request, pool) => {
        const { slot, tenant } = request
        queues.putBack(tenant, request, pool)
        costs.declare(request, pool)
        know(request)
        if (!waits(tenant)) {
          // One that was not even placed finds the turn that its tenant had.
          if (!costs.isTaken(slot)) deficit[tenant] = 0
          enter(tenant, NONE, 1)
        }
        deficit[tenant]! += costs.forget(slot)
      },
      next: () => {
        if (ringSize === 0) return -1
        for (let passed = 0; ;) {
          const tenant = ring.first(RING)
          const slot = queues.first(tenant)
          if (granted[tenant] === 0) {
            deficit[tenant]! += quantumOf(queues.at(slot))
            granted[tenant] = 1
          }
          if (costs.of(slot) <= deficit[tenant]!) {
            deficit[tenant]! -= costs.pay(slot)
            queues.remove(slot)
            leaveIfEmpty(tenant)
            return slot
          }
          granted[tenant] = 0
          ring.remove(tenant)
          ring.pushBack(RING, tenant)
          passed++
          if (passed % ringSize === 0) skipRounds()
        }
      },
      remove: (slot) => {
        const tenant = queues.queueOf(slot)
        if (!queues.remove(slot)) return false
        leaveIfEmpty(tenant)
        return true
      },
      size: () => queues.size,
      placed: (request) => {
        know(request)
        costs.place(request.slot)
      },
      ended: ({ slot, tenant }) => {
        const isDropped = costs.isTaken(slot)
        const paid = costs.forget(slot)
        if (isDropped && waits(tenant)) deficit[tenant]! += paid
      }
    }
  }
)
