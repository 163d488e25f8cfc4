/** Slots of a mailbox that has seen its first message. A power of two, as every later size. */
const FIRST_SLOTS = 16

/**
 * A bounded first-in-first-out queue on an array used as a ring. Grows by doubling up to what `capacity` needs and keeps what it has.
 * `offer` and `take` cost O(1) amortised and, once grown, allocate nothing; numbers are stored unboxed.
 */
export class Mailbox<M> {
  size = 0
  private readonly capacity: number
  private slots: Array<M | undefined> = []
  private head = 0

  constructor(capacity: number) {
    this.capacity = capacity
  }

  /** False when full; the message is then not kept. */
  offer(message: M): boolean {
    if (this.size >= this.capacity) return false
    if (this.size === this.slots.length) this.grow()
    this.slots[(this.head + this.size) & (this.slots.length - 1)] = message
    this.size++
    return true
  }

  /** The oldest message. Only while `size > 0`. */
  take(): M {
    const message = this.slots[this.head] as M
    this.slots[this.head] = undefined
    this.head = (this.head + 1) & (this.slots.length - 1)
    this.size--
    return message
  }

  private grow(): void {
    const { head, slots } = this
    const grown = [...slots.slice(head), ...slots.slice(0, head)]
    const size = Math.max(FIRST_SLOTS, slots.length * 2)
    while (grown.length < size) grown.push(undefined)
    this.slots = grown
    this.head = 0
  }
}
