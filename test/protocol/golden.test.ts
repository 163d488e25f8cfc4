import { describe, expect, test } from "bun:test"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { HEADER_OFFSET, LENGTH_BYTES, Type } from "../../src/protocol/Header.ts"
import { Unpackr } from "msgpackr"
import { cutFrames, typeOf } from "./support/frames.ts"
import { annotate, goldenFrames, snapshot } from "./support/goldenFrames.ts"

const folder = join(import.meta.dir, "../golden/protocol")
const textOf = (name: string): string => readFileSync(join(folder, `${name}.hex`), "utf8")
const bytesOf = (text: string): Buffer =>
  Buffer.from(text.replaceAll(/#.*/g, "").replaceAll(/\s/g, ""), "hex")

/** Not ours: as any other msgpack library, it knows nothing of frames. */
const library = new Unpackr({ useRecords: false, mapsAsObjects: true })
const contents: Readonly<Record<string, readonly [chain: unknown, extras: unknown, payload: unknown]>> = {
  hello: [null, null, { major: 1, minor: 0, role: "worker", identity: "worker-1", incarnation: 7 }],
  challenge: [null, null, { nonce: Buffer.from("000102030405060708090a0b0c0d0e0f", "hex") }],
  // Not ours either: HMACs by `openssl dgst`, see docs/protocol.md.
  proof: [
    null,
    null,
    { proof: Buffer.from("76a5af439a2aa3406e932f6e68b8134a3fb8611d65bcf1344a24a9940b92f920", "hex") }
  ],
  welcome: [
    null,
    null,
    {
      major: 1,
      minor: 0,
      identity: "balancer",
      incarnation: 9,
      frameBytes: 1_048_576,
      models: ["llama-3-8b"]
    }
  ],
  goodbye: [null, null, { code: "drain", message: "shutting down" }],
  request: [null, null, { prompt: "Hello \u{1f30d}", outputTokens: 128 }],
  requestWithNames: [
    Buffer.from("0123456789abcdeffedcba9876543210", "hex"),
    ["llama-3-8b", "acme", null],
    { prompt: "Hello \u{1f30d}", outputTokens: 128 }
  ],
  rejected: [null, null, { message: "the queue is full" }],
  token: [null, null, "two tokens"],
  done: [null, null, { reason: "length", worker: "worker-1", queueMs: 1.5, prefillMs: 40, totalMs: 1250 }],
  doneOfTwo: [
    null,
    ["reader-1"],
    { reason: "stop", worker: "producer-1", queueMs: 1.5, prefillMs: 40, totalMs: 1250 }
  ],
  error: [null, null, { message: "the worker was lost" }],
  register: [
    null,
    null,
    {
      models: ["llama-3-8b"],
      role: "both",
      capacity: 64,
      speed: 1,
      kvCapacityTokens: 262_144,
      maxSequences: 32
    }
  ],
  heartbeat: [
    null,
    null,
    {
      running: 3,
      waiting: 0,
      kvUsedTokens: 0,
      kvCapacityTokens: 262_144,
      requestsDone: 0,
      requestsFailed: 0,
      requestsCancelled: 0,
      promptTokens: 0,
      cachedPromptTokens: 0,
      outputTokens: 98_765,
      steps: 0,
      busyMs: 0,
      stepPrefillTokens: 0,
      stepAttention: 0,
      stepDecodes: 0,
      stepContextTokens: 0,
      pendingPrefillTokens: 0
    }
  ],
  assign: [
    Buffer.from("0123456789abcdeffedcba9876543210", "hex"),
    null,
    { prompt: "Hello \u{1f30d}", outputTokens: 128 }
  ],
  assignPrefillOnly: [
    Buffer.from("0123456789abcdeffedcba9876543210", "hex"),
    null,
    { prompt: "Hello \u{1f30d}", outputTokens: 128 }
  ],
  assignHandedOver: [
    Buffer.from("0123456789abcdeffedcba9876543210", "hex"),
    null,
    { prompt: "Hello \u{1f30d}", outputTokens: 128 }
  ],
  kvStored: [Buffer.from("0123456789abcdeffedcba9876543210", "hex"), null, null],
  kvRemoved: [Buffer.from("0123456789abcdeffedcba9876543210", "hex"), null, null],
  adminRequest: [null, null, { op: "drain", worker: "worker-1" }],
  adminRequestSnapshot: [null, null, { op: "snapshot" }],
  adminRequestCrash: [null, null, { op: "crash", target: "balancer" }],
  adminReply: [null, null, {}],
  adminReplyError: [null, null, { error: "worker: there is none called worker-1" }],
  adminReplySnapshot: [null, null, snapshot]
}

describe.each(Object.entries(goldenFrames))("%s", (name, frame) => {
  test("is written as in its file", () => {
    expect(textOf(name)).toBe(annotate(name, frame))
  })

  test("the file's bytes are one frame, and any msgpack library reads them", () => {
    const bytes = bytesOf(textOf(name))
    expect(cutFrames([bytes])).toEqual({ frames: [bytes], broken: undefined, rest: false })
    const [header, ...rest] = library.unpack(bytes.subarray(LENGTH_BYTES))
    expect(header).toEqual(bytes.subarray(HEADER_OFFSET, HEADER_OFFSET + header.length))
    expect(rest).toEqual([...(contents[name] ?? [null, null, null])])
  })
})

test("there is a file for every type, and none too many", () => {
  expect(new Set(Object.values(goldenFrames).map(typeOf))).toEqual(new Set(Object.values(Type)))
  expect(readdirSync(folder).toSorted()).toEqual(
    Object.keys(goldenFrames)
      .map((name) => `${name}.hex`)
      .toSorted()
  )
})
