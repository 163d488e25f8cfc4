import type { Load } from "./generator.ts"
import { Reply } from "./frames.ts"

/** One load shape, and what the hop may cost there as a multiple of the relay's figure; no number where there is no budget. */
export interface Cell {
  readonly name: string
  readonly load: Pick<Load, "connectionCount" | "inFlight" | "requestsPerSecond" | "reply">
  readonly budget: { readonly cpu?: number; readonly throughput?: number; readonly p50?: number }
}

const CONNECTIONS = 16
const THROUGHPUT_MIN = 0.8

const closed = (name: string, reply: Reply, inFlight: number, cpu?: number): Cell => ({
  name: `${name}/${inFlight}`,
  load: { connectionCount: CONNECTIONS, inFlight, requestsPerSecond: 0, reply },
  budget: {
    ...(cpu === undefined ? {} : { cpu }),
    ...(inFlight === 1024 ? { throughput: THROUGHPUT_MIN } : {})
  }
})

/**
 * `shape/in flight`: S 200 B requests, M 4 KiB requests, T 100-token streams whose frames come in one go, Ts 100-token streams that get
 * a token a step; C: S with one connection per client, one request outstanding each; open: S at a fixed rate a second.
 * The budgets and the reasons for them: docs/benchmarks.md.
 */
export const cells: ReadonlyArray<Cell> = [
  closed("S", Reply.small, 1),
  closed("S", Reply.small, 64, 1.25),
  closed("S", Reply.small, 1024, 1.5),
  closed("M", Reply.large, 1),
  closed("M", Reply.large, 64, 1.25),
  closed("M", Reply.large, 1024, 1.2),
  closed("T", Reply.burst, 1),
  closed("T", Reply.burst, 64, 1.5),
  closed("T", Reply.burst, 1024, 1.5),
  closed("Ts", Reply.steps, 1),
  closed("Ts", Reply.steps, 64, 1.5),
  closed("Ts", Reply.steps, 1024, 1.5),
  {
    name: "C/64",
    load: { connectionCount: 64, inFlight: 64, requestsPerSecond: 0, reply: Reply.small },
    budget: { cpu: 1.15 }
  },
  {
    name: "open/2000",
    load: { connectionCount: CONNECTIONS, inFlight: 0, requestsPerSecond: 2000, reply: Reply.small },
    budget: { p50: 1.1 }
  }
]
