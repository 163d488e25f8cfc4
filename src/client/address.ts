/** Where a balancer listens. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** What no host holds: spaces, NUL, and what stands around one in a URL. */
const hostPattern = /^[^\s\0/@[\]]+$/

/** Reads `host:port`, `[ipv6]:port`, or an address as it is. Throws a `RangeError` that says what is expected. */
export const parseAddress = (address: string | Address): Address => {
  const { host, port } = typeof address === "string" ? partsOf(address) : address
  if (hostPattern.test(host) && Number.isInteger(port) && port >= 1 && port <= 65_535) return { host, port }
  const text = typeof address === "string" ? address : formatAddress(address)
  throw new RangeError(`"${text}" is not an address: expected host:port, for example 127.0.0.1:7420`)
}

/** No host, or no number for a port, where the text is no address. */
const partsOf = (text: string): Address => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  return { host: match?.[1] ?? match?.[2] ?? "", port: Number(match?.[3]) }
}

/** The address that options hold: programs without types may give it in their place. Throws as `parseAddress` does. */
export const addressIn = (options: { readonly address?: string | Address } | undefined): Address => {
  const address = options?.address
  if (typeof address !== "string" && typeof address?.host !== "string")
    throw new RangeError('options must hold an address, as in { address: "127.0.0.1:7420" }')
  return parseAddress(address)
}

/** The form `parseAddress` reads. */
export const formatAddress = (address: Address): string =>
  address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
