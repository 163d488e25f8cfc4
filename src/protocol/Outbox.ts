import { At, HEADER_BYTES, HEADER_OFFSET, LENGTH_BYTES, readU32, writeU16, writeU32 } from "./Header.ts"
import type { TransportSocket } from "./Transport.ts"
import type { Task, Turn } from "./Turn.ts"

/** A frame that is all header: no chain, no extras, no payload. */
const PLAIN_FRAME_BYTES = HEADER_OFFSET + HEADER_BYTES + 3

const PAGE_BYTES = 64 * 1024
/** Most of what a peer gets in one turn fits here, and thousands of peers may get something in the same turn. */
const SMALL_PAGE_BYTES = 2 * 1024
/** Bytes of each page size kept for reuse by all outboxes of the process. An idle connection holds none. */
const SPARE_BYTES_MAX = 16 * 1024 * 1024
const sparePages: Array<Buffer> = []
const spareSmallPages: Array<Buffer> = []

const take = (bytes: number): Buffer => {
  if (bytes <= SMALL_PAGE_BYTES) return spareSmallPages.pop() ?? Buffer.allocUnsafeSlow(SMALL_PAGE_BYTES)
  if (bytes <= PAGE_BYTES) return sparePages.pop() ?? Buffer.allocUnsafeSlow(PAGE_BYTES)
  return Buffer.allocUnsafeSlow(bytes)
}

const give = (page: Buffer): void => {
  const size = page.length
  if (size !== PAGE_BYTES && size !== SMALL_PAGE_BYTES) return
  const spare = size === PAGE_BYTES ? sparePages : spareSmallPages
  if (spare.length * size < SPARE_BYTES_MAX) spare.push(page)
}

/** `bytes[start, end)` at the front of a buffer with room for `size` more. Moves at most as much as it makes room for. */
const moveToFront = (bytes: Buffer, start: number, end: number, size: number): Buffer => {
  const kept = end - start
  const wanted = kept === 0 ? size : 2 * (kept + size)
  if (wanted <= bytes.length) {
    bytes.copyWithin(0, start, end)
    return bytes
  }
  const larger = take(wanted)
  if (kept > 0) bytes.copy(larger, 0, start, end)
  give(bytes)
  return larger
}

const none = Buffer.alloc(0)

/**
 * The bytes on their way out of one socket.
 *
 * Frames are appended in place and leave together at the end of the turn. There are two lanes: data, in order; and control, which
 * overtakes data at the next frame boundary and so never waits behind it. What the kernel refuses is kept here, up to `limitBytes` in
 * either lane: one frame more, and the outbox closes and calls `overflowed`, once.
 *
 * Append: `const at = outbox.relay(…)` or `outbox.plain(…)` returns the offset of the frame in `outbox.bytes`; patch its header there,
 * before the next call. Cost of a relay and its share of the flush: about 15 ns. `outbox.pass(…)` appends what needs no patch: frames that
 * are neighbours where they come from cost one copy.
 */
export class Outbox implements Task {
  /** The data lane. Replaced when it grows or was sent: never keep it. */
  bytes: Buffer = none
  /** Most bytes of a lane. May be raised. */
  limitBytes: number
  private start = 0
  private end = 0
  /** How far `end` may go: to the end of the buffer, or to the limit. */
  private endMax = 0
  /** The first frame boundary at or after `start`. */
  private boundary = 0
  /** What was passed on and is not copied yet: `source[sourceStart, sourceEnd)`, to `target`. */
  private source: Buffer | undefined
  private sourceStart = 0
  private sourceEnd = 0
  private target = 0
  private urgent: Buffer = none
  private urgentStart = 0
  private urgentEnd = 0
  private state: "open" | "finishing" | "finished" | "closed" = "open"
  /** Whether this turn will flush. */
  private asked = false
  /** Whether the kernel refused bytes and has not called `drained` yet. */
  private blocked = false
  private blockedMs = 0
  private readonly socket: TransportSocket
  private readonly turn: Turn
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

  /** Whether so much waits that more is better kept elsewhere, or not made yet. */
  get isHalfFull(): boolean {
    return this.pending > this.limitBytes / 2
  }

  /** Since when the kernel has refused bytes, or undefined while it takes them. */
  get blockedSinceMs(): number | undefined {
    return this.blocked ? this.blockedMs : undefined
  }

  /** Whether the kernel refuses bytes and half of a lane is full: what can wait elsewhere should, until the socket has drained. */
  get isCrowded(): boolean {
    if (!this.blocked) return false
    return Math.max(this.end - this.start, this.urgentEnd - this.urgentStart) > this.limitBytes / 2
  }

  /** Copies a whole frame, its length prefix included, to the data lane. Returns its offset, or -1 when the outbox takes nothing any more. */
  relay(from: Buffer, start: number, end: number): number {
    const at = this.reserve(end - start)
    if (at >= 0) from.copy(this.bytes, at, start, end)
    return at
  }

