/**
 * Who has connected and not said who it is, by address, so that one address cannot take every place.
 *
 * One address may have any number of them for a short while: a process that opens a thousand connections at once greets on each of them
 * only when it comes round to it. Memory: one entry a connection. Cost O(1) a call, and O(1) for each one that has to go.
 */
export class Strangers<Peer> {
  /** The time of arrival of each, in the order of arrival. */
  private readonly byAddress = new Map<string, Map<Peer, number>>()
  private readonly limit: number
  private readonly graceMs: number

  constructor(limit: number, graceMs: number) {
    this.limit = limit
    this.graceMs = graceMs
  }

  add(address: string, peer: Peer, nowMs: number): void {
    const present = this.byAddress.get(address)
    if (present === undefined) this.byAddress.set(address, new Map([[peer, nowMs]]))
    else present.set(peer, nowMs)
  }

  /** It greeted, or is gone. May be said of one that is not here. */
  delete(address: string, peer: Peer): void {
    const present = this.byAddress.get(address)
    if (present?.delete(peer) === true && present.size === 0) this.byAddress.delete(address)
  }

  /** The oldest of an address that has more than `limit` of them, if it has been here for `graceMs`. It stays until it is deleted. */
  excess(address: string, nowMs: number): Peer | undefined {
    const present = this.byAddress.get(address)
    if (present === undefined || present.size <= this.limit) return undefined
    const [peer, sinceMs] = present.entries().next().value!
    return nowMs - sinceMs >= this.graceMs ? peer : undefined
  }
}
