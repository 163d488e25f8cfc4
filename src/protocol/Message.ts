import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import { identityPattern } from "../domain/identity.ts"
import { labelPattern } from "../domain/label.ts"
import { idleLoad, type WorkerLoad } from "../domain/WorkerLoad.ts"
import { pack, unpack, unpackPayload } from "./Codec.ts"
import type { ScanLimits } from "./Limits.ts"
import { roles } from "./Roles.ts"

/** This build speaks 1.0. A peer with the same major and any minor is understood; another major gets GOODBYE. */
export const version = { major: 1, minor: 0 } as const

const identity = Schema.String.check(Schema.isPattern(identityPattern))
const label = Schema.String.check(Schema.isPattern(labelPattern))
/** The float −0 is no count: it prints and divides unlike 0. */
const notMinusZero = Schema.makeFilter((n: number) => !Object.is(n, -0), { expected: "0 in place of -0" })
const count = Schema.Finite.check(
  Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  notMinusZero
)
const u32 = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff_ffff }), notMinusZero)

/** Payload of HELLO: who speaks. `incarnation` is drawn at random when a process starts, so a reborn peer is told from the old one. */
export const Hello = Schema.Struct({
  major: Schema.Int,
  minor: Schema.Int,
  role: Schema.Literals(roles),
  identity,
  incarnation: u32
})
export type Hello = typeof Hello.Type

const bytesOf = (minimum: number, maximum: number) =>
  Schema.Uint8Array.check(
    Schema.makeFilter((bytes: Uint8Array) => bytes.length >= minimum && bytes.length <= maximum, {
      expected: `${minimum} to ${maximum} bytes`
    })
  )

/** Payload of CHALLENGE: what to prove with that one knows a secret. */
export const Challenge = Schema.Struct({ nonce: bytesOf(16, 64) })
export type Challenge = typeof Challenge.Type

/** Payload of PROOF. */
export const Proof = Schema.Struct({ proof: bytesOf(32, 32) })
export type Proof = typeof Proof.Type

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
  "silent",
  "quarantined",
  "replaced"
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
  /** Most sequences of one step of its engine; left out where that is not known, and by older workers. */
  maxSequences: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_536 }))),
  /** Relative speed, 1 is the norm. */
  speed: Schema.Finite.check(Schema.isBetween({ minimum: 0.001, maximum: 1000 })),
  kvCapacityTokens: count
})
export type Register = typeof Register.Type

/** `later` are the fields that older workers do not send. */
const loadOf = <N extends Schema.Top, L extends Schema.Top>(number: N, later: L) =>
  Schema.Struct({
    running: number,
    waiting: number,
    kvUsedTokens: number,
    kvCapacityTokens: number,
    requestsDone: number,
    requestsFailed: number,
    requestsCancelled: number,
    promptTokens: number,
    cachedPromptTokens: number,
    outputTokens: number,
    steps: later,
    busyMs: later,
    stepPrefillTokens: later,
    stepAttention: later,
    stepDecodes: later,
    stepContextTokens: later,
    pendingPrefillTokens: later
  })

/** Payload of HEARTBEAT, as a worker must send it. */
export const Heartbeat = loadOf(count, count) satisfies Schema.Schema<WorkerLoad>
/** As one that is mistaken, or lies, may send it: NaN and infinities are clamped below. */
// @effect-diagnostics-next-line schemaNumber:off
const AnyLoad = loadOf(Schema.Number, Schema.optionalKey(Schema.Number))
const loadFields = Object.keys(AnyLoad.fields) as ReadonlyArray<keyof WorkerLoad>

/**
 * Extras of a REQUEST, in this order. A name defines the number in the header for this connection, from this frame on: a client sends it
 * with the first request that uses the number. The third has a place and no effect: our client sends null.
 */
export interface RequestExtras {
  readonly modelName: string | null
  readonly tenantName: string | null
  readonly idempotencyKey: string | null
}
const isName = Schema.is(Schema.NullOr(label))
/** Elements, of which a later minor version may know more. */
const EXTRAS_MAX = 16

