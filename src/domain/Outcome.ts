/**
 * How a request can end, or be refused, as small numbers that fit a frame header.
 * The numbers are part of the wire protocol: never reuse one.
 */
export const Reason = {
  none: 0,
  /** The frame or its fields are wrong; the message names the field. Not retryable. */
  badRequest: 1,
  unknownModel: 2,
  contextLength: 3,
  /** The worker that was streaming went away; `delivered` tokens had reached the client. */
  workerLost: 4,
  /** The engine failed while working on the request. */
  workerFailed: 5,
  /** The deadline passed. */
  expired: 6,
  cancelled: 7,
  /** The client did not read its tokens for too long. */
  slowConsumer: 8,
  draining: 9,
  /** No worker of this model is ready. */
  noWorker: 10,
  queueFull: 11,
  /** The expected wait in the queue is above the bound. */
  waitTooLong: 12,
  /** A named limit of the connection, tenant or process is reached. */
  limit: 13,
  duplicateRequest: 14,
  internal: 15,
  /** The worker broke the protocol (a token index skipped or repeated). */
  workerProtocol: 16,
  /** Said by nobody: what is not tried again for want of budget ends with why its attempt did. */
  retryBudget: 17,
  unknownType: 18,
  /** A worker refuses an assignment from an older epoch. */
  staleEpoch: 19,
  /** The worker cannot take the assignment now; the balancer tries another one. */
  workerRefused: 20,
  /** The connection to the balancer was lost before a terminal arrived (said by the client library itself). */
  connectionLost: 21,
  /** The tenant sends more than its rate. */
  rateLimited: 22,
  /** No worker's KV cache has room for it beside what is promised already. */
  kvFull: 23,
  /** As many requests are in flight as the measured concurrency limit allows. */
  concurrencyLimit: 24,
  /** No worker is predicted to meet the latency target. */
  sloInfeasible: 25,
  /** A more urgent request took its place in the queue, or it waited there for too long while others waited too. */
  shed: 26
} as const

/** One of the numbers of `Reason`. */
export type Reason = (typeof Reason)[keyof typeof Reason]

const names = new Map<number, string>(
  Object.entries(Reason).map(([name, code]) => [
    code,
    name.replaceAll(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)
  ])
)

/** The name of a reason as printed and used in metric labels: `worker_lost`, `queue_full`; `unknown` for other numbers. */
export const reasonName = (code: number): string => names.get(code) ?? "unknown"

const retryable = new Set<number>([
  Reason.workerLost,
  Reason.workerFailed,
  Reason.draining,
  Reason.noWorker,
  Reason.queueFull,
  Reason.waitTooLong,
  Reason.limit,
  Reason.internal,
  Reason.workerProtocol,
  Reason.retryBudget,
  Reason.workerRefused,
  Reason.connectionLost,
  Reason.rateLimited,
  Reason.kvFull,
  Reason.concurrencyLimit,
  Reason.sloInfeasible,
  Reason.shed
])

/** Whether sending the same request again later can succeed. */
export const isRetryable = (code: number): boolean => retryable.has(code)
