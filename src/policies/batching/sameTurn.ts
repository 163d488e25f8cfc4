import { defineBatching } from "../Batching.ts"

/** A burst that arrives together is known together, and a joint decision is better than one after the other; nobody waits for it. */
export const sameTurn = defineBatching(
  {
    name: "same-turn",
    summary: "Places what arrives in one turn together, and waits for nothing else.",
    definition:
      "A batch closes at the end of the turn in which its first request came, with at most `size` requests; the rest makes the next one.",
    cost: "O(1)",
    source:
      "take-all batching; Inoue, Queueing analysis of GPU-based inference servers with dynamic batching, 2021",
    stability: "stable",
    joint: true
  },
  {
    size: {
      kind: "integer",
      default: 256,
      minimum: 1,
      maximum: 65_536,
      unit: "requests",
      summary: "Most requests decided on together. More makes one decision longer, and others wait for it."
    }
  },
  ({ size }) => ({ closesAtMs: (_, nowMs) => nowMs, sizeMax: () => size })
)
