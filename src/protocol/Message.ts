import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { type WorkerLoad } from "../domain/WorkerLoad.ts"
import { pack, unpack } from "./Codec.ts"
import type { Limits } from "./Limits.ts"
import { roles, type Role } from "./Roles.ts"

/** This build speaks 1.0. A peer with the same major and any minor is understood; another major gets GOODBYE. */
export const version = { major: 1, minor: 0 } as const

const identity = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$/))
/** Model and tenant names: visible characters, at most 128. */
const label = Schema.String.check(Schema.isPattern(/^[\x21-\x7e]{1,128}$/))
const count = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))
const u32 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff_ffff }))

/** Payload of HELLO: who speaks. `incarnation` is drawn at random when a process starts, so a reborn peer is told from the old one. */
export const Hello = Schema.Struct({
  major: Schema.Int,
  minor: Schema.Int,
  role: Schema.Literals(roles),
  identity,
  incarnation: u32,
  credential: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(512)))
})
export type Hello = typeof Hello.Type

/** Payload of WELCOME. `models` are those served now; their order means nothing. */
export const Welcome = Schema.Struct({
  major: Schema.Int,
  minor: Schema.Int,
  identity,
  incarnation: u32,
  frameBytes: u32,
  models: Schema.Array(label).check(Schema.isMaxLength(1024))
})
export type Welcome = typeof Welcome.Type

/** Why a connection ends, as carried by GOODBYE. */
export const goodbyeCodes = [
  "done",
  "drain",
  "version",
  "unauthorized",
  "bad_frame",
  "bad_message",
  "flow_control",
  "flood",
  "slow_consumer",
  "limit",
  "silent"
] as const
export type GoodbyeCode = (typeof goodbyeCodes)[number]
export const Goodbye = Schema.Struct({
  code: Schema.String.check(Schema.isMaxLength(64)),
  message: Schema.String.check(Schema.isMaxLength(512))
})
export type Goodbye = typeof Goodbye.Type

/** Payload of REGISTER: what a worker offers. */
export const Register = Schema.Struct({
  models: Schema.Array(label).check(Schema.isMinLength(1), Schema.isMaxLength(256)),
  role: Schema.Literals(["both", "prefill", "decode"]),
  /** Most attempts it takes at once. */
  capacity: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_536 })),
  /** Relative speed, 1 is the norm. */
  speed: Schema.Finite.check(Schema.isBetween({ minimum: 0.001, maximum: 1000 })),
  kvCapacityTokens: count
})
export type Register = typeof Register.Type

/** Payload of HEARTBEAT. */
export const Heartbeat = Schema.Struct({
  running: count,
  waiting: count,
  kvUsedTokens: count,
  kvCapacityTokens: count,
  requestsDone: count,
  requestsFailed: count,
  requestsCancelled: count,
  promptTokens: count,
  cachedPromptTokens: count,
  outputTokens: count
}) satisfies Schema.Schema<WorkerLoad>

/**
 * Extras of a REQUEST, in this order. A name defines the number in the header for this connection, from this frame on: a client sends it
 * with the first request that uses the number. The rest is rare.
 */
export interface RequestExtras {
  readonly modelName: string | null
  readonly tenantName: string | null
  readonly idempotencyKey: string | null
}
const Extras = Schema.Array(Schema.NullOr(label)).check(Schema.isMaxLength(16))

export const packExtras = (extras: RequestExtras): Buffer =>
  pack([extras.modelName, extras.tenantName, extras.idempotencyKey])

/** `undefined` when the bytes are not valid extras. */
export const unpackExtras = (bytes: Buffer, from: number, to: number, limits: Limits): RequestExtras | undefined => {
  const value = decode(Extras, unpack(bytes, from, to, limits))
  if (value === undefined) return undefined
  return { modelName: value[0] ?? null, tenantName: value[1] ?? null, idempotencyKey: value[2] ?? null }
}

/**
 * Payload of a REQUEST: read by the worker only. `prompt` is text, or null when only the counts are known (a replayed trace).
 * `outputTokens` tells a simulated engine how long the answer is; other engines ignore it.
 */
export const Prompt = Schema.Struct({
  prompt: Schema.NullOr(Schema.String),
  outputTokens: Schema.optionalKey(u32)
})
export type Prompt = typeof Prompt.Type

/** Payload of DONE, written by the worker, relayed unread. Milliseconds of the engine's own clock. */
export const Finished = Schema.Struct({
  reason: Schema.Literals(["stop", "length"]),
  worker: identity,
  queueMs: count,
  prefillMs: count,
  totalMs: count
})
export type Finished = typeof Finished.Type

/** Payload of REJECTED and ERROR. */
export const Failure = Schema.Struct({ message: Schema.String.check(Schema.isMaxLength(1024)) })
export type Failure = typeof Failure.Type

const decode = <S extends Schema.Top & { readonly DecodingServices: never }>(schema: S, value: unknown): S["Type"] | undefined => {
  const result = Schema.decodeUnknownResult(schema)(value)
  return Result.isSuccess(result) ? result.success : undefined
}

/** Unpacks and validates a payload. `undefined` when it is not acceptable: the caller decides what that costs the peer. */
export const read = <S extends Schema.Top & { readonly DecodingServices: never }>(
  schema: S,
  bytes: Buffer,
  from: number,
  to: number,
  limits: Pick<Limits, "depth" | "nodes">
): S["Type"] | undefined => decode(schema, unpack(bytes, from, to, limits))

export type { Role }