export const packExtras = (extras: RequestExtras): Buffer =>
  pack([extras.modelName, extras.tenantName, extras.idempotencyKey])

/** `undefined` when the bytes are not valid extras. What follows the known elements is ignored; missing ones are null. */
export const unpackExtras = (
  bytes: Buffer,
  from: number,
  to: number,
  limits: ScanLimits
): RequestExtras | undefined => {
  const value = unpack(bytes, from, to, limits)
  if (!Array.isArray(value) || value.length > EXTRAS_MAX) return undefined
  const [modelName = null, tenantName = null, idempotencyKey = null]: ReadonlyArray<unknown> = value
  if (!isName(modelName) || !isName(tenantName) || !isName(idempotencyKey)) return undefined
  return { modelName, tenantName, idempotencyKey }
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

const isIdentity = Schema.is(identity)

/** The name of the worker that read the prompt, from the extras of a DONE; undefined when they are not what they should be. */
export const unpackReader = (
  bytes: Buffer,
  from: number,
  to: number,
  limits: ScanLimits
): string | undefined => {
  const value = unpack(bytes, from, to, limits)
  const reader: unknown = Array.isArray(value) && value.length <= EXTRAS_MAX ? value[0] : undefined
  return isIdentity(reader) ? reader : undefined
}

/** Longest message of a failure, in UTF-16 units: with a longer one the whole payload is not acceptable. */
export const FAILURE_LENGTH_MAX = 1024

/** Payload of REJECTED and ERROR. */
export const Failure = Schema.Struct({
  message: Schema.String.check(Schema.isMaxLength(FAILURE_LENGTH_MAX))
})
export type Failure = typeof Failure.Type

/** A schema that decodes without services: every message of this protocol. */
type Message = Schema.Top & { readonly DecodingServices: never }

/** Validates what was unpacked. `undefined` when it is not acceptable: the caller decides what that costs the peer. */
export const read = <S extends Message>(schema: S, value: unknown): S["Type"] | undefined => {
  const result = Schema.decodeUnknownResult(schema)(value)
  return Result.isSuccess(result) ? result.success : undefined
}

/** The payload of the frame `bytes[start, end)`, located, unpacked and validated. `undefined` when any of it is not acceptable. */
export const readPayload = <S extends Message>(
  schema: S,
  bytes: Buffer,
  start: number,
  end: number,
  limits: ScanLimits
): S["Type"] | undefined => read(schema, unpackPayload(bytes, start, end, limits))

const describe = SchemaIssue.makeFormatterStandardSchemaV1()

/** Why `read` refused a value: the field and its rule, as in `outputTokens: Expected an integer`. Never the value itself. */
export const faultOf = (schema: Message, value: unknown): string => {
  const result = Schema.decodeUnknownResult(schema)(value)
  const issue = Result.isFailure(result) ? describe(result.failure.issue).issues[0] : undefined
  const path = issue?.path?.map(String).join(".") ?? ""
  return `${path === "" ? "payload" : path}: ${issue?.message ?? "nothing is wrong"}`
}

/**
 * The payload of a HEARTBEAT for who cannot trust the worker: numbers out of range are clamped to [0, 2⁵³ − 1] and NaN to 0, and
 * `clamped` tells. Fields that older workers do not send are 0. A `fault`, as `faultOf` has it, when another is missing, or one is no
 * number.
 */
export const readHeartbeat = (
  bytes: Buffer,
  start: number,
  end: number,
  limits: ScanLimits
): { readonly load: WorkerLoad; readonly clamped: boolean } | { readonly fault: string } => {
  const payload = unpackPayload(bytes, start, end, limits)
  const said = read(AnyLoad, payload)
  if (said === undefined) return { fault: faultOf(AnyLoad, payload) }
  const load: Record<keyof WorkerLoad, number> = { ...idleLoad }
  for (const field of loadFields) {
    load[field] = Math.max(0, Math.min(said[field] || 0, Number.MAX_SAFE_INTEGER))
  }
  return { load, clamped: loadFields.some((field) => !Object.is(load[field], said[field] ?? 0)) }
}
