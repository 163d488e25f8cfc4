import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import type { Greeting, Verdict } from "./Connection.ts"
import type { Hello } from "./Message.ts"
import { type Role, roles } from "./Roles.ts"

/** The secrets by which a peer of each role is let in. A role without any is open to everybody who can connect. */
export type Secrets = { readonly [role in Role]?: ReadonlyArray<string> }

/** Who speaks, as far as a proof binds it. */
export type Claim = Pick<Hello, "role" | "identity" | "incarnation">

/** Decides who may come in. */
export interface Gate {
  /** Whether the role needs a secret at all. */
  readonly isGuarded: (role: Role) => boolean
  /** Whether `proof` answers `nonce` for this claim with one of the role's secrets. About 10 µs for each secret. */
  readonly isProved: (claim: Claim, nonce: Uint8Array, proof: Uint8Array) => boolean
  /** Whether a secret that is shown as it is, over HTTP, is one of the role's. About 2 µs. */
  readonly isKnown: (role: Role, presented: string | undefined) => boolean
}

const NONCE_BYTES = 16
const NODE_KEY = /^key:([0-9a-f]{64})$/

/**
 * The credential of one peer alone, made from a secret of its role: it proves this role and identity, and no other. Who has it cannot
 * find the secret.
 */
export const nodeCredential = (secret: string, { role, identity }: Omit<Claim, "incarnation">): string =>
  `key:${keyOf(secret, role, identity).toString("hex")}`

/** Whether it lets in one peer alone. */
export const isNodeCredential = (credential: string): boolean => NODE_KEY.test(credential)

/** What answers `nonce` for a claim, with a secret of its role or the credential of this one peer. */
export const proofOf = (credential: string, claim: Claim, nonce: Uint8Array): Buffer => {
  const key = NODE_KEY.exec(credential)?.[1]
  return prove(
    key === undefined ? keyOf(credential, claim.role, claim.identity) : Buffer.from(key, "hex"),
    claim,
    nonce
  )
}

/**
 * The gate of these secrets. All of a role's are tried, each in constant time, so that neither how wrong a guess is nor which secret was
 * meant shows in the time taken. No secret means open.
 */
export const gate = (secrets: Secrets): Gate => {
  const of = new Map(roles.map((role) => [role, secrets[role] ?? []]))
  const isAny = (role: Role, matches: (secret: string) => boolean): boolean =>
    of.get(role)!.filter(matches).length > 0
  return {
    isGuarded: (role) => of.get(role)!.length > 0,
    isProved: (claim, nonce, proof) =>
      isAny(claim.role, (secret) =>
        isEqual(proof, prove(keyOf(secret, claim.role, claim.identity), claim, nonce))
      ),
    isKnown: (role, presented) => {
      const given = digest(presented ?? "")
      const known = isAny(role, (secret) => isEqual(given, digest(secret)))
      return of.get(role)!.length === 0 || (known && presented !== undefined)
    }
  }
}

/** Answers a HELLO: with `welcome()`, once the peer has proved that it knows a secret of its role, where that has one. */
export const guarded = ({ isGuarded, isProved }: Gate, hello: Hello, welcome: () => Verdict): Greeting => {
  if (!isGuarded(hello.role)) return welcome()
  const nonce = randomBytes(NONCE_BYTES)
  const refused: Verdict = { refuse: "unauthorized", message: `not authorised as ${hello.role}` }
  return { nonce, judge: (proof) => (isProved(hello, nonce, proof) ? welcome() : refused) }
}

/** Lets everybody in. */
export const openGate = gate({})

const keyOf = (secret: string, role: Role, identity: string): Buffer =>
  createHmac("sha256", secret).update(`${role} ${identity}`).digest()

/** Of fixed length beside the text, so no two claims have the same bytes. */
const prove = (key: Buffer, { incarnation }: Claim, nonce: Uint8Array): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(incarnation)
  return createHmac("sha256", key).update(bytes).update(nonce).digest()
}

const digest = (secret: string): Buffer => createHash("sha256").update(secret).digest()

const isEqual = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b)
