import {
  At,
  HEADER_BYTES,
  HEADER_OFFSET,
  LENGTH_BYTES,
  readU32,
  REQUEST_HEADER_BYTES,
  Type
} from "./Header.ts"

/** Smallest body: array mark, header, and three nils. */
const BODY_BYTES_MIN = HEADER_OFFSET - LENGTH_BYTES + HEADER_BYTES + 3
/** Smallest header by frame type. A larger one is fine: what follows the known fields is ignored. */
const headerBytesMin = new Uint8Array(256).fill(HEADER_BYTES)
headerBytesMin[Type.request] = headerBytesMin[Type.assign] = REQUEST_HEADER_BYTES

/**
 * What one `push` or `next` cuts out of a chunk at most: so many TOKENs, which are passed on unread, or so many other frames, which ask
 * for work; of both, in proportion. A chunk may hold 13 000 frames: the rest waits for a later turn, so that one peer
 * cannot keep the others waiting for long. Slices of 256 TOKENs were measured to cost a third more CPU a token.
 */
export const TOKENS_PER_SLICE = 4096
export const FRAMES_PER_SLICE = 256
/** A frame that is no TOKEN, in TOKENs. */
const FRAME_WEIGHT = TOKENS_PER_SLICE / FRAMES_PER_SLICE

/** What a `FrameReader` calls. */
export interface FrameSink {
  /**
   * One whole frame: `bytes[start]` is the first byte of its length prefix, `bytes[end]` the first byte after it.
   * The bytes are the sink's until the end of the turn. Returning false stops the reader: nothing more is delivered, ever.
   */
  readonly frame: (bytes: Buffer, start: number, end: number) => boolean
  /** The stream cannot be read any further. The reader has stopped. `length` is what the length prefix says. */
  readonly broken: (why: "tooShort" | "tooLong" | "shape", length: number) => void
}

/**
 * Cuts a byte stream into frames, whatever the chunking.
 *
 * Frames that lie whole in a chunk are delivered in place, without a copy. A split one is collected in a buffer that is allocated
 * once, from the validated length: cost linear in the bytes, memory at most one frame, and one chunk while `behind`.
 */
export class FrameReader {
  /** Largest body accepted now, in bytes. Raised once the peer is known. */
  limit: number
  /** Frames that were begun in one chunk and ended, or will end, in a later one. */
  split = 0
  private readonly sink: FrameSink
  private stopped = false
  /** The frame being collected; `held` bytes of it are there. While the length is unknown it is the 4-byte prefix. */
  private partial: Buffer | undefined
  private held = 0
  /** The chunk whose frames from `restAt` on wait for the next slice. */
  private rest: Buffer | undefined
  private restAt = 0

  constructor(sink: FrameSink, limit: number) {
    this.sink = sink
    this.limit = limit
  }

  /** Whether a frame was begun and is not complete. */
  get midFrame(): boolean {
    return this.partial !== undefined
  }

  /** Whether `next` has something to do. */
  get behind(): boolean {
    return this.rest !== undefined
  }

  /** Takes a chunk and delivers a slice of it. One that comes too early pushes out what is left of the one before. */
  push(chunk: Buffer): void {
    while (this.rest !== undefined) this.next()
    this.cut(chunk, this.partial === undefined ? 0 : this.fill(chunk))
  }

  /** Delivers one more slice of the chunk that `push` left behind. */
  next(): void {
    const { rest } = this
    if (rest === undefined) return
    this.rest = undefined
    this.cut(rest, this.restAt)
  }

  private cut(chunk: Buffer, from: number): void {
    const size = chunk.length
    let at = from
    let slice = TOKENS_PER_SLICE
    while (!this.stopped && size - at >= LENGTH_BYTES) {
      if (slice <= 0) {
        this.rest = chunk
        this.restAt = at
        return
      }
      const end = at + LENGTH_BYTES + this.bodyLength(chunk, at)
      if (this.stopped) return
      if (end > size) return this.begin(chunk, at, end - at)
      slice -= chunk[at + HEADER_OFFSET + At.type] === Type.token ? 1 : FRAME_WEIGHT
      this.deliver(chunk, at, end)
      at = end
    }
    if (!this.stopped && at < size) this.begin(chunk, at, LENGTH_BYTES)
  }

  private bodyLength(bytes: Buffer, at: number): number {
    const length = readU32(bytes, at)
    if (length >= BODY_BYTES_MIN && length <= this.limit) return length
    this.stop(length > this.limit ? "tooLong" : "tooShort", length)
    return 0
  }

  private begin(chunk: Buffer, at: number, size: number): void {
    this.split++
    this.partial = Buffer.allocUnsafe(size)
    this.held = chunk.copy(this.partial, 0, at)
  }

  /** Adds the head of `chunk` to the frame being collected; returns how much of it was used. */
  private fill(chunk: Buffer): number {
    let used = 0
    while (this.partial !== undefined && used < chunk.length) {
      const whole = this.partial
      const taken = chunk.copy(whole, this.held, used)
      this.held += taken
      used += taken
      if (this.held < whole.length) break
      this.partial = undefined
      if (whole.length > LENGTH_BYTES) this.deliver(whole, 0, whole.length)
      else {
        const length = this.bodyLength(whole, 0)
        if (this.stopped) break
        this.partial = Buffer.allocUnsafe(LENGTH_BYTES + length)
        whole.copy(this.partial)
      }
    }
    return used
  }

  private deliver(bytes: Buffer, start: number, end: number): void {
    const mark = bytes[start + LENGTH_BYTES]!
    const headerBytes = bytes[start + HEADER_OFFSET - 1]!
    const isFrame =
      mark >= 0x94 &&
      mark <= 0x9f &&
      bytes[start + LENGTH_BYTES + 1] === 0xc4 &&
      headerBytes >= headerBytesMin[bytes[start + HEADER_OFFSET + At.type]!]! &&
      start + HEADER_OFFSET + headerBytes + 3 <= end
    if (!isFrame) this.stop("shape", end - start - LENGTH_BYTES)
    else if (!this.sink.frame(bytes, start, end)) this.stopped = true
  }

  private stop(why: "tooShort" | "tooLong" | "shape", length: number): void {
    this.stopped = true
    this.sink.broken(why, length)
  }
}
