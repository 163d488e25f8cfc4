/** Where a balancer listens. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** Reads `host:port`, `[ipv6]:port`, or an address as it is. Throws a `RangeError` that says what is expected. */
export const parseAddress = (address: string | Address): Address => {
  if (typeof address !== "string") return address
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:\s/@]+)):(\d{1,5})$/.exec(address)
  const port = Number(match?.[3])
  if (match === null || port < 1 || port > 65_535) {
    throw new RangeError(`"${address}" is not an address: expected host:port, for example 127.0.0.1:7420`)
  }
  return { host: match[1] ?? match[2]!, port }
}

/** The form `parseAddress` reads. */
export const formatAddress = (address: Address): string =>
  address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
