import type { PoolView } from "../../domain/PoolView.ts"
import { type RequestView, TENANTS_MAX } from "../../domain/RequestView.ts"
import { grow, ints } from "../../structures/grow.ts"
import { SlotLists } from "../../structures/SlotLists.ts"
import { heldTokens, priceOptions } from "../demand.ts"
import { defineOrdering } from "../Ordering.ts"
import { PairDeficits } from "../PairDeficits.ts"
import { KeyedQueues } from "../RequestQueues.ts"
import { TenantDeficits } from "../TenantDeficits.ts"
import { TokenLedger } from "../TokenLedger.ts"

/** The one list of its kind. */
const ALL = 0
/** Queued requests that are matched again at each decision, besides the one that is given out. */
const REFRESHED = 8

/**
 * With at most M tokens in flight, prompts of at most L and U = max(outputPrice × M, inputPrice × L + outputPrice × (M − L)), the services of
 * two tenants f and g that wait all the while differ by at most 2 × quantum + U × (1/weight_f + 1/weight_g) per weight, where weights are
 * relative to the largest. 70 bytes a tenant, 90 a slot.
 */
export const prefixFair = defineOrdering(
  {
    name: "prefix-fair",
    summary:
      "Longest cached prefix first, as far as fair shares between tenants allow: locality with a bound on its price.",
    definition:
      "Each tenant has a deficit, charged as virtual-token-counter charges it with charge = uncached. Of the tenants that wait with a " +
      "deficit above 0, the next request is the one with the most prompt tokens held by some worker, plus aging × seconds waited; ties go to " +
      "the more urgent class, then to the one that arrived first; of requests equal in that too, a requeued one goes first, then the one " +
      "enqueued first. When no tenant that waits is above 0, every tenant gets rounds of quantum × weight ÷ the largest weight seen (at " +
      "least 1) until one is; no deficit is ever above one such share. What is held is looked up when a request is queued, before it is " +
      `given out, and for ${REFRESHED} others at each decision, in turn. With workerQuantum above 0 a tenant has a deficit at each worker ` +
      "too, charged with what it was given there and refilled by the same rounds, and a prefix held where it is 0 or less does not count.",
    cost: "O(log N)",
    source:
      "Cao et al., Locality-aware Fair Scheduling in LLM Serving (DLPM; workerQuantum after D2LPM), arXiv 2501.14312",
    stability: "experimental",
    uses: ["prefixes"]
  },
  {
    quantum: {
      kind: "integer",
      default: 65_536,
      minimum: 1,
      maximum: 1_000_000_000,
      unit: "cost",
      summary:
        "What a round gives the tenant of the largest weight. Larger lets requests with cached prefixes overtake for longer; smaller is nearer to " +
        "equal shares at any time."
    },
    workerQuantum: {
      kind: "integer",
      default: 0,
      minimum: 0,
      maximum: 1_000_000_000,
      unit: "cost",
      summary:
        "What a round gives at each worker. Smaller leaves the workers that hold a tenant's prefixes to others sooner; 0 counts all prefixes."
    },
    aging: {
      kind: "number",
      default: 1000,
      minimum: 0,
      maximum: 1_000_000_000,
      unit: "tokens per second of waiting",
      summary:
        "Cached tokens that a second of waiting makes up for. Larger is nearer to arrival order; at 0 a tenant's requests without a cached prefix " +
        "wait for all that have one."
    },
    ...priceOptions
  },
  ({ aging, inputPrice, outputPrice, quantum, workerQuantum }) => {
    const agingPerMs = aging / 1000
    const deficits = new TenantDeficits(quantum, (a, b) => queues.before(queues.first(a), queues.first(b)))
    const pairs = new PairDeficits()
    /** By slot, the worker it is at: the one it was placed on last, or handed over to. */
    let workerOf = new Int32Array(0)
    const ledger = new TokenLedger(
      { inputPrice, outputPrice, charge: "uncached", predict: false },
      ({ tenant, weight }, cost) => {
        deficits.know(tenant, weight)
        deficits.spend(tenant, cost)
      }
    )

    const matchedTokens = (request: RequestView, pool: PoolView): number => {
      const { tenant } = request
      const { blocks, count, workers } = pool.match(request)
      let at = 0
      if (workerQuantum > 0) {
        const share = deficits.shareOf(tenant, workerQuantum)
        while (at < count && pairs.at(tenant, workers[at]!, deficits.round, share) <= 0) at++
      }
      return at < count ? heldTokens(request, pool, blocks[at]!) : 0
    }

    const chargePair = ({ tenant, weight }: RequestView, worker: number, cost: number): void => {
      deficits.know(tenant, weight)
      pairs.charge(tenant, worker, deficits.round, deficits.shareOf(tenant, workerQuantum), cost)
    }

    const queues = new KeyedQueues(
      TENANTS_MAX,
      (request, pool) => agingPerMs * request.arrivedMs - matchedTokens(request, pool),
      (request) => request.class
    )
    /** All queued slots, the one matched longest ago first. */
    const matchedInTurn = new SlotLists(1)

    const stand = (tenant: number): void => deficits.stand(tenant, queues.first(tenant) >= 0)

    const added = ({ slot, tenant }: RequestView): void => {
      matchedInTurn.pushBack(ALL, slot)
      stand(tenant)
    }

    const rematch = (slot: number, pool: PoolView): void => {
      matchedInTurn.remove(slot)
      matchedInTurn.pushBack(ALL, slot)
      if (queues.rekey(slot, pool)) stand(queues.queueOf(slot))
    }

    const remove = (slot: number): boolean => {
      const tenant = queues.queueOf(slot)
      if (!queues.remove(slot)) return false
      matchedInTurn.remove(slot)
      stand(tenant)
      return true
    }

    return {
      enqueue: (request, pool) => {
        deficits.know(request.tenant, request.weight)
        queues.add(request.tenant, request, pool)
        added(request)
      },
      requeue: (request, pool) => {
        deficits.know(request.tenant, request.weight)
        queues.putBack(request.tenant, request, pool)
        added(request)
        ledger.putBack(request)
      },
      next: (pool) => {
        if (queues.size === 0) return -1
        for (let i = Math.min(REFRESHED, queues.size); i > 0; i--) rematch(matchedInTurn.first(ALL), pool)
        let slot = queues.first(deficits.first())
        for (let i = 0; i < REFRESHED; i++) {
          rematch(slot, pool)
          const first = queues.first(deficits.first())
          if (first === slot) break
          slot = first
        }
        const request = queues.at(slot)
        remove(slot)
        ledger.take(request, pool)
        return slot
      },
      remove,
      size: () => queues.size,
      placed: (request, worker, pool) => {
        const { slot, tenant, uncachedTokens, weight } = request
        if (ledger.isNew(slot) && queues.size === 0) deficits.pass(tenant, weight)
        ledger.place(request, pool)
        if (workerQuantum === 0) return
        if (slot >= workerOf.length) workerOf = grow(workerOf, slot, ints)
        workerOf[slot] = worker
        chargePair(request, worker, inputPrice * uncachedTokens)
      },
      handedOver: ({ slot }, _from, worker) => {
        if (workerQuantum > 0) workerOf[slot] = worker
      },
      started: (request) => ledger.start(request),
      produced: (request, tokens) => {
        ledger.produce(request, tokens)
        if (workerQuantum > 0) chargePair(request, workerOf[request.slot]!, outputPrice * tokens)
      },
      ended: (request, reason) => ledger.end(request, reason)
    }
  }
)
