import { HEADER_BYTES, HEADER_OFFSET, LENGTH_BYTES, readU32 } from "./Header.ts"

/** Smallest body: array mark, header, and three nils. */
const BODY_BYTES_MIN = HEADER_OFFSET - LENGTH_BYTES + HEADER_BYTES + 3

/** What a `FrameReader` calls. */
export interface FrameSink {
  /**
   * One whole frame: `bytes[start]` is the first byte of its length prefix, `bytes[end]` the first byte after it.
   * The bytes may be read during the call only. Returning false stops the reader: nothing more is delivered, ever.
   */
  readonly frame: (bytes: Buffer, start: number, end: number) => boolean
  /** The stream cannot be read any further. The reader has stopped. */
  readonly broken: (why: "tooShort" | "tooLong" | "shape") => void
}

/**
 * Cuts a byte stream into frames, whatever the chunking.
 *
 * Frames that lie whole in a chunk are delivered in place, without a copy. A split one is collected in a buffer that is allocated
 * once, from the validated length: cost linear in the bytes, memory at most one frame. `limit` is the largest body accepted now.
 */
export class FrameReader {
  /** Largest body, in bytes. Raised once the peer is known. */
  limit: number
  private readonly sink: FrameSink
  private stopped = false
  /** The frame being collected; `held` bytes of it are there. While the length is unknown it is the 4-byte prefix. */
  private partial: Buffer | undefined
  private held = 0

  constructor(sink: FrameSink, limit: number) {
    this.sink = sink
    this.limit = limit
  }

  /** Whether a frame was begun and is not complete. */
  get midFrame(): boolean {
    return this.partial !== undefined
  }

  push(chunk: Buffer): void {
    let at = 0
    if (this.partial !== undefined) at = this.fill(chunk)
    const size = chunk.length
    while (!this.stopped && size - at >= LENGTH_BYTES) {
      const end = at + LENGTH_BYTES + this.bodyLength(chunk, at)
      if (this.stopped) return
      if (end > size) return this.begin(chunk, at, end - at)
      this.deliver(chunk, at, end)
      at = end
    }
    if (!this.stopped && at < size) this.begin(chunk, at, LENGTH_BYTES)
  }

  private bodyLength(bytes: Buffer, at: number): number {
    const length = readU32(bytes, at)
    if (length >= BODY_BYTES_MIN && length <= this.limit) return length
    this.stopped = true
    this.sink.broken(length > this.limit ? "tooLong" : "tooShort")
    return 0
  }

  private begin(chunk: Buffer, at: number, size: number): void {
    this.partial = Buffer.allocUnsafe(size)
    this.held = chunk.copy(this.partial, 0, at)
  }

  /** Adds the head of `chunk` to the frame being collected; returns how much of it was used. */
  private fill(chunk: Buffer): number {
    let used = 0
    while (this.partial !== undefined && used < chunk.length) {
      const taken = chunk.copy(this.partial, this.held, used)
      this.held += taken
      used += taken
      if (this.held < this.partial.length) break
      const whole = this.partial
      if (whole.length === LENGTH_BYTES) {
        const length = this.bodyLength(whole, 0)
        if (this.stopped) break
        this.partial = Buffer.allocUnsafe(LENGTH_BYTES + length)
        whole.copy(this.partial)
      } else {
        this.partial = undefined
        this.deliver(whole, 0, whole.length)
      }
    }
    return this.stopped ? chunk.length : used
  }

  private deliver(bytes: Buffer, start: number, end: number): void {
    const mark = bytes[start + LENGTH_BYTES]!
    const headerBytes = bytes[start + LENGTH_BYTES + 2]!
    const shaped =
      mark >= 0x94 &&
      mark <= 0x9f &&
      bytes[start + LENGTH_BYTES + 1] === 0xc4 &&
      headerBytes >= HEADER_BYTES &&
      start + HEADER_OFFSET + headerBytes + 3 <= end
    if (!shaped) {
      this.stopped = true
      this.sink.broken("shape")
    } else if (!this.sink.frame(bytes, start, end)) this.stopped = true
  }
}
