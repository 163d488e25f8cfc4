import { affinityOptions, affinityState } from "../affinity.ts"
import { FirstChoice } from "../FirstChoice.ts"
import { LoadBound } from "../LoadBound.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Walks down the rendezvous order of the key in place of a ring: the first worker with room is the one of highest score among those with
 * room, so one pass finds it, nothing is rebuilt when workers come and go, and a key always overflows to the same second worker.
 */
export const consistentHash = definePlacement(
  {
    name: "consistent-hash",
    summary:
      "The same worker for all requests of a key, as long as no worker gets more than its share of the load.",
    definition:
      "The first worker in the key's order of preference whose inFlight stays within ⌈bound · (n + 1) · speed / Σ speed⌉ with this request, n being all " +
      "requests in flight on eligible workers; there always is one. The order is by speed / −ln u, u in (0, 1) the rendezvous hash of (key, " +
      "worker key). The key is the request's session, tenant or prefix as the option says; a request without a session goes by its " +
      "prefix, one without a prefix by its session, one with neither by its own id. Equal scores go to the smallest worker key.",
    cost: "O(N)",
    source:
      "Mirrokni, Thorup, Zadimoghaddam, Consistent hashing with bounded loads, SODA 2018; HAProxy hash-balance-factor",
    stability: "stable",
    family: "filtered",
    unit: "requests",
    uses: ["prefixes"]
  },
  {
    bound: {
      kind: "number",
      default: 1.25,
      minimum: 1,
      maximum: 100,
      summary:
        "Most load of a worker, as a multiple of its fair share. At 1 load is as even as it can be and keys move often; larger values keep keys " +
        "in their places and let load differ."
    },
    ...affinityOptions
  },
  ({ bound, key, prefixBlocks }) => {
    const loadBound = new LoadBound()
    const first = new FirstChoice()
    return {
      pick: (request, pool) => {
        const { workers, eligible, eligibleCount } = pool
        loadBound.measure(pool, bound)
        first.start(affinityState(request, key, prefixBlocks))
        for (let i = 0; i < eligibleCount; i++)
          if (loadBound.hasRoom(pool, eligible[i]!)) first.offer(workers, eligible[i]!)
        return first.worker
      }
    }
  }
)
