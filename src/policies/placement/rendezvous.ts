import { affinityOptions, affinityState } from "../affinity.ts"
import { FirstChoice } from "../FirstChoice.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Keeps no table, like session affinity, and gives each worker keys in proportion to its speed. While a worker is slowed down, as while it
 * warms up, some of its keys go elsewhere and come back; nobody else's move.
 */
export const rendezvous = definePlacement(
  {
    name: "rendezvous",
    summary:
      "The same worker for all requests of a key, faster workers getting more keys, with no table to keep.",
    definition:
      "The highest speed / −ln u over the eligible workers, u in (0, 1) the rendezvous hash of (key, worker key). The key is the request's session, " +
      "tenant or prefix as the option says; a request without a session goes by its prefix, one without a prefix by its session, one " +
      "with neither by its own id. A worker has a share of the keys in proportion to its speed; one that leaves or slows down moves " +
      "its own keys only. Load is not looked at. Equal scores go to the smallest worker key.",
    cost: "O(N)",
    source:
      "Thaler and Ravishankar, IEEE/ACM ToN 6(1), 1998; weights by the logarithmic method of Schindelhauer and Schomaker, SPAA 2005",
    stability: "stable",
    family: "sticky",
    uses: ["prefixes"]
  },
  affinityOptions,
  ({ key, prefixBlocks }) => {
    const first = new FirstChoice()
    return {
      pick: (request, pool) => first.amongAll(affinityState(request, key, prefixBlocks), pool)
    }
  }
)
