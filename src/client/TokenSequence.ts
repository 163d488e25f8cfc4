import { FIRST_CREDIT } from "../protocol/Limits.ts"

/**
 * What one answer's tokens must obey, and the credit that paces them.
 *
 * Indexes are 0, 1, 2 … with no gap and no repetition, all of one attempt, none beyond the credit. Credit is granted when half of the
 * window has been read, so that a steady reader never stalls the worker and costs one CREDIT for every 128 tokens.
 */
export class TokenSequence {
  /** Index of the next token, which is also how many were accepted. */
  next = 0
  /** The attempt all tokens belong to; 0 before the first one. */
  attempt = 0
  /** The worker may send tokens with an index below this. */
  creditUpTo = FIRST_CREDIT
  private readCount = 0

  /** Takes tokens `index … index + count - 1` in. Returns the broken rule, if any: then nothing was taken in. */
  accept(attempt: number, index: number, count: number): string | undefined {
    if (count < 1) return "a TOKEN frame holds no token"
    if (this.next > 0 && attempt !== this.attempt)
      return `tokens of attempt ${attempt} follow some of attempt ${this.attempt}`
    if (index !== this.next) return `token ${index} came where ${this.next} was due`
    if (index + count > this.creditUpTo)
      return `token ${index + count - 1} came with credit up to ${this.creditUpTo}`
    this.attempt = attempt
    this.next = index + count
    return undefined
  }

  /** The reader used `count` more tokens. Returns the new credit to grant, or 0 for none. */
  read(count: number): number {
    this.readCount += count
    if (this.readCount + FIRST_CREDIT - this.creditUpTo < FIRST_CREDIT / 2) return 0
    this.creditUpTo = this.readCount + FIRST_CREDIT
    return this.creditUpTo
  }
}
