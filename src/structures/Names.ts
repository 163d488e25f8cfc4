/** Numbers for names, in the order in which they come up: 0, 1, 2 … up to a bound. */
export class Names {
  private readonly numbers = new Map<string, number>()
  private readonly names: Array<string> = []
  private readonly limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  get size(): number {
    return this.names.length
  }

  /** The number of `name`, or -1. */
  find(name: string): number {
    return this.numbers.get(name) ?? -1
  }

  /** The number of `name`, which gets one if it has none; -1 when the bound is reached. */
  add(name: string): number {
    const known = this.find(name)
    if (known >= 0 || this.names.length >= this.limit) return known
    this.numbers.set(name, this.names.length)
    return this.names.push(name) - 1
  }

  /** Gives a number another name; the old name has none any more. */
  rename(number: number, name: string): void {
    this.numbers.delete(this.names[number]!)
    this.numbers.set(name, number)
    this.names[number] = name
  }

  /** The name of a number that was given out. */
  nameOf(number: number): string {
    return this.names[number]!
  }

  all(): ReadonlyArray<string> {
    return this.names
  }
}
