import { Type } from "./Header.ts"

/** Who stands at the other end. */
export type Role = "client" | "worker" | "balancer" | "admin"
export const roles: ReadonlyArray<Role> = ["client", "worker", "balancer", "admin"]

const everyone: ReadonlyArray<number> = [Type.ping, Type.pong, Type.goodbye]

/** The frames each role may send after the greeting. Anything else closes the connection. */
export const maySend: Readonly<Record<Role, ReadonlySet<number>>> = {
  client: new Set([...everyone, Type.request, Type.cancel, Type.credit, Type.resume]),
  worker: new Set([
    ...everyone,
    Type.register,
    Type.heartbeat,
    Type.token,
    Type.done,
    Type.error,
    Type.drain,
    Type.prefilled,
    Type.kvStored,
    Type.kvRemoved
  ]),
  balancer: new Set([
    ...everyone,
    Type.accepted,
    Type.rejected,
    Type.token,
    Type.done,
    Type.error,
    Type.assign,
    Type.cancel,
    Type.credit,
    Type.drain,
    Type.kvSync,
    Type.adminReply
  ]),
  admin: new Set([...everyone, Type.adminRequest])
}

const known = new Set<number>(Object.values(Type))

/** A type nobody knows whose high bit is not set gets an ERROR reply; with the bit set it is ignored. */
export const isKnown = (type: number): boolean => known.has(type)
export const isOptional = (type: number): boolean => (type & 0x80) !== 0

/** What a frame type is to a reader: not for this role, handed on as it is, or looked at first. */
export const Right = { none: 0, plain: 1, watched: 2 } as const

/** The same table by type, for the reader. Watched are the types that mean little and cost something: they are counted. */
export const permissions = (role: Role): Uint8Array => {
  const table = new Uint8Array(256)
  for (const type of maySend[role]) table[type] = Right.plain
  for (const type of [...everyone, Type.heartbeat])
    if (table[type] !== Right.none) table[type] = Right.watched
  return table
}
