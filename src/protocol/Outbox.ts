import { assert } from "../structures/assert.ts"
import { At, HEADER_BYTES, HEADER_OFFSET, LENGTH_BYTES, readU32, writeU16, writeU32 } from "./Header.ts"
import type { TransportSocket } from "./Transport.ts"
import type { Task, Turn } from "./Turn.ts"

/** A frame's body after its header when it has no chain, no extras and no payload. */
const NIL = 0xc0
const PLAIN_BODY_BYTES = HEADER_OFFSET - LENGTH_BYTES + HEADER_BYTES + 3
export const PLAIN_FRAME_BYTES = LENGTH_BYTES + PLAIN_BODY_BYTES

const PAGE_BYTES = 64 * 1024
/** Pages kept for reuse by all outboxes of the process: an idle connection holds none. */
const SPARE_PAGES_MAX = 64
const spare: Array<Buffer> = []
const takePage = (): Buffer => spare.pop() ?? Buffer.allocUnsafeSlow(PAGE_BYTES)
const givePage = (page: Buffer): void => {
  if (page.length === PAGE_BYTES && spare.length < SPARE_PAGES_MAX) spare.push(page)
}
const noPage = Buffer.alloc(0)

/**
 * The bytes on their way out of one socket.
 *
 * Frames are appended in place and leave together at the end of the turn. There are two lanes: data, in order; and control, which
 * overtakes data at the next frame boundary and so never waits behind it. The kernel's refusals are kept here, up to `limitBytes`:
 * above that `overflowed` is called, once.
 *
 * Append: `const at = outbox.relay(…)` or `outbox.plain(…)` returns the offset of the frame in `outbox.bytes`; patch its header there,
 * before the next call.
 */
export class Outbox implements Task {
  /** The data lane. Replaced when it grows: never keep it. */
  bytes: Buffer = noPage
  private start = 0
  private end = 0
  /** The first frame boundary at or after `start`. */
  private boundary = 0
  private urgent: Buffer = noPage
  private urgentStart = 0
  private urgentEnd = 0
  private asked = false
  private blocked = false
  private closed = false
  private blockedAt = 0
  private closing = false
  private readonly socket: TransportSocket
  private readonly turn: Turn
  private readonly limitBytes: number
  private readonly overflowed: () => void
  private readonly nowMs: () => number

  constructor(options: {
    readonly socket: TransportSocket
    readonly turn: Turn
    readonly limitBytes: number
    readonly nowMs: () => number
    readonly overflowed: () => void
  }) {
    this.socket = options.socket
    this.turn = options.turn
    this.limitBytes = options.limitBytes
    this.nowMs = options.nowMs
    this.overflowed = options.overflowed
  }

  /** Bytes that wait for the peer to read. */
  get pending(): number {
    return this.end - this.start + this.urgentEnd - this.urgentStart
  }

  /** Since when the kernel has refused bytes, or undefined while it takes them. */
  get blockedSinceMs(): number | undefined {
    return this.blocked ? this.blockedAt : undefined
  }

  /** Copies a whole frame, its length prefix included, to the data lane. Returns its offset, or -1 when the outbox is closed or full. */
  relay(from: Buffer, start: number, end: number): number {
    const at = this.reserve(end - start)
    if (at >= 0) from.copy(this.bytes, at, start, end)
    return at
  }

  /** Appends a frame that is all header. Returns its offset, or -1. Fields other than type, stream and attempt are 0. */
  plain(type: number, stream: number, attempt: number): number {
    const at = this.reserve(PLAIN_FRAME_BYTES)
    if (at >= 0) writePlain(this.bytes, at, type, stream, attempt)
    return at
  }

  /** Room for a frame of `size` bytes that the caller writes itself, at the returned offset of `bytes`. Returns -1 for none. */
  reserve(size: number): number {
    if (this.closed || this.closing) return -1
    if (this.end + size > this.bytes.length && !this.makeRoom(size)) return -1
    const at = this.end
    this.end = at + size
    if (!this.asked && !this.blocked) {
      this.asked = true
      this.turn.flush(this)
    }
    return at
  }

