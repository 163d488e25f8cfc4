import { assert } from "../../src/structures/assert.ts"
import { At, HEADER_OFFSET, readU32, Type, writeU32 } from "../../src/protocol/Header.ts"
import { acceptedFrame, pongFrame, welcomeFrame } from "./frames.ts"
import { Cutter, Out, type Sink } from "./wire.ts"

/*
 * The yardstick: what a relay by header costs in Bun when it does nothing else. Frames are cut, the stream id is rewritten through a
 * slot table, requests go round robin over the worker connections, and all output of a turn of the event loop leaves in its
 * `setImmediate`. No admission, deadlines, retries, counters, limits or failure handling; a broken peer breaks it.
 *
 * `bun bench/hop/relay.ts [--accepted]` prints one ready line. `--accepted` also answers every request with ACCEPTED at once, which
 * shows what that frame alone costs.
 */

const SLOTS_MAX = 1 << 16
const streamOf = new Uint32Array(SLOTS_MAX)
const clientOf: Array<Link | undefined> = Array.from({ length: SLOTS_MAX })
const freeSlots = Uint32Array.from({ length: SLOTS_MAX }, (_, i) => SLOTS_MAX - 1 - i)
let freeCount = SLOTS_MAX - 1 // Slot 0 stays unused: a stream id is never 0.

const workers: Array<Link> = []
let nextWorker = 0

const accepts = process.argv.includes("--accepted")

const dirty: Array<Out> = []
const flushAll = (): void => {
  for (const out of dirty) out.flush()
  dirty.length = 0
}
const mark = (out: Out): void => {
  if (out.listed) return
  out.listed = true
  if (dirty.push(out) === 1) setImmediate(flushAll)
}

/** One connection. Whether it is a client's or a worker's shows in the frames it sends. */
class Link implements Sink {
  readonly out: Out
  readonly cutter = new Cutter(this)

  constructor(out: Out) {
    this.out = out
  }

  frame(bytes: Buffer, start: number, end: number): void {
    const header = start + HEADER_OFFSET
    const type = bytes[header]!
    if (type === Type.request) this.assign(bytes, start, end, readU32(bytes, header + At.stream))
    else if (type === Type.token) answer(bytes, start, end, readU32(bytes, header + At.stream))
    else if (type === Type.done || type === Type.error) {
      const slot = readU32(bytes, header + At.stream)
      answer(bytes, start, end, slot)
      freeSlots[freeCount++] = slot
    } else if (type === Type.register) workers.push(this)
    else if (type === Type.hello) this.say(welcomeFrame)
    else if (type === Type.ping) this.say(pongFrame)
  }

  private assign(bytes: Buffer, start: number, end: number, stream: number): void {
    assert(freeCount > 0, "the bench keeps fewer requests in flight than there are slots")
    const slot = freeSlots[--freeCount]!
    streamOf[slot] = stream
    clientOf[slot] = this
    const { out } = workers[nextWorker]!
    nextWorker = nextWorker + 1 === workers.length ? 0 : nextWorker + 1
    const at = out.reserve(end - start)
    bytes.copy(out.bytes, at, start, end)
    out.bytes[at + HEADER_OFFSET] = Type.assign
    writeU32(out.bytes, at + HEADER_OFFSET + At.stream, slot)
    mark(out)
    if (accepts) this.accept(stream)
  }

  private say(frame: Buffer): void {
    this.out.append(frame)
    mark(this.out)
  }

  private accept(stream: number): void {
    const { out } = this
    const at = out.reserve(acceptedFrame.length)
    acceptedFrame.copy(out.bytes, at)
    writeU32(out.bytes, at + HEADER_OFFSET + At.stream, stream)
    mark(out)
  }
}

const answer = (bytes: Buffer, start: number, end: number, slot: number): void => {
  const { out } = clientOf[slot]!
  const at = out.reserve(end - start)
  bytes.copy(out.bytes, at, start, end)
  writeU32(out.bytes, at + HEADER_OFFSET + At.stream, streamOf[slot]!)
  mark(out)
}

const listener = Bun.listen<Link>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    binaryType: "buffer",
    open: (socket) => {
      socket.setNoDelay(true)
      socket.data = new Link(new Out(socket))
    },
    data: (socket, chunk) => socket.data.cutter.push(chunk),
    drain: (socket) => socket.data.out.drained()
  }
})

process.stdin.on("end", () => process.exit(0)).resume()
process.stdout.write(`${JSON.stringify({ ready: true, tcp: `127.0.0.1:${listener.port}` })}\n`)
