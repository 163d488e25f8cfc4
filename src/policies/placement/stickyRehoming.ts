import type { PoolView } from "../../domain/PoolView.ts"
import { floats, grow, words } from "../../structures/grow.ts"
import { SLOTS_MAX, SlotLists } from "../../structures/SlotLists.ts"
import { StreamIndex } from "../../structures/StreamIndex.ts"
import { sessionState, tenantState } from "../affinity.ts"
import { eligibleWith } from "../eligibility.ts"
import { FirstChoice } from "../FirstChoice.ts"
import { LeastCost } from "../LeastCost.ts"
import { LoadBound } from "../LoadBound.ts"
import { definePlacement } from "../Placement.ts"
import { powerOfTwo } from "./powerOfTwo.ts"

/**
 * Session affinity that gives way to load. A session that left its worker stays where it went, since that is where its prefix cache grows,
 * and only such sessions take memory: who is at home is found by hash.
 */
export const stickyRehoming = definePlacement(
  {
    name: "sticky-rehoming",
    summary:
      "The same worker for all requests of a session, which moves for good when its worker is overloaded.",
    definition:
      "A session's first choice is the worker of highest speed / −ln u, u in (0, 1) the rendezvous hash of (session, worker key). A worker is overloaded " +
      "where one more request takes inFlight above ⌈factor · (n + 1) · speed / Σ speed⌉, n being all requests in flight on eligible workers. " +
      "While the worker of a session is overloaded or not eligible, the session moves: back to its first choice when that is not overloaded, else " +
      "to the least (inFlight + 1) / speed among those that are not, ties by rendezvous hash. It stays there, and returns to its first choice when no " +
      "request of it came for returnAfter, or when sessionsMax others moved or were seen since. A request without a session goes to the " +
      "less loaded of two random workers.",
    cost: "O(N)",
    source:
      "rendezvous hashing with the load bound of Mirrokni, Thorup, Zadimoghaddam, SODA 2018, applied to moves in place of overflow",
    stability: "stable",
    family: "filtered",
    unit: "requests"
  },
  {
    factor: {
      kind: "number",
      default: 2,
      minimum: 1,
      maximum: 100,
      summary:
        "Load at which sessions leave a worker, as a multiple of its fair share. Larger values keep more sessions with their prefix caches " +
        "and let load differ more."
    },
    returnAfter: {
      kind: "duration",
      default: 300_000,
      minimum: 0,
      maximum: 86_400_000,
      unit: "ms",
      summary:
        "How long a session that moved may be silent before it is taken for a new one. Should be about as long as prefix caches keep what " +
        "nobody uses; longer values keep load where it was moved to."
    },
    sessionsMax: {
      kind: "integer",
      default: 65_536,
      minimum: 1,
      maximum: SLOTS_MAX,
      unit: "sessions",
      summary:
        "Most sessions whose move is remembered; beyond it the one seen least recently returns to its first choice. Each takes about 40 bytes."
    },
    key: {
      kind: "choice",
      default: "session",
      choices: ["session", "tenant"],
      summary:
        "What requests must share to be served by one worker: a session, or all requests of a tenant, which then count as one session."
    }
  },
  ({ factor, returnAfter, sessionsMax, key }, rng) => {
    const withoutSession = powerOfTwo.make({}, rng)
    const loadBound = new LoadBound()
    const first = new FirstChoice()
    const least = new LeastCost()
    const moves = new Moves(sessionsMax)

    const leastLoaded = (state: number, pool: PoolView): number => {
      const { workers, eligible, eligibleCount } = pool
      least.start(state)
      for (let i = 0; i < eligibleCount; i++) {
        const worker = eligible[i]!
        if (loadBound.hasRoom(pool, worker))
          least.offer(workers, worker, (workers.inFlight[worker]! + 1) / workers.speed[worker]!)
      }
      return least.worker
    }

    return {
      pick: (request, pool, nowMs) => {
        const state = key === "tenant" ? tenantState(request) : sessionState(request)
        if (state < 0) return withoutSession.pick(request, pool, nowMs)
        if (pool.eligibleCount === 0) return -1
        loadBound.measure(pool, factor)
        const row = moves.find(state, nowMs - returnAfter)
        if (row >= 0) {
          const moved = moves.workerOf(row, pool)
          if (moved >= 0 && loadBound.hasRoom(pool, moved)) {
            moves.touch(row, nowMs)
            return moved
          }
          moves.forget(row)
        }
        const home = first.amongAll(state, pool)
        if (loadBound.hasRoom(pool, home)) return home
        const { keyHigh, keyLow } = pool.workers
        const worker = leastLoaded(state, pool)
        moves.remember(state, keyHigh[worker]!, keyLow[worker]!, nowMs)
        return worker
      }
    }
  }
)

/**
 * Where sessions moved to: a table of at most `limit` rows, the least recently used of which gives way. A session is known by its hash
 * state; two of one state have the same first choice anyway, and share their moves too. Finding the worker of a row is O(log N), all else O(1).
 */
class Moves {
  private readonly limit: number
  /** From the state of a session to its row. */
  private readonly rows = new StreamIndex()
  private readonly lists = new SlotLists(2)
  private rowCount = 0
  private states = new Uint32Array(0)
  private keyHigh = new Uint32Array(0)
  private keyLow = new Uint32Array(0)
  private seenMs = new Float64Array(0)

  constructor(limit: number) {
    this.limit = limit
  }

  /** The row of a session seen at `sinceMs` or later, or -1. */
  find(state: number, sinceMs: number): number {
    const row = this.rows.get(indexKey(state))
    if (row < 0 || this.seenMs[row]! >= sinceMs) return row
    this.forget(row)
    return -1
  }

  /** The worker it moved to, or -1 when that is not eligible. */
  workerOf(row: number, pool: PoolView): number {
    return eligibleWith(pool, this.keyHigh[row]!, this.keyLow[row]!)
  }

  touch(row: number, nowMs: number): void {
    this.lists.remove(row)
    this.lists.pushBack(USED, row)
    this.seenMs[row] = nowMs
  }

  /** Adds the move of a session that has none. */
  remember(state: number, keyHigh: number, keyLow: number, nowMs: number): void {
    if (this.rowCount === this.limit && this.lists.first(FREE) < 0) this.forget(this.lists.first(USED))
    const row = this.lists.first(FREE) < 0 ? this.rowCount++ : this.lists.first(FREE)
    if (row >= this.states.length) this.growTo(row)
    this.states[row] = state
    this.keyHigh[row] = keyHigh
    this.keyLow[row] = keyLow
    this.rows.set(indexKey(state), row)
    this.touch(row, nowMs)
  }

  forget(row: number): void {
    this.rows.delete(indexKey(this.states[row]!))
    this.lists.remove(row)
    this.lists.pushBack(FREE, row)
  }

  private growTo(row: number): void {
    this.states = grow(this.states, row, words)
    this.keyHigh = grow(this.keyHigh, row, words)
    this.keyLow = grow(this.keyLow, row, words)
    this.seenMs = grow(this.seenMs, row, floats)
  }
}

/** The lists of rows: least recently used first, and free. */
const USED = 0
const FREE = 1

/** The index has no key 0. */
const indexKey = (state: number): number => Math.max(1, state)