  /** Appends a frame to the control lane. */
  control(frame: Buffer): void {
    if (this.closed || this.closing) return
    const size = frame.length
    if (this.urgentEnd + size > this.urgent.length) {
      const kept = this.urgentEnd - this.urgentStart
      if (kept + size > PAGE_BYTES) return this.overflow()
      const larger = this.urgent.length === PAGE_BYTES ? this.urgent : takePage()
      this.urgent.copy(larger, 0, this.urgentStart, this.urgentEnd)
      this.urgent = larger
      this.urgentStart = 0
      this.urgentEnd = kept
    }
    frame.copy(this.urgent, this.urgentEnd)
    this.urgentEnd += size
    if (!this.asked && !this.blocked) {
      this.asked = true
      this.turn.flush(this)
    }
  }

  /** The end of the turn: hands everything to the kernel. */
  readonly run = (): void => {
    this.asked = false
    this.flush()
  }

  /** The kernel takes bytes again. */
  drained(): void {
    this.blocked = false
    this.flush()
  }

  /** Sends what is there, then FIN. Nothing can be appended any more. */
  finish(): void {
    if (this.closed || this.closing) return
    this.closing = true
    this.flush()
  }

  /** The socket is gone: forgets everything. */
  close(): void {
    this.closed = true
    givePage(this.bytes)
    givePage(this.urgent)
    this.bytes = noPage
    this.urgent = noPage
    this.start = this.end = this.boundary = this.urgentStart = this.urgentEnd = 0
  }

  private flush(): void {
    while (!this.closed && !this.blocked) {
      // Control goes first, but never into the middle of a data frame.
      if (this.urgentEnd > this.urgentStart && this.start === this.boundary) this.writeUrgent()
      else if (this.end > this.start) this.writeData(this.urgentEnd > this.urgentStart ? this.boundary : this.end)
      else break
    }
    if (this.closed || this.pending > 0) return
    if (this.bytes.length > 0) {
      givePage(this.bytes)
      this.bytes = noPage
    }
    if (this.closing) this.socket.shutdown()
  }

  private writeUrgent(): void {
    const taken = this.write(this.urgent, this.urgentStart, this.urgentEnd)
    this.urgentStart += taken
    if (this.urgentStart < this.urgentEnd) return
    givePage(this.urgent)
    this.urgent = noPage
    this.urgentStart = this.urgentEnd = 0
  }

  private writeData(to: number): void {
    this.start += this.write(this.bytes, this.start, to)
    if (this.start === this.end) this.start = this.end = this.boundary = 0
    else while (this.boundary < this.start) this.boundary += LENGTH_BYTES + readU32(this.bytes, this.boundary)
  }

  private write(bytes: Buffer, from: number, to: number): number {
    const taken = this.socket.write(bytes, from, to - from)
    if (taken < to - from) {
      if (!this.blocked) this.blockedAt = this.nowMs()
      this.blocked = true
    }
    return Math.max(0, taken)
  }

  /** Slow path of `reserve`: a first page, an early flush, a move to the front, a larger buffer, in this order. */
  private makeRoom(size: number): boolean {
    if (this.bytes.length === 0) {
      this.bytes = size <= PAGE_BYTES ? takePage() : Buffer.allocUnsafeSlow(size)
      return true
    }
    if (!this.blocked) this.flush()
    if (this.closed) return false
    if (this.bytes.length === 0) return this.makeRoom(size)
    const kept = this.end - this.start
    if (kept + size > this.limitBytes) {
      this.overflow()
      return false
    }
    const larger = kept + size <= this.bytes.length ? this.bytes : Buffer.allocUnsafeSlow(Math.max(2 * this.bytes.length, kept + size))
    this.bytes.copy(larger, 0, this.start, this.end)
    if (larger !== this.bytes) givePage(this.bytes)
    this.bytes = larger
    this.boundary -= this.start
    this.start = 0
    this.end = kept
    assert(this.end + size <= this.bytes.length, "a frame fits the room made for it")
    return true
  }

  private overflow(): void {
    if (!this.closed) this.overflowed()
  }
}

/** Writes a header-only frame at `at`. */
export const writePlain = (bytes: Buffer, at: number, type: number, stream: number, attempt: number): void => {
  writeU32(bytes, at, PLAIN_BODY_BYTES)
  bytes[at + 4] = 0x94
  bytes[at + 5] = 0xc4
  bytes[at + 6] = HEADER_BYTES
  const header = at + HEADER_OFFSET
  bytes.fill(0, header, header + HEADER_BYTES)
  bytes[header + At.type] = type
  writeU16(bytes, header + At.attempt, attempt)
  writeU32(bytes, header + At.stream, stream)
  const tail = header + HEADER_BYTES
  bytes[tail] = NIL
  bytes[tail + 1] = NIL
  bytes[tail + 2] = NIL
}
