import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { LENGTH_BYTES, Flag, Type } from "../../src/protocol/Header.ts"
import { packExtras, version } from "../../src/protocol/Message.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import type { Role } from "../../src/protocol/Roles.ts"

/*
 * Every frame the generator and the worker send, encoded once. A bench that encodes per request measures itself.
 */

/** What a request asks of the bench worker; it travels in the high half of the request id, which nobody else reads. */
export const Reply = { small: 1, large: 2, burst: 3, steps: 4 } as const
export type Reply = (typeof Reply)[keyof typeof Reply]

/** Tokens of a streamed answer. Below the initial credit of a stream, so that no CREDIT is needed. */
export const STREAM_TOKENS = 100
/** The model the bench workers serve, and the number the generator interns it under; likewise the tenant. */
const MODEL = "bench"
const INTERNED = 1
/** A deadline on every request, as real traffic has, and far away. */
const TIMEOUT_MS = 60_000

/** Body sizes, in bytes without the length prefix: 200 B and 4 KiB requests and their answers. */
const bodyBytes = { smallRequest: 194, largeRequest: 4196, smallReply: 191, largeReply: 1106 } as const

export const helloFrame = (role: Role, identity: string, incarnation: number): Buffer =>
  encodeFrame(Type.hello, {}, { payload: pack({ ...version, role, identity, incarnation }) })

export const welcomeFrame: Buffer = encodeFrame(
  Type.welcome,
  {},
  {
    payload: pack({
      ...version,
      identity: "relay",
      incarnation: 1,
      frameBytes: 1024 * 1024,
      models: [MODEL]
    })
  }
)

export const registerFrame: Buffer = encodeFrame(
  Type.register,
  {},
  { payload: pack({ models: [MODEL], role: "both", capacity: 65_536, speed: 1000, kvCapacityTokens: 1e9 }) }
)

export const heartbeatFrame: Buffer = encodeFrame(
  Type.heartbeat,
  {},
  { payload: pack({ ...idleLoad, kvCapacityTokens: 1e9 }) }
)

export const acceptedFrame: Buffer = encodeFrame(Type.accepted, {})
export const pingFrame: Buffer = encodeFrame(Type.ping, {})
export const pongFrame: Buffer = encodeFrame(Type.pong, {})
export const goodbyeFrame: Buffer = encodeFrame(
  Type.goodbye,
  {},
  { payload: pack({ code: "done", message: "" }) }
)

/** A request that asks for `reply`. `naming`: with the extras that define the model and tenant numbers of the connection. */
export const requestFrame = (reply: Reply, naming: boolean): Buffer => {
  const tokens = reply === Reply.small || reply === Reply.large ? 1 : STREAM_TOKENS
  return padded(reply === Reply.large ? bodyBytes.largeRequest : bodyBytes.smallRequest, (padding) =>
    encodeFrame(
      Type.request,
      { flags: naming ? Flag.extras : 0 },
      {
        extras: naming
          ? packExtras({ modelName: MODEL, tenantName: "bench", idempotencyKey: null })
          : undefined,
        payload: pack({ prompt: padding, outputTokens: tokens })
      },
      {
        idHigh: reply,
        idLow: 0,
        model: INTERNED,
        tenant: INTERNED,
        // Few: at the rates of the bench the workers would have no time to read more.
        promptTokens: reply === Reply.large ? 256 : 32,
        maxTokens: tokens,
        timeoutMs: TIMEOUT_MS
      }
    )
  )
}

/** DONE of an answer without tokens, small or large. */
export const doneFrame = (reply: Reply): Buffer =>
  padded(reply === Reply.large ? bodyBytes.largeReply : bodyBytes.smallReply, (text) =>
    done(0, { ...finished, text })
  )

/** TOKEN number `index` of a stream. */
export const tokenFrame = (index: number): Buffer =>
  encodeFrame(Type.token, { a: index, b: 1 }, { payload: pack(" tok") })

/** DONE of a streamed answer. */
export const streamDoneFrame = (): Buffer => done(STREAM_TOKENS, finished)

const finished = { reason: "stop", worker: MODEL, queueMs: 0, prefillMs: 0, totalMs: 0 }

const done = (outputTokens: number, payload: object): Buffer =>
  encodeFrame(Type.done, { a: outputTokens }, { payload: pack(payload) })

/** The frame `build` makes of as much padding as its body needs to be `size` bytes long; bare when it is longer without any. */
const padded = (size: number, build: (padding: string) => Buffer): Buffer => {
  let count = Math.max(0, size + LENGTH_BYTES - build("").length)
  while (count > 0 && build("x".repeat(count)).length > size + LENGTH_BYTES) count--
  return build("x".repeat(count))
}
