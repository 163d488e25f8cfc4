import { defineBatching } from "../Batching.ts"

/** For engines that do not batch continuously. In front of engines that do, it trades latency for nothing. */
export const window = defineBatching(
  {
    name: "window",
    summary: "Waits until enough requests have come, or the first of them has waited long enough.",
    definition:
      "A batch closes when it has `size` requests, when its first one has waited for `delay`, or, with `idle`, when a worker has nothing " +
      "to do. It holds at most `size` requests.",
    cost: "O(1)",
    source: "dynamic batcher of Triton Inference Server (docs/user_guide/batcher.md)",
    stability: "stable",
    joint: true
  },
  {
    size: {
      kind: "integer",
      default: 16,
      minimum: 1,
      maximum: 65_536,
      unit: "requests",
      summary: "Requests at which a batch closes. More are placed together and wait longer for each other."
    },
    delay: {
      kind: "duration",
      default: 10,
      minimum: 0,
      maximum: 10_000,
      unit: "ms",
      summary:
        "Longest time that the first request of a batch waits for others. It adds to the time to first token."
    },
    idle: {
      kind: "boolean",
      default: true,
      summary:
        "Whether a batch closes as soon as a worker has nothing to do. Without it every request pays the delay at low load."
    }
  },
  ({ size, delay, idle }) => ({
    closesAtMs: (waiting, nowMs) =>
      waiting.count >= size || (idle && waiting.idle) ? nowMs : waiting.sinceMs + delay,
    sizeMax: () => size
  })
)
