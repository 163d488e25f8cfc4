/*
 * What does one frame cost in the protocol layer: cut out of a chunk, scanned, relayed, patched, flushed?
 *
 * `bun run bench:protocol` · no sockets: the kernel's part is bench/hop's business. One core, fixed inputs.
 */
import { measure } from "mitata"
import { encodeFrame, locate, pack, parts, unpack } from "../src/protocol/Codec.ts"
import { Connection, type ConnectionHandler } from "../src/protocol/Connection.ts"
import { FrameReader } from "../src/protocol/Frame.ts"
import { At, HEADER_OFFSET, readU32, Type, writeU32 } from "../src/protocol/Header.ts"
import { defaultLimits } from "../src/protocol/Limits.ts"
import { version } from "../src/protocol/Message.ts"
import { Outbox } from "../src/protocol/Outbox.ts"
import type { TransportSocket } from "../src/protocol/Transport.ts"
import { Turn } from "../src/protocol/Turn.ts"
import { json, readFlags } from "./flags.ts"
import { machine, machineText } from "./machine.ts"

const flags = readFlags({ json })

const FRAMES = 1000
const token = encodeFrame(
  Type.token,
  { stream: 7, attempt: 1, epoch: 9, a: 3, b: 1 },
  { payload: pack(" word") }
)
const request = (promptBytes: number): Buffer =>
  encodeFrame(
    Type.request,
    { stream: 7 },
    { payload: pack({ prompt: "x".repeat(promptBytes), outputTokens: 100 }) },
    { idHigh: 1, idLow: 2, promptTokens: 64, maxTokens: 100 }
  )
const smallRequest = request(100)
const largeRequest = request(4096)
const times = (frame: Buffer, count: number): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => frame))

const sink: TransportSocket = {
  write: (_bytes, _from, length) => length,
  shutdown: () => undefined,
  terminate: () => undefined,
  pause: () => undefined,
  resume: () => undefined,
  remoteAddress: "bench"
}

/** A turn that ends when told to. */
const handTurn = () => {
  let end: () => void = () => undefined
  const turn = new Turn((run) => {
    end = run
  })
  return { turn, end: () => end() }
}
const outboxOn = (turn: Turn): Outbox =>
  new Outbox({
    socket: sink,
    turn,
    limitBytes: defaultLimits.outboxBytes,
    nowMs: () => 0,
    overflowed: () => undefined
  })

interface Row {
  readonly name: string
  /** Frames handled by one call of `run`. */
  readonly frames: number
  readonly run: () => unknown
}
const rows: Array<Row> = []
const row = (name: string, frames: number, run: () => unknown): void => void rows.push({ name, frames, run })

let seen = 0
const countingReader = () =>
  new FrameReader(
    { frame: (bytes, start) => (seen += bytes[start + HEADER_OFFSET]!) > 0, broken: () => undefined },
    1 << 20
  )

