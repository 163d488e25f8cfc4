import { idleLoad, type WorkerLoad } from "../../../src/domain/WorkerLoad.ts"
import { Reason } from "../../../src/domain/Outcome.ts"
import type { BalancerSnapshot } from "../../../src/domain/Snapshot.ts"
import { encodeFrame, locate, pack, parts } from "../../../src/protocol/Codec.ts"
import { proofOf } from "../../../src/protocol/credentials.ts"
import { At, Flag, HEADER_BYTES, HEADER_OFFSET, Type } from "../../../src/protocol/Header.ts"
import { defaultLimits } from "../../../src/protocol/Limits.ts"
import {
  type Challenge,
  type Proof,
  type Failure,
  type Finished,
  type Goodbye,
  type Hello,
  packExtras,
  type Prompt,
  type Register,
  type Welcome
} from "../../../src/protocol/Message.ts"

const chain = Buffer.from("0123456789abcdeffedcba9876543210", "hex")
const routing = {
  idHigh: 0x11223344,
  idLow: 0x55667788,
  tenant: 2,
  model: 1,
  class: 3,
  promptTokens: 640,
  maxTokens: 256,
  timeoutMs: 30_000,
  sessionHigh: 0xa1a2a3a4,
  sessionLow: 0xb1b2b3b4
}
const prompt = pack({ prompt: "Hello \u{1f30d}", outputTokens: 128 } satisfies Prompt)

export const snapshot: BalancerSnapshot = {
  epoch: 3,
  uptimeMs: 60_000,
  timeScale: 1,
  restarts: 0,
  clients: 2,
  accepted: 7,
  rejected: 1,
  done: 4,
  failed: 1,
  cancelled: 0,
  expired: 0,
  retries: 1,
  rescues: {},
  outputTokens: 98_765,
  cachedTokens: 512,
  inFlight: 2,
  queued: 0,
  models: [{ name: "llama-3-8b", inFlight: 2, queued: 0 }],
  rejections: { queue_full: 1 },
  failures: { worker_lost: 1 },
  workers: [
    {
      name: "worker-1",
      state: "ready",
      models: ["llama-3-8b"],
      role: "both",
      speed: 1,
      incarnation: 7,
      inFlight: 2,
      capacity: 64,
      assigned: 8,
      assignedFor: { first: 7, retry: 1 },
      load: { ...idleLoad, running: 2, kvCapacityTokens: 262_144, outputTokens: 98_765 },
      heardMsAgo: 120
    }
  ]
}