  /**
   * Appends a whole frame that is already as the peer is to have it. Those that follow each other in `from` are copied together, at the
   * end of the turn at the latest: until then `from` must stay as it is.
   */
  pass(from: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start)
    if (at < 0) return
    if (from !== this.source || start !== this.sourceEnd || at - this.target !== start - this.sourceStart) {
      this.settle()
      this.source = from
      this.sourceStart = start
      this.target = at
    }
    this.sourceEnd = end
    // Nobody flushes while the kernel refuses bytes.
    if (this.blocked) this.settle()
  }

  /** Copies what was passed on, before its bytes are sent or others are passed on. */
  private settle(): void {
    const { source } = this
    if (source === undefined) return
    source.copy(this.bytes, this.target, this.sourceStart, this.sourceEnd)
    this.source = undefined
  }

  /** Appends a frame that is all header. Returns its offset, or -1. Fields other than type, stream and attempt are 0. */
  plain(type: number, stream: number, attempt: number): number {
    const at = this.reserve(PLAIN_FRAME_BYTES)
    if (at < 0) return at
    plainFrame.copy(this.bytes, at)
    const header = at + HEADER_OFFSET
    this.bytes[header + At.type] = type
    writeU16(this.bytes, header + At.attempt, attempt)
    writeU32(this.bytes, header + At.stream, stream)
    return at
  }

  /** Room for a frame of `size` bytes that the caller writes itself, at the returned offset of `bytes`. Returns -1 for none. */
  reserve(size: number): number {
    if (this.state !== "open" || (this.end + size > this.endMax && !this.makeRoom(size))) return -1
    const at = this.end
    this.end = at + size
    if (!this.asked && !this.blocked) this.ask()
    return at
  }

  /** Appends a frame to the control lane. */
  control(frame: Buffer): void {
    if (this.state !== "open") return
    const size = frame.length
    // As in the data lane: a full page leaves at once when the kernel takes it.
    if (this.urgentEnd - this.urgentStart + size > PAGE_BYTES && !this.blocked) this.flush()
    const kept = this.urgentEnd - this.urgentStart
    if (kept + size > this.limitBytes) return this.overflow()
    if (this.urgentEnd + size > this.urgent.length) {
      this.urgent = moveToFront(this.urgent, this.urgentStart, this.urgentEnd, size)
      this.urgentStart = 0
      this.urgentEnd = kept
    }
    frame.copy(this.urgent, this.urgentEnd)
    this.urgentEnd += size
    if (!this.asked && !this.blocked) this.ask()
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
    if (this.state !== "open") return
    this.state = "finishing"
    this.flush()
  }

  /** The socket is gone: forgets everything. */
  close(): void {
    this.state = "closed"
    give(this.bytes)
    give(this.urgent)
    this.bytes = this.urgent = none
    this.source = undefined
    this.start = this.end = this.endMax = this.boundary = this.urgentStart = this.urgentEnd = 0
  }

  private ask(): void {
    this.asked = true
    this.turn.flush(this)
  }

  private flush(): void {
    this.settle()
    while (!this.blocked) {
      // Control goes first, but never into the middle of a data frame.
      const isUrgent = this.urgentEnd > this.urgentStart
      if (isUrgent && this.start === this.boundary) this.writeUrgent()
      else if (this.end > this.start) this.writeData(isUrgent ? this.boundary : this.end)
      else break
    }
    if (this.state !== "finishing" || this.pending > 0) return
    this.state = "finished"
    this.socket.shutdown()
  }

  private writeUrgent(): void {
    this.urgentStart += this.write(this.urgent, this.urgentStart, this.urgentEnd)
    if (this.urgentStart < this.urgentEnd) return
    give(this.urgent)
    this.urgent = none
    this.urgentStart = this.urgentEnd = 0
  }

  private writeData(to: number): void {
    this.start += this.write(this.bytes, this.start, to)
    if (this.start < this.end) {
      this.endMax = Math.min(this.bytes.length, this.start + this.limitBytes)
      while (this.boundary < this.start) this.boundary += LENGTH_BYTES + readU32(this.bytes, this.boundary)
      return
    }
    give(this.bytes)
    this.bytes = none
    this.start = this.end = this.endMax = this.boundary = 0
  }

  private write(bytes: Buffer, from: number, to: number): number {
    const taken = this.socket.write(bytes, from, to - from)
    if (taken < to - from) {
      this.blocked = true
      this.blockedMs = this.nowMs()
    }
    return Math.max(0, taken)
  }

  /** Slow path of `reserve`. A full page leaves at once when the kernel takes it, so that a busy turn needs no large buffer. */
  private makeRoom(size: number): boolean {
    if (!this.blocked && this.end - this.start + size > PAGE_BYTES) this.flush()
    if (this.state !== "open") return false
    const kept = this.end - this.start
    if (kept + size > this.limitBytes) {
      this.overflow()
      return false
    }
    this.bytes = moveToFront(this.bytes, this.start, this.end, size)
    this.boundary -= this.start
    this.start = 0
    this.end = kept
    this.endMax = Math.min(this.bytes.length, this.limitBytes)
    return true
  }

  private overflow(): void {
    this.close()
    this.overflowed()
  }
}

const plainFrame = Buffer.alloc(PLAIN_FRAME_BYTES, 0)
writeU32(plainFrame, 0, PLAIN_FRAME_BYTES - LENGTH_BYTES)
plainFrame.set([0x94, 0xc4, HEADER_BYTES], LENGTH_BYTES)
plainFrame.fill(0xc0, HEADER_OFFSET + HEADER_BYTES)
