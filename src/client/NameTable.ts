/** Names numbered on one connection at a time. Few, because a name that lost its number merely travels once more. */
const NAMES_MAX = 64

/**
 * Numbers for names on one connection, from 1 (0 means none given).
 *
 * A name is sent with the first request that uses its number. Beyond 64 names the oldest number is given away: frames of a connection are
 * read in order, so earlier requests keep the meaning it had.
 */
export class NameTable {
  private readonly numbers = new Map<string, number>()
  private readonly free: Array<number> = []

  /** The number of a name the other side knows, or undefined. */
  known(name: string): number | undefined {
    return this.numbers.get(name)
  }

  /** Gives an unknown name a number; the caller sends both. */
  define(name: string): number {
    if (this.numbers.size === NAMES_MAX) this.forget(this.numbers.keys().next().value!)
    const number = this.free.pop() ?? this.numbers.size + 1
    this.numbers.set(name, number)
    return number
  }

  /** Takes a name's number away, so that the name travels again with its next use. */
  forget(name: string): void {
    const number = this.numbers.get(name)
    if (number === undefined) return
    this.numbers.delete(name)
    this.free.push(number)
  }
}