{
  const chunk = times(token, FRAMES)
  const reader = countingReader()
  row(`cut ${token.length} B frames, whole in the chunk`, FRAMES, () => reader.push(chunk))
  const segments: Array<Buffer> = []
  for (let at = 0; at < chunk.length; at += 1400) segments.push(chunk.subarray(at, at + 1400))
  const splitting = countingReader()
  row(`cut ${token.length} B frames from 1 400 B segments`, FRAMES, () =>
    segments.forEach((s) => splitting.push(s))
  )
}
{
  const { turn, end } = handTurn()
  const outbox = outboxOn(turn)
  row("relay a TOKEN to one outbox, stream patched", FRAMES, () => {
    for (let i = 0; i < FRAMES; i++) {
      const at = outbox.relay(token, 0, token.length)
      writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, i)
    }
    end()
  })
}
for (const count of [64, 1024, 8192]) {
  const { turn, end } = handTurn()
  const outboxes = Array.from({ length: count }, () => outboxOn(turn))
  row(`relay one TOKEN to each of ${count} outboxes`, count, () => {
    for (const outbox of outboxes) {
      const at = outbox.relay(token, 0, token.length)
      writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, 5)
    }
    end()
  })
}
{
  const { turn, end } = handTurn()
  const outbox = outboxOn(turn)
  row("append an ACCEPTED", FRAMES, () => {
    for (let i = 0; i < FRAMES; i++) outbox.plain(Type.accepted, i, 0)
    end()
  })
}
{
  const { turn, end } = handTurn()
  const outbox = outboxOn(turn)
  row("relay a 4 KiB REQUEST to one outbox", FRAMES, () => {
    for (let i = 0; i < FRAMES; i++) outbox.relay(largeRequest, 0, largeRequest.length)
    end()
  })
}
for (const [name, frame] of [
  ["TOKEN", token],
  ["200 B REQUEST", smallRequest],
  ["4 KiB REQUEST", largeRequest]
] as const) {
  row(`locate (and scan) a ${name}`, FRAMES, () => {
    for (let i = 0; i < FRAMES; i++) locate(frame, 0, frame.length, defaultLimits)
  })
}
row("unpack the payload of a 200 B REQUEST, for scale", FRAMES, () => {
  locate(smallRequest, 0, smallRequest.length, defaultLimits)
  for (let i = 0; i < FRAMES; i++)
    unpack(smallRequest, parts.payloadStart, smallRequest.length, defaultLimits)
})
row("unpack the payload of a TOKEN", FRAMES, () => {
  locate(token, 0, token.length, defaultLimits)
  for (let i = 0; i < FRAMES; i++) unpack(token, parts.payloadStart, token.length, defaultLimits)
})
row("encode a CANCEL", FRAMES, () => {
  for (let i = 0; i < FRAMES; i++) encodeFrame(Type.cancel, { stream: i, attempt: 1 })
})
{
  const { turn, end } = handTurn()
  const outbox = outboxOn(turn)
  const handler: ConnectionHandler = {
    frame: (_type, bytes, start, last) => {
      const at = outbox.relay(bytes, start, last)
      writeU32(
        outbox.bytes,
        at + HEADER_OFFSET + At.stream,
        readU32(bytes, start + HEADER_OFFSET + At.stream) + 1
      )
    },
    closed: () => undefined
  }
  const timers = { nowMs: () => 0, after: () => () => undefined, every: () => () => undefined }
  const hello = { ...version, role: "worker" as const, identity: "bench", incarnation: 1 }
  const connection = Connection.accept(
    sink,
    { turn, timers, limits: defaultLimits },
    () => ({
      welcome: { ...version, identity: "b", incarnation: 1, frameBytes: 1 << 20, models: [] },
      handler
    }),
    () => undefined
  )
  connection.data(encodeFrame(Type.hello, {}, { payload: pack(hello) }))
  const chunk = times(token, FRAMES)
  row("TOKEN through a connection into an outbox", FRAMES, () => {
    connection.data(chunk)
    end()
  })
}

const results: Array<{ readonly name: string; readonly nsPerFrame: number; readonly nsPerFrameP99: number }> =
  []
for (const { name, frames, run } of rows) {
  const stats = await measure(run, { min_cpu_time: 300e6 })
  results.push({ name, nsPerFrame: stats.p50 / frames, nsPerFrameP99: stats.p99 / frames })
}
const on = machine()
if (flags.json) console.log(JSON.stringify({ ...on, results }))
else {
  console.log(`${machineText(on)} · median (p99) of one call ÷ frames in it\n`)
  for (const r of results) {
    const mega = (1000 / r.nsPerFrame).toFixed(1)
    console.log(
      `${r.name.padEnd(56)}${r.nsPerFrame.toFixed(1).padStart(9)} ns (${r.nsPerFrameP99.toFixed(1)})`.padEnd(
        82
      ) + `${mega.padStart(8)} M/s`
    )
  }
}
