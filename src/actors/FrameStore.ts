import { grow, words } from "../structures/grow.ts"

/** A request frame up to this size lies in its slot's own cell; a longer one in a block of its own. */
const CELL_BYTES = 512
const CELLS_MIN = 1024
/** Blocks are multiples of this, so that one fits many frames. */
const BLOCK_BYTES = 1024
/** Bytes of blocks kept for reuse: a new one for each frame of 4 KiB would keep the collector busy. */
const SPARE_BYTES_MAX = 16 * 1024 * 1024

/**
 * Keeps the frame of every request until it can no longer be needed for another attempt. Indexed by slot.
 * A frame costs one copy and, once there are spare blocks, no allocation. `limitBytes` bounds the long ones in total, before they are
 * rounded up to blocks.
 */
export class FrameStore {
  private cells = Buffer.allocUnsafeSlow(CELLS_MIN * CELL_BYTES)
  private lengths = new Uint32Array(CELLS_MIN)
  private readonly long: Array<Buffer | undefined> = []
  private longBytes = 0
  /** Blocks that hold nothing, by their size in `BLOCK_BYTES`. */
  private readonly spare: Array<Array<Buffer>> = []
  private spareBytes = 0
  private readonly limitBytes: number

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  /** Copies a frame. False when there is no room for it. */
  hold(slot: number, bytes: Buffer, start: number, end: number): boolean {
    const size = end - start
    if (slot >= this.lengths.length) this.grow(slot)
    if (size <= CELL_BYTES) bytes.copy(this.cells, slot * CELL_BYTES, start, end)
    else {
      if (this.longBytes + size > this.limitBytes) return false
      const block = this.take(size)
      bytes.copy(block, 0, start, end)
      this.long[slot] = block
      this.longBytes += size
    }
    this.lengths[slot] = size
    return true
  }

  /** The buffer that holds the frame of `slot`, from `startOf(slot)` on, `lengthOf(slot)` bytes. Valid until the next `hold`. */
  bytesOf(slot: number): Buffer {
    return this.long[slot] ?? this.cells
  }

  startOf(slot: number): number {
    return this.long[slot] === undefined ? slot * CELL_BYTES : 0
  }

  lengthOf(slot: number): number {
    return this.lengths[slot]!
  }

  /** Forgets the frame of `slot`, if it is a long one. */
  drop(slot: number): void {
    const block = this.long[slot]
    if (block === undefined) return
    this.long[slot] = undefined
    this.longBytes -= this.lengths[slot]!
    if (this.spareBytes + block.length > SPARE_BYTES_MAX) return
    this.spareBytes += block.length
    this.spareOf(block.length).push(block)
  }

  private take(size: number): Buffer {
    const block = this.spareOf(size).pop()
    if (block === undefined) return Buffer.allocUnsafeSlow(Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES)
    this.spareBytes -= block.length
    return block
  }

  private spareOf(size: number): Array<Buffer> {
    return (this.spare[Math.ceil(size / BLOCK_BYTES)] ??= [])
  }

  private grow(slot: number): void {
    this.lengths = grow(this.lengths, slot, words)
    const cells = Buffer.allocUnsafeSlow(this.lengths.length * CELL_BYTES)
    this.cells.copy(cells)
    this.cells = cells
  }
}
