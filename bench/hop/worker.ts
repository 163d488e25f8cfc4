import { assert } from "../../src/structures/assert.ts"
import { At, HEADER_OFFSET, readU32, Type } from "../../src/protocol/Header.ts"
import { systemTimers } from "../../src/protocol/Timers.ts"
import {
  doneFrame,
  heartbeatFrame,
  helloFrame,
  pongFrame,
  registerFrame,
  Reply,
  streamDoneFrame,
  STREAM_TOKENS,
  tokenFrame,
  welcomeFrame
} from "./frames.ts"
import { Cutter, Out, type Sink } from "./wire.ts"

/*
 * The bench worker: answers at once, with bytes encoded beforehand. `bun bench/hop/worker.ts <host:port>…` opens `WORKER_LINKS` worker
 * connections to every address, listens for a generator that connects directly, and tells its parent `WorkerReady` over IPC.
 */

export const WORKER_LINKS = 8
/** What the parent is told once every connection was welcomed and has registered. */
export interface WorkerReady {
  readonly direct: string
}

const HEARTBEAT_MS = 250
/** A step is left out on a connection that holds this many bytes the kernel has not taken: its broker is behind. */
const STEP_PENDING_BYTES_MAX = 64 * 1024

/** Patches stream, attempt and epoch of the frame at `at` to those of the request at `from`: header bytes 2 to 11. */
const echo = (to: Buffer, at: number, from: Buffer, start: number): void => {
  for (let i = HEADER_OFFSET + At.attempt; i < HEADER_OFFSET + At.a; i++) to[at + i] = from[start + i]!
}
const small = doneFrame(Reply.small)
const large = doneFrame(Reply.large)
const tokens = Array.from({ length: STREAM_TOKENS }, (_, i) => tokenFrame(i))
const last = streamDoneFrame()
const frames = [...tokens, last]
const burst = Buffer.concat(frames)
const burstOffsets = Uint32Array.from(frames, (_, i) =>
  frames.slice(0, i).reduce((sum, f) => sum + f.length, 0)
)

const tokenBytes = tokens[0]!.length
/** A token's index is below 256: its last byte is all of it. */
const INDEX_AT = HEADER_OFFSET + At.tokenIndex + 3
assert(STREAM_TOKENS < 256, "a token's index fits a byte")

const stepping = new Set<Link>()
const step = (): void => {
  for (const link of stepping) {
    link.step()
    if (link.sequenceCount === 0) stepping.delete(link)
  }
  if (stepping.size > 0) setImmediate(step)
}

class Link implements Sink {
  readonly out: Out
  readonly cutter = new Cutter(this)
  /** Streams that get one token a step; their next TOKEN frames lie in `image`, one after the other. */
  sequenceCount = 0
  private image = Buffer.alloc(64 * tokenBytes)
  private readonly greeted: (link: Link) => void

  constructor(out: Out, greeted: (link: Link) => void) {
    this.out = out
    this.greeted = greeted
  }

  frame(bytes: Buffer, start: number): void {
    const type = bytes[start + HEADER_OFFSET]!
    if (type === Type.assign || type === Type.request) this.answer(bytes, start)
    else if (type === Type.hello) this.out.append(welcomeFrame)
    else if (type === Type.welcome) this.greeted(this)
    else if (type === Type.ping) this.out.append(pongFrame)
  }

  /** One token for every stream of this connection, in one write. */
  step(): void {
    const { out } = this
    if (out.pending > STEP_PENDING_BYTES_MAX) return
    const { image } = this
    const to = out.reserve(this.sequenceCount * tokenBytes)
    image.copy(out.bytes, to, 0, this.sequenceCount * tokenBytes)
    for (let i = this.sequenceCount - 1; i >= 0; i--) {
      const at = i * tokenBytes
      if (++image[at + INDEX_AT]! < STREAM_TOKENS) continue
      this.reply(last, image, at)
      const moved = --this.sequenceCount * tokenBytes
      image.copyWithin(at, moved, moved + tokenBytes)
    }
    out.flush()
  }

  private answer(bytes: Buffer, start: number): void {
    const reply = readU32(bytes, start + HEADER_OFFSET + At.idHigh)
    if (reply === Reply.small) this.reply(small, bytes, start)
    else if (reply === Reply.large) this.reply(large, bytes, start)
    else if (reply === Reply.burst) {
      const at = this.reply(burst, bytes, start)
      for (let i = 1; i < burstOffsets.length; i++) echo(this.out.bytes, at + burstOffsets[i]!, bytes, start)
    } else this.begin(bytes, start)
  }

  private begin(bytes: Buffer, start: number): void {
    const at = this.sequenceCount++ * tokenBytes
    if (at === this.image.length) this.image = Buffer.concat([this.image, Buffer.alloc(at)])
    tokens[0]!.copy(this.image, at)
    echo(this.image, at, bytes, start)
    if (stepping.size === 0) setImmediate(step)
    stepping.add(this)
  }

  private reply(answer: Buffer, bytes: Buffer, start: number): number {
    const { out } = this
    const at = out.reserve(answer.length)
    answer.copy(out.bytes, at)
    echo(out.bytes, at, bytes, start)
    return at
  }
}

const socket = (greeted: (link: Link) => void, hello: Buffer | undefined) => ({
  binaryType: "buffer" as const,
  open: (socket: Bun.Socket<Link>) => {
    socket.setNoDelay(true)
    socket.data = new Link(new Out(socket), greeted)
    if (hello !== undefined) socket.data.out.append(hello)
    socket.data.out.flush()
  },
  data: (socket: Bun.Socket<Link>, chunk: Buffer) => {
    socket.data.cutter.push(chunk)
    socket.data.out.flush()
  },
  drain: (socket: Bun.Socket<Link>) => socket.data.out.drained(),
  close: (socket: Bun.Socket<Link>) => {
    stepping.delete(socket.data)
    links.delete(socket.data)
  }
})

const addresses = process.argv.slice(2)
const links = new Set<Link>()
const listener = Bun.listen<Link>({
  hostname: "127.0.0.1",
  port: 0,
  socket: socket(() => undefined, undefined)
})

const ready = (): void => {
  const told: WorkerReady = { direct: `127.0.0.1:${listener.port}` }
  process.send?.(told)
}
const register = (link: Link): void => {
  links.add(link)
  link.out.append(registerFrame)
  link.out.append(heartbeatFrame)
  link.out.flush()
  if (links.size === WORKER_LINKS * addresses.length) ready()
}
systemTimers.every(HEARTBEAT_MS, () => {
  for (const { out } of links) {
    out.append(heartbeatFrame)
    out.flush()
  }
})
for (const address of addresses) {
  const [hostname, port] = address.split(":")
  for (let i = 0; i < WORKER_LINKS; i++) {
    const hello = helloFrame("worker", `bench-${i}`, i + 1)
    void Bun.connect<Link>({ hostname: hostname!, port: Number(port), socket: socket(register, hello) })
  }
}
if (addresses.length === 0) ready()
process.on("disconnect", () => process.exit(0))
