import { FIRST_CREDIT, FIRST_CREDIT_BYTES, mayFollow } from "../protocol/Limits.ts"

/** As far as a credit in bytes can go: no answer is longer than 4 GiB. */
const BYTES_MAX = 0xffff_ffff

/**
 * What one answer's tokens must obey, and the credit that paces them.
 *
 * Indexes are 0, 1, 2 … with no gap and no repetition, all of one attempt, none beyond the credit, neither in tokens nor in bytes of
 * frames. Credit is granted when half of the window has been read, so that a steady reader never stalls the worker and costs one CREDIT
 * for every 128 tokens or 32 KiB.
 */
export class TokenSequence {
  /** Index of the next token, which is also how many were accepted. */
  next = 0
  /** The attempt all tokens belong to; 0 before the first one. */
  attempt = 0
  /** The worker may send tokens with an index below this. */
  creditUpTo = FIRST_CREDIT
  /** Bytes of the frames it may send in all. */
  creditUpToBytes = FIRST_CREDIT_BYTES
  private readCount = 0
  private acceptedBytes = 0
  /** Bytes of frames that are known to have been read. Readers count tokens, so this is known when they are past the mark. */
  private readBytes = 0
  /** A place between two frames: so many tokens, and so many bytes, come before it. */
  private mark = 0
  private markBytes = 0

  /**
   * Takes the frame of tokens `index … index + count - 1` in, which is `frameBytes` long. Returns the broken rule, if any: then nothing
   * was taken in.
   */
  accept(attempt: number, index: number, count: number, frameBytes: number): string | undefined {
    if (count < 1) return "a TOKEN frame holds no token"
    if (this.next > 0 && attempt !== this.attempt)
      return `tokens of attempt ${attempt} follow some of attempt ${this.attempt}`
    if (index !== this.next) return `token ${index} came where ${this.next} was due`
    if (index + count > this.creditUpTo)
      return `token ${index + count - 1} came with credit up to ${this.creditUpTo}`
    const bytes = this.acceptedBytes + frameBytes
    if (!mayFollow(this.acceptedBytes, frameBytes, this.creditUpToBytes))
      return `byte ${bytes} came with credit up to ${this.creditUpToBytes}`
    this.attempt = attempt
    this.next = index + count
    this.acceptedBytes = bytes
    // The mark moves on until more than a grant's worth of bytes lies before it: too many for a frame beyond the credit to come.
    if (this.markBytes - this.readBytes <= FIRST_CREDIT_BYTES / 2) this.setMark()
    return undefined
  }

  /** The reader used `count` more tokens. True when there is more credit to grant. */
  read(count: number): boolean {
    this.readCount += count
    if (this.readCount >= this.mark) {
      this.readBytes = this.markBytes
      this.setMark()
    }
    const upTo = this.readCount + FIRST_CREDIT
    const upToBytes = Math.min(this.readBytes + FIRST_CREDIT_BYTES, BYTES_MAX)
    if (
      upTo - this.creditUpTo < FIRST_CREDIT / 2 &&
      upToBytes - this.creditUpToBytes < FIRST_CREDIT_BYTES / 2
    )
      return false
    this.creditUpTo = upTo
    this.creditUpToBytes = upToBytes
    return true
  }

  private setMark(): void {
    this.mark = this.next
    this.markBytes = this.acceptedBytes
  }
}
