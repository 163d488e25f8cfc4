import type { RequestView } from "../domain/RequestView.ts"
import { mix } from "../structures/hash.ts"
import { mixBlock } from "../structures/PrefixChain.ts"
import type { OptionSpecs } from "./Policy.ts"

/** What requests may have in common that should bring them to the same worker. */
export type AffinityKey = "session" | "tenant" | "prefix"

/** Options of the policies that follow such a key. */
export const affinityOptions = {
  key: {
    kind: "choice",
    default: "session",
    choices: ["session", "tenant", "prefix"],
    summary:
      "What requests must share to be served by one worker. A session is the finest; tenant keeps all requests of a tenant together; prefix " +
      "those whose prompts begin alike."
  },
  prefixBlocks: {
    kind: "integer",
    default: 4,
    minimum: 1,
    maximum: 4096,
    unit: "blocks",
    summary:
      "Leading blocks of a prompt that count as its prefix. More of them tell prompts apart that share a system prompt, and part prompts that " +
      "share less."
  }
} as const satisfies OptionSpecs

/** Keys of different kinds start from different states: the session 5 is not the tenant 5. */
const TENANT_STATE = mix(0, 0, 1)
const PREFIX_STATE = mix(0, 0, 2)

/**
 * Hash state of the key that a request shares with others. By `session`, a request without one goes by its prefix; by `prefix`, a request
 * without one goes by its session; who has neither goes by itself. The prefix is the hash of block `blocks`, or of the last block of a
 * shorter prompt. A tenant is known by its place in this balancer's list alone, so another balancer may hash it otherwise.
 */
export const affinityState = (request: RequestView, key: AffinityKey, blocks: number): number => {
  if (key === "tenant") return tenantState(request)
  const prefix = prefixState(request, blocks)
  if (prefix < 0) return sessionOrRequestState(request)
  const session = key === "session" ? sessionState(request) : -1
  return session < 0 ? prefix : session
}

/** Hash state of the request's session, or -1. */
export const sessionState = ({ sessionHigh, sessionLow }: RequestView): number =>
  sessionHigh === 0 && sessionLow === 0 ? -1 : mix(0, sessionHigh, sessionLow)

/** Hash state of the request's tenant. */
export const tenantState = ({ tenant }: RequestView): number => mix(TENANT_STATE, 0, tenant)

/** Hash state of the request itself: what settles ties where nothing is shared. */
export const requestState = ({ idHigh, idLow }: RequestView): number => mix(0, idHigh, idLow)

/** Hash state of the request's session, or of the request itself. */
export const sessionOrRequestState = (request: RequestView): number => {
  const session = sessionState(request)
  return session < 0 ? requestState(request) : session
}

const prefixState = ({ chain }: RequestView, blocks: number): number =>
  chain.count === 0 ? -1 : mixBlock(PREFIX_STATE, chain, Math.min(blocks, chain.count) - 1)

/**
 * Rendezvous score of a worker of some weight (> 0), given `mix(keyState, worker key)`: over many keys, each worker has the highest score
 * for a share of them in proportion to its weight, and a changed weight moves keys from or to that worker alone.
 *
 * Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (logarithmic method).
 */
export const weightedScore = (score: number, weight: number): number =>
  -weight / Math.log((score + 0.5) / 2 ** 32)
