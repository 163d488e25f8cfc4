import * as Schema from "effect/Schema"
import type { BalancerSnapshot } from "../domain/Snapshot.ts"
import { bunTransport } from "../protocol/BunTransport.ts"
import { encodeFrame, pack, unpackPayload } from "../protocol/Codec.ts"
import type { Connection } from "../protocol/Connection.ts"
import { At, HEADER_OFFSET, readU32, Type } from "../protocol/Header.ts"
import { defaultLimits, replyLimits } from "../protocol/Limits.ts"
import { systemTimers, type Timers } from "../protocol/Timers.ts"
import type { Transport } from "../protocol/Transport.ts"
import { Turn } from "../protocol/Turn.ts"
import { type Address, addressIn, formatAddress } from "./address.ts"
import { ConnectFailed } from "./ConnectFailed.ts"
import { credentialIn } from "./credentialIn.ts"
import { greet } from "./greet.ts"
import { identityIn } from "./identityIn.ts"
import { randomU32 } from "./randomU32.ts"

/** Questions open at once; one more fails. */
const QUESTIONS_MAX = 64
const ANSWER_MS = 10_000
const CONNECT_MS = 5_000

export interface AdminOptions {
  readonly address: string | Address
  /** How this operator calls itself; left out, a name with a random part. A credential of `config key` is for one name. */
  readonly identity?: string | undefined
  readonly credential?: string | undefined
  readonly transport?: Transport | undefined
  readonly timers?: Timers | undefined
  readonly turn?: Turn | undefined
}

/** The balancer did not do what was asked: it said why, or the connection was lost, or 10 s passed. */
export class AdminFailed extends Schema.TaggedError<AdminFailed>()("AdminFailed", {
  operation: Schema.String,
  why: Schema.String
}) {
  override get message(): string {
    return `${this.operation}: ${this.why}`
  }
}

/** An operator's connection. Every method rejects with `AdminFailed` when it was not done. Not reconnected: make another one. */
export interface AdminConnection {
  /** Name of the balancer: `cluster.name` of its configuration. */
  readonly balancer: string
  readonly snapshot: () => Promise<BalancerSnapshot>
  /** Makes the balancer actor fail, to see it restarted. Refused unless the cluster allows faults. */
  readonly crashBalancer: () => Promise<void>
  /** The worker takes no new work, finishes what it has, and leaves. */
  readonly drainWorker: (worker: string) => Promise<void>
  readonly close: () => Promise<void>
}

/** An ADMIN_REQUEST's payload. */
type Operation = { readonly op: string } & Readonly<Record<string, string>>

interface Question {
  readonly answer: (value: unknown) => void
  readonly fail: (why: string) => void
}

/** Connects to a balancer as an operator. Rejects with `ConnectFailed`, or with a `RangeError` for what is no address or no name. */
export const connectAdmin = async (options: AdminOptions): Promise<AdminConnection> => {
  const address = addressIn(options)
  const timers = options.timers ?? systemTimers
  const incarnation = randomU32()
  const identity = identityIn(options, `admin-${incarnation.toString(16)}`)
  const credential = credentialIn(options)
  const connected = Promise.withResolvers<AdminConnection>()
  const questions = new Map<number, Question>()
  const gone = Promise.withResolvers<void>()
  let lastStream = 0

  const ask = (connection: Connection, operation: Operation): Promise<unknown> => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const fail = (why: string) => reject(new AdminFailed({ operation: operation.op, why }))
    if (questions.size >= QUESTIONS_MAX) fail(`${QUESTIONS_MAX} questions are open`)
    else {
      const stream = ++lastStream
      const over = (run: () => void) => {
        stopWaiting()
        questions.delete(stream)
        run()
      }
      const stopWaiting = timers.after(ANSWER_MS, () => over(() => fail(`no answer within ${ANSWER_MS} ms`)))
      questions.set(stream, {
        answer: (value) => over(() => resolve(value)),
        fail: (why) => over(() => fail(why))
      })
      if (!connection.send(encodeFrame(Type.adminRequest, { stream }, { payload: pack(operation) }))) {
        questions.get(stream)?.fail("the connection is closed")
      }
    }
    return promise
  }

  const answered = (bytes: Buffer, start: number, end: number): void => {
    const question = questions.get(readU32(bytes, start + HEADER_OFFSET + At.stream))
    const value = unpackPayload(bytes, start, end, replyLimits)
    if (value === undefined || value === null || typeof value !== "object")
      question?.fail("the answer cannot be read")
    else if ("error" in value) question?.fail(String(value.error))
    else question?.answer(value)
  }

  greet(
    {
      transport: options.transport ?? bunTransport,
      context: { turn: options.turn ?? new Turn(), timers, limits: defaultLimits },
      address,
      connectMs: CONNECT_MS,
      hello: { role: "admin", identity, incarnation },
      credential
    },
    {
      opened: (connection, { identity }) => {
        connected.resolve({
          balancer: identity,
          snapshot: async () => snapshotOf(await ask(connection, { op: "snapshot" })),
          crashBalancer: async () => void (await ask(connection, { op: "crash", target: "balancer" })),
          drainWorker: async (worker) => void (await ask(connection, { op: "drain", worker })),
          close: () => {
            connection.goodbye("done", "")
            return gone.promise
          }
        })
        return {
          frame: (type, bytes, start, end) => {
            if (type === Type.adminReply) answered(bytes, start, end)
          },
          closed: (why) => {
            for (const question of questions.values()) question.fail(why)
          }
        }
      },
      failed: (failure) =>
        connected.reject(new ConnectFailed({ address: formatAddress(address), ...failure })),
      gone: gone.resolve
    }
  )
  return connected.promise
}

/** The parts every reader counts on; a newer balancer may say more. */
const isSnapshot = Schema.is(
  Schema.Struct({
    epoch: Schema.Int,
    inFlight: Schema.Int,
    queued: Schema.Int,
    workers: Schema.Array(Schema.Struct({ name: Schema.String }))
  })
)

const snapshotOf = (value: unknown): BalancerSnapshot => {
  if (!isSnapshot(value))
    throw new AdminFailed({ operation: "snapshot", why: "the answer is not a snapshot" })
  return value as unknown as BalancerSnapshot
}
