import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import {
  type Claim,
  type Gate,
  gate,
  guarded,
  nodeCredential,
  openGate,
  proofOf
} from "../../src/protocol/credentials.ts"
import { version } from "../../src/protocol/Message.ts"
import { roles } from "../../src/protocol/Roles.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

const text = fc.string({ maxLength: 20 })
const claims = fc.record({
  role: fc.constantFrom(...roles),
  identity: fc.stringMatching(/^[a-z0-9 ]{1,6}$/),
  incarnation: fc.nat()
})
const nonces = fc.uint8Array({ minLength: 16, maxLength: 16 })
const isSame = (a: Claim, b: Claim): boolean =>
  a.role === b.role && a.identity === b.identity && a.incarnation === b.incarnation

type Make = typeof gate

const laws = [
  {
    id: "proof-exact",
    statement: "a proof lets in exactly who knows a secret of the role",
    check: (make: Make) =>
      holds(
        fc.property(
          fc.array(text, { minLength: 1, maxLength: 3 }),
          text,
          claims,
          nonces,
          (secrets, other, claim, nonce) => {
            const door = make({ [claim.role]: secrets })
            for (const secret of secrets)
              expect(door.isProved(claim, nonce, proofOf(secret, claim, nonce))).toBe(true)
            expect(door.isProved(claim, nonce, proofOf(other, claim, nonce))).toBe(secrets.includes(other))
          }
        )
      )
  },
  {
    id: "proof-fresh",
    statement: "a proof is worth nothing for another nonce, role, identity or incarnation",
    check: (make: Make) =>
      holds(
        fc.property(claims, claims, nonces, nonces, (claim, other, nonce, later) => {
          const door = make(Object.fromEntries(roles.map((role) => [role, ["secret"]])))
          const proof = proofOf("secret", claim, nonce)
          expect(door.isProved(claim, nonce, proof)).toBe(true)
          expect(door.isProved(claim, later, proof)).toBe(Buffer.from(nonce).equals(later))
          expect(door.isProved(other, nonce, proof)).toBe(isSame(claim, other))
          const near = { ...claim, incarnation: claim.incarnation + 1 }
          expect(door.isProved(near, nonce, proof)).toBe(false)
        })
      )
  },
  {
    id: "proof-own",
    statement:
      "the credential of one node proves its own role and identity, in every incarnation, and no other",
    check: (make: Make) =>
      holds(
        fc.property(claims, claims, nonces, (claim, other, nonce) => {
          const door = make(Object.fromEntries(roles.map((role) => [role, ["secret"]])))
          const credential = nodeCredential("secret", claim)
          const isOwn = other.role === claim.role && other.identity === claim.identity
          expect(door.isProved(claim, nonce, proofOf(credential, claim, nonce))).toBe(true)
          expect(door.isProved(other, nonce, proofOf(credential, other, nonce))).toBe(isOwn)
        })
      )
  }
]

/** A gate that looks at something else than it should. */
const looking =
  (at: (claim: Claim, nonce: Uint8Array) => readonly [claim: Claim, nonce: Uint8Array]): Make =>
  (secrets) => {
    const door = gate(secrets)
    return {
      ...door,
      isProved: (claim, nonce, proof) => {
        const [looked, said] = at(claim, nonce)
        return (secrets[claim.role] ?? []).some((secret) => proofOf(secret, looked, said).equals(proof))
      }
    }
  }
const constant: Gate["isProved"] = () => true

const defects: ReadonlyArray<Planted<Make>> = [
  ["lets in any proof", "proof-exact", (secrets) => ({ ...gate(secrets), isProved: constant })],
  [
    "knows the first secret only",
    "proof-exact",
    (secrets) =>
      gate(Object.fromEntries(Object.entries(secrets).map(([role, all]) => [role, all.slice(0, 1)])))
  ],
  [
    "takes a replayed proof",
    "proof-fresh",
    (secrets) => {
      const taken = new Set<string>()
      const door = gate(secrets)
      return {
        ...door,
        isProved: (claim, nonce, proof) => {
          const text = Buffer.from(proof).toString("hex")
          const known = taken.has(text) || door.isProved(claim, nonce, proof)
          if (known) taken.add(text)
          return known
        }
      }
    }
  ],
  [
    "does not look at the incarnation",
    "proof-fresh",
    (secrets) => {
      const door = gate(secrets)
      return {
        ...door,
        isProved: (claim, nonce, proof) =>
          [Math.max(0, claim.incarnation - 1), claim.incarnation].some((incarnation) =>
            door.isProved({ ...claim, incarnation }, nonce, proof)
          )
      }
    }
  ],
  [
    "takes every worker for the first",
    "proof-own",
    looking((claim, nonce) => [{ ...claim, identity: "worker" }, nonce])
  ]
]

describe("gate", () => keepsAll(laws, gate))
describe("planted defects", () => findsAll(laws, defects))

describe("what is shown as it is", () => {
  test("is known exactly if it is a secret of the role", () => {
    holds(
      fc.property(
        fc.array(text, { minLength: 1, maxLength: 3 }),
        fc.option(text, { nil: undefined }),
        fc.constantFrom(...roles),
        (wanted, presented, role) => {
          const { isKnown } = gate({ [role]: wanted })
          for (const secret of wanted) expect(isKnown(role, secret)).toBe(true)
          expect(isKnown(role, presented)).toBe(wanted.some((secret) => secret === presented))
        }
      )
    )
  })

  test("near misses are refused", () => {
    const { isKnown } = gate({ worker: ["correct horse"] })
    for (const guess of ["", "correct hors", "correct horse ", "Correct horse", "correct\0horse", undefined])
      expect(isKnown("worker", guess)).toBe(false)
  })

  test("an empty secret does not admit who presents none", () => {
    expect(gate({ admin: [""] }).isKnown("admin", undefined)).toBe(false)
  })
})

test("a role without a secret is open, and one secret opens one role", () => {
  const { isGuarded, isKnown } = gate({ worker: ["w"], admin: ["a"], client: [] })
  expect(roles.filter((role) => !isGuarded(role))).toEqual(["client", "balancer"])
  expect(roles.filter((role) => isKnown(role, undefined))).toEqual(["client", "balancer"])
  expect([isKnown("worker", "a"), isKnown("admin", "w")]).toEqual([false, false])
  expect(roles.filter((role) => openGate.isGuarded(role))).toEqual([])
})

test("a node's credential that stands as a secret admits nobody who has it for a node", () => {
  const claim = { role: "worker", identity: "w1", incarnation: 1 } as const
  const credential = nodeCredential("secret", claim)
  const nonce = Buffer.alloc(16)
  expect(gate({ worker: [credential] }).isProved(claim, nonce, proofOf(credential, claim, nonce))).toBe(false)
})

test("every HELLO of a guarded role has a nonce of its own", () => {
  const hello = { ...version, role: "worker", identity: "w1", incarnation: 1 } as const
  const greeted = () => guarded(gate({ worker: ["secret"] }), hello, () => expect.unreachable())
  const nonces = Array.from({ length: 1000 }, greeted).map((each) => "nonce" in each && each.nonce)
  expect(new Set(nonces.map((nonce) => nonce && Buffer.from(nonce).toString("hex"))).size).toBe(1000)
})
