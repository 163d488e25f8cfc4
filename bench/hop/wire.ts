import { LENGTH_BYTES, readU32 } from "../../src/protocol/Header.ts"

/*
 * The bare reader and writer of the relay, the generator and the worker. They are separate from `src/protocol` on purpose: the yardstick
 * must not move with what it measures, and it checks nothing.
 */

interface Writable {
  readonly write: (bytes: Buffer, from: number, length: number) => number
}

/** Bytes on their way out of one socket: `reserve` room, write the frame there, `flush` when the turn or the chunk is over. */
export class Out {
  bytes = Buffer.allocUnsafeSlow(16 * 1024)
  /** Whether the owner has put it on its list of sockets to flush. */
  listed = false
  private start = 0
  private end = 0
  private blocked = false
  private readonly socket: Writable

  constructor(socket: Writable) {
    this.socket = socket
  }

  /** Bytes the kernel has not taken. */
  get pending(): number {
    return this.end - this.start
  }

  /** Room for `size` bytes at the returned offset of `bytes`. */
  reserve(size: number): number {
    if (this.end + size > this.bytes.length) this.grow(size)
    const at = this.end
    this.end = at + size
    return at
  }

  append(frame: Buffer): void {
    frame.copy(this.bytes, this.reserve(frame.length))
  }

  flush(): void {
    this.listed = false
    if (this.blocked || this.end === this.start) return
    const taken = this.socket.write(this.bytes, this.start, this.end - this.start)
    if (taken >= 0) this.start += taken
    if (this.start === this.end) this.start = this.end = 0
    else this.blocked = true
  }

  drained(): void {
    this.blocked = false
    this.flush()
  }

  private grow(size: number): void {
    const kept = this.end - this.start
    const larger =
      2 * (kept + size) <= this.bytes.length ? this.bytes : Buffer.allocUnsafeSlow(4 * (kept + size))
    this.bytes.copy(larger, 0, this.start, this.end)
    this.bytes = larger
    this.start = 0
    this.end = kept
  }
}

export interface Sink {
  /** One whole frame, length prefix included, to be read during the call. */
  readonly frame: (bytes: Buffer, start: number, end: number) => void
}

/** Cuts a byte stream into frames: in place where they lie whole in a chunk, else from a buffer of their own. */
export class Cutter {
  private readonly sink: Sink
  private partial: Buffer | undefined
  private held = 0

  constructor(sink: Sink) {
    this.sink = sink
  }

  push(chunk: Buffer): void {
    let at = this.partial === undefined ? 0 : this.complete(chunk)
    const size = chunk.length
    while (size - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + readU32(chunk, at)
      if (end > size) break
      this.sink.frame(chunk, at, end)
      at = end
    }
    if (at === size) return
    const room = size - at < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + readU32(chunk, at)
    this.partial = Buffer.allocUnsafe(room)
    this.held = chunk.copy(this.partial, 0, at)
  }

  /** Adds the head of `chunk` to the frame that was begun; returns how much of it was used. */
  private complete(chunk: Buffer): number {
    let used = 0
    while (this.partial !== undefined && used < chunk.length) {
      const taken = chunk.copy(this.partial, this.held, used)
      this.held += taken
      used += taken
      if (this.held < this.partial.length) break
      const whole = this.partial
      this.partial = undefined
      if (whole.length > LENGTH_BYTES) this.sink.frame(whole, 0, whole.length)
      else {
        this.partial = Buffer.allocUnsafe(LENGTH_BYTES + readU32(whole, 0))
        whole.copy(this.partial)
      }
    }
    return used
  }
}