/** One message of every type, with every field in use. The file of each is `test/golden/protocol/<name>.hex`. */
export const goldenFrames: Readonly<Record<string, Buffer>> = {
  hello: encodeFrame(
    Type.hello,
    {},
    {
      payload: pack({
        major: 1,
        minor: 0,
        role: "worker",
        identity: "worker-1",
        incarnation: 7
      } satisfies Hello)
    }
  ),
  challenge: encodeFrame(
    Type.challenge,
    {},
    { payload: pack({ nonce: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex") } satisfies Challenge) }
  ),
  proof: encodeFrame(
    Type.proof,
    {},
    {
      payload: pack({
        proof: proofOf(
          "secret",
          { role: "worker", identity: "worker-1", incarnation: 7 },
          Buffer.from("000102030405060708090a0b0c0d0e0f", "hex")
        )
      } satisfies Proof)
    }
  ),
  welcome: encodeFrame(
    Type.welcome,
    {},
    {
      payload: pack({
        major: 1,
        minor: 0,
        identity: "balancer",
        incarnation: 9,
        frameBytes: 1_048_576,
        models: ["llama-3-8b"]
      } satisfies Welcome)
    }
  ),
  goodbye: encodeFrame(
    Type.goodbye,
    {},
    { payload: pack({ code: "drain", message: "shutting down" } satisfies Goodbye) }
  ),
  ping: encodeFrame(Type.ping, {}),
  pong: encodeFrame(Type.pong, {}),
  request: encodeFrame(Type.request, { stream: 5 }, { payload: prompt }, routing),
  requestWithNames: encodeFrame(
    Type.request,
    { stream: 5, flags: Flag.extras | Flag.sideEffects },
    {
      chain,
      extras: packExtras({ modelName: "llama-3-8b", tenantName: "acme", idempotencyKey: null }),
      payload: prompt
    },
    routing
  ),
  accepted: encodeFrame(Type.accepted, { stream: 5 }),
  rejected: encodeFrame(
    Type.rejected,
    { stream: 5, a: Reason.queueFull, b: 250 },
    { payload: pack({ message: "the queue is full" } satisfies Failure) }
  ),
  token: encodeFrame(
    Type.token,
    { stream: 5, attempt: 1, epoch: 3, a: 41, b: 2 },
    { payload: pack("two tokens") }
  ),
  done: encodeFrame(
    Type.done,
    { stream: 5, attempt: 1, epoch: 3, a: 128, b: 512 },
    {
      payload: pack({
        reason: "length",
        worker: "worker-1",
        queueMs: 1.5,
        prefillMs: 40,
        totalMs: 1250
      } satisfies Finished)
    }
  ),
  doneOfTwo: encodeFrame(
    Type.done,
    { flags: Flag.extras, stream: 5, attempt: 2, epoch: 3, a: 128, b: 512 },
    {
      extras: pack(["reader-1"]),
      payload: pack({
        reason: "stop",
        worker: "producer-1",
        queueMs: 1.5,
        prefillMs: 40,
        totalMs: 1250
      } satisfies Finished)
    }
  ),
  error: encodeFrame(
    Type.error,
    { stream: 5, attempt: 2, epoch: 3, a: Reason.workerLost, b: 100, c: 43 },
    { payload: pack({ message: "the worker was lost" } satisfies Failure) }
  ),
  cancel: encodeFrame(Type.cancel, { stream: 5, attempt: 1 }),
  credit: encodeFrame(Type.credit, { stream: 5, attempt: 1, a: 512, b: 98_304 }),
  resume: encodeFrame(Type.resume, { stream: 6, a: 43, b: routing.idHigh, c: routing.idLow }),
  register: encodeFrame(
    Type.register,
    {},
    {
      payload: pack({
        models: ["llama-3-8b"],
        role: "both",
        capacity: 64,
        speed: 1,
        kvCapacityTokens: 262_144,
        maxSequences: 32
      } satisfies Register)
    }
  ),
  heartbeat: encodeFrame(
    Type.heartbeat,
    {},
    {
      payload: pack({
        ...idleLoad,
        running: 3,
        kvCapacityTokens: 262_144,
        outputTokens: 98_765
      } satisfies WorkerLoad)
    }
  ),
  assign: encodeFrame(
    Type.assign,
    { stream: 9, attempt: 1, epoch: 3 },
    { chain, payload: prompt },
    { ...routing, tenant: 0 }
  ),
  assignPrefillOnly: encodeFrame(
    Type.assign,
    { stream: 9, attempt: 1, epoch: 3, flags: Flag.prefillOnly },
    { chain, payload: prompt },
    { ...routing, tenant: 0 }
  ),
  assignHandedOver: encodeFrame(
    Type.assign,
    { stream: 9, attempt: 2, epoch: 3, flags: Flag.handedOver, a: 640, b: 0xc1c2c3c4, c: 0xd1d2d3d4 },
    { chain, payload: prompt },
    { ...routing, tenant: 0 }
  ),
  drain: encodeFrame(Type.drain, {}),
  prefilled: encodeFrame(Type.prefilled, { stream: 9, attempt: 1, epoch: 3, a: 640, b: 512 }),
  kvStored: encodeFrame(Type.kvStored, { a: 1, b: 8 }, { chain }),
  kvRemoved: encodeFrame(Type.kvRemoved, { a: 1, b: 9 }, { chain }),
  kvRemovedEverything: encodeFrame(Type.kvRemoved, { flags: Flag.everything, b: 7 }),
  kvSync: encodeFrame(Type.kvSync, {}),
  adminRequest: encodeFrame(
    Type.adminRequest,
    { stream: 1 },
    { payload: pack({ op: "drain", worker: "worker-1" }) }
  ),
  adminRequestSnapshot: encodeFrame(Type.adminRequest, { stream: 2 }, { payload: pack({ op: "snapshot" }) }),
  adminRequestCrash: encodeFrame(
    Type.adminRequest,
    { stream: 3 },
    { payload: pack({ op: "crash", target: "balancer" }) }
  ),
  adminReply: encodeFrame(Type.adminReply, { stream: 1 }, { payload: pack({}) }),
  adminReplyError: encodeFrame(
    Type.adminReply,
    { stream: 1 },
    { payload: pack({ error: "worker: there is none called worker-1" }) }
  ),
  adminReplySnapshot: encodeFrame(Type.adminReply, { stream: 2 }, { payload: pack(snapshot) })
}

type Layout = ReadonlyArray<readonly [name: string, bytes: number]>
const common: Layout = [
  ["type", 1],
  ["flags", 1],
  ["attempt", 2],
  ["stream", 4],
  ["epoch", 4]
]
/** The words after the epoch by name, and where the code has them. Nobody reads those of RESUME yet. */
const words: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  rejected: { reason: At.reason, retryAfterMs: At.retryAfterMs },
  token: { tokenIndex: At.tokenIndex, tokenCount: At.tokenCount },
  done: { outputTokens: At.outputTokens, cachedTokens: At.cachedTokens },
  doneOfTwo: { outputTokens: At.outputTokens, cachedTokens: At.cachedTokens },
  error: { reason: At.reason, retryAfterMs: At.retryAfterMs, delivered: At.delivered },
  credit: { creditUpTo: At.creditUpTo, creditUpToBytes: At.creditUpToBytes },
  resume: { nextIndex: At.a, idHigh: At.b, idLow: At.c },
  assignHandedOver: { kvTokens: At.kvTokens, keeperHigh: At.keeperHigh, keeperLow: At.keeperLow },
  prefilled: { kvTokens: At.kvTokens, prefixTokens: At.prefixTokens },
  kvStored: { model: At.kvModel, sequence: At.kvSequence },
  kvRemoved: { model: At.kvModel, sequence: At.kvSequence },
  kvRemovedEverything: { model: At.kvModel, sequence: At.kvSequence }
}
const wordAt = (name: string, offset: number): string =>
  Object.entries(words[name] ?? {}).find(([, at]) => at === offset)?.[0] ?? "0"
const routingLayout: Layout = [
  ["idHigh", 4],
  ["idLow", 4],
  ["tenant", 2],
  ["model", 2],
  ["class", 1],
  ["0", 3],
  ["promptTokens", 4],
  ["maxTokens", 4],
  ["timeoutMs", 4],
  ["sessionHigh", 4],
  ["sessionLow", 4],
  ["0", 4]
]

/** A frame as text: one field a line, in hex, and what it is. What has no name of its own stands in rows of 16 bytes. */
export const annotate = (name: string, frame: Buffer): string => {
  const headerBytes = frame[HEADER_OFFSET - 1]!
  const lines = [`# ${name}, ${frame.length} bytes`]
  const line = (what: string, from: number, to: number): void => {
    const hex = frame
      .subarray(from, to)
      .toString("hex")
      .replaceAll(/..(?=.)/g, "$& ")
    lines.push(what === "" ? hex : `${hex.padEnd(47)}  # ${what}`)
  }
  const layout: Layout = [
    ["length of what follows", 4],
    ["array of 4", 1],
    [`header: bin of ${headerBytes}`, 2],
    ...common,
    ...[At.a, At.b, At.c].map((offset) => [wordAt(name, offset), 4] as const),
    ...(headerBytes > HEADER_BYTES ? routingLayout : [])
  ]
  let at = 0
  for (const [what, bytes] of layout) {
    line(what, at, at + bytes)
    at += bytes
  }
  locate(frame, 0, frame.length, defaultLimits)
  const bounds = [at, parts.extrasStart, parts.payloadStart, parts.payloadEnd]
  for (const [i, element] of ["chain", "extras", "payload"].entries()) {
    const [start, end] = [bounds[i]!, bounds[i + 1]!]
    for (let from = start; from < end; from += 16)
      line(from === start ? element : "", from, Math.min(end, from + 16))
  }
  return `${lines.join("\n")}\n`
}
