import { defineBatching } from "../Batching.ts"

/** Engines batch continuously by themselves, so waiting for company at the balancer buys nothing there. */
export const none = defineBatching(
  {
    name: "none",
    summary: "Places each request as soon as a worker has room.",
    definition: "A batch closes at once, with one request.",
    cost: "O(1)",
    source:
      "Yu et al., Orca, OSDI 2022: iteration-level scheduling makes batching ahead of the engine unnecessary",
    stability: "stable",
    joint: false
  },
  {},
  () => ({ closesAtMs: (_, nowMs) => nowMs, sizeMax: () => 1 })
)
