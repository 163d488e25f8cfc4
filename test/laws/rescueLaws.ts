import { expect } from "bun:test"
import * as fc from "fast-check"
import { ACTIONS_MAX, type Rescue } from "../../src/policies/Rescue.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { equalWorkers, oneRequest } from "../support/pools.ts"
import { type Action, type Life, life, RescueLife, type Step } from "./rescueLife.ts"

export interface RescueSubject {
  readonly make: (options: Readonly<Record<string, never>>, rng: Rng) => Rescue
  /**
   * The values of its options, where it has them: what is called by these names is held to what the names say. `budget` and `tokenBudget`
   * are shares of what was placed, `after` is the shortest wait, `guard` what a move must save, `above` and `saturation` are shares in use.
   */
  readonly options: Readonly<
    Partial<Record<"budget" | "tokenBudget" | "after" | "guard" | "above" | "saturation", number>>
  >
  /** The one it says it takes; left out where it says nothing. */
  readonly action?: Action["kind"]
  /** It breaks a law by intent: nobody asks for the shortest life in which it does. */
  readonly isPlanted?: boolean
}

/** A statement about every rescue policy. `check` throws where it does not hold. */
export interface RescueLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: RescueSubject) => void
}

const lived = ({ make }: RescueSubject, one: Life, isMirrored = false): RescueLife =>
  new RescueLife(make({}, makeRng(1)), one, isMirrored)

/** Checks what a policy does in many lives; one that lacks the `option` that the law is about does nothing it speaks of. */
const inLives =
  (
    check: (actions: ReadonlyArray<Action>, subject: RescueSubject, life: RescueLife) => void,
    { lives = life(), option }: { lives?: fc.Arbitrary<Life>; option?: keyof RescueSubject["options"] } = {}
  ) =>
  (subject: RescueSubject): void => {
    if (option !== undefined && subject.options[option] === undefined) return
    const property = fc.property(lives, (one) => {
      const all = lived(subject, one)
      check(all.actions, subject, all)
    })
    fc.assert(property, { numRuns: 100, endOnFailure: subject.isPlanted ?? false })
  }

/** Of a row of spendings, each with what was earned before it: no stretch costs more than what was saved and the share of what came. */
const keepsBudget = (
  spent: ReadonlyArray<{ readonly cost: number; readonly earned: number }>,
  share: number,
  savedMax: number
): void => {
  for (const [i, first] of spent.entries()) {
    let sum = 0
    for (const { cost, earned } of spent.slice(i)) {
      sum += cost
      expect(sum).toBeLessThanOrEqual(savedMax + share * (earned - first.earned) + 1e-6)
    }
  }
}

const ofKind = (actions: ReadonlyArray<Action>, ...kinds: ReadonlyArray<Action["kind"]>) =>
  actions.filter(({ isDone, kind }) => isDone && kinds.includes(kind))

/** Lives in which more could be done at once than may be. */
const crowds = (subject: RescueSubject): ReadonlyArray<ReadonlyArray<Action>> => {
  const step = (event: Step["event"], which = 0, pauseMs = 0): Step => ({ event, which, pauseMs })
  const times = (count: number, one: (i: number) => Step) => Array.from({ length: count }, (_, i) => one(i))
  const requests = [0, 2].map((urgency) => ({ ...oneRequest, class: urgency, promptTokens: 30_000 }))
  const crowd = (count: number, capacity: number, steps: ReadonlyArray<Step>): Life => ({
    workers: equalWorkers(count, { inFlight: 0, capacity }),
    requests,
    steps,
    isHeldBack: false,
    refused: new Set()
  })
  const late = [
    ...times(300, () => step("arrive", 1)),
    ...times(5, () => step("review", 0, 1e6)),
    ...times(300, () => step("arrive", 1)),
    ...times(5, () => step("review", 0, 1e6))
  ]
  const urgent = [
    ...times(200, () => step("arrive", 1)),
    ...times(200, () => step("arrive", 0)),
    step("review", 0, 1e6),
    step("review", 0, 1e6)
  ]
  // Squares modulo a prime have about half of all remainders.
  const half = times(151, (i) => step("leave", i))
  const uneven = [
    ...half,
    ...times(302, () => step("arrive", 1)),
    ...half.map(({ which }) => step("join", which)),
    step("review", 0, 1e6),
    step("review", 0, 1e6)
  ]
  return [crowd(3, 1000, late), crowd(1, 200, urgent), crowd(302, 20, uneven)].map(
    (one) => lived(subject, one).actions
  )
}

/** Rescues and tokens that may be saved up. */
const SAVED_MAX = 10
const TOKENS_SAVED_MAX = 65_536
/** How often one request is acted on, in its life. */
const TIMES_MAX = { hedge: 1, move: 2, requeue: 2, migrate: 1 }

export const rescueLaws: ReadonlyArray<RescueLaw> = [
  {
    id: "rescue-legal",
    statement:
      "takes the one action it says; acts on requests that have not started, and migrates ones that stream; what has a copy is left alone; another eligible worker gets it; no column changes but by actions",
    check: inLives((actions, { action }) => {
      for (const { from, isCopied, isEligible, kind, state, to } of actions) {
        if (action !== undefined) expect(kind).toBe(action)
        expect(state).toBe(kind === "migrate" ? "streaming" : "placed")
        expect(isCopied).toBe(false)
        if (kind === "requeue") continue
        expect(to).not.toBe(from)
        expect(isEligible).toBe(true)
      }
    })
  },
  {
    id: "rescue-bounded",
    statement: "at most 64 actions are asked for in one review, however many requests are late or waiting",
    check: (subject) => {
      for (const actions of crowds(subject)) {
        const counts = new Map<number, number>()
        for (const { review } of actions) counts.set(review, (counts.get(review) ?? 0) + 1)
        expect(Math.max(0, ...counts.values())).toBeLessThanOrEqual(ACTIONS_MAX)
      }
    }
  },
  {
    id: "rescue-alone",
    statement:
      "with one worker nothing is copied, moved or migrated, or requeued but for a more urgent request",
    check: inLives(
      (actions) => {
        for (const action of actions) {
          expect(action.kind).toBe("requeue")
          expect(action.class).toBeGreaterThan(action.urgent)
        }
      },
      { lives: life({ minLength: 1, maxLength: 1 }) }
    )
  },
  {
    id: "rescue-once",
    statement: "a request is copied or migrated once at most, and moved or requeued twice",
    check: inLives((actions) => {
      const times = new Map<string, number>()
      for (const { id, isDone, kind } of actions) {
        if (!isDone) continue
        const key = `${kind} ${id}`
        times.set(key, (times.get(key) ?? 0) + 1)
        expect(times.get(key)!).toBeLessThanOrEqual(TIMES_MAX[kind])
      }
    })
  },
  {
    id: "rescue-budget",
    statement:
      "in any span of time at most 10 rescues and the budget's share of the placements, and 65 536 tokens and their share of the uncached ones",
    check: (subject) => {
      const { budget, tokenBudget } = subject.options
      if (budget === undefined && tokenBudget === undefined) return
      const check = (actions: ReadonlyArray<Action>): void => {
        const spent = ofKind(actions, "hedge", "requeue", "move")
        if (budget !== undefined)
          keepsBudget(
            spent.map(({ placements }) => ({ cost: 1, earned: placements })),
            budget,
            SAVED_MAX
          )
        if (tokenBudget !== undefined)
          keepsBudget(
            spent.map(({ addedTokens, placedTokens }) => ({ cost: addedTokens, earned: placedTokens })),
            tokenBudget,
            TOKENS_SAVED_MAX
          )
      }
      for (const actions of crowds(subject)) check(actions)
      inLives(check)(subject)
    }
  },
  {
    id: "rescue-late",
    statement:
      "where there is a shortest wait, a request is acted on after it, and where another worker is predicted to start it within half the time it has waited, or is still to wait by its prediction",
    check: inLives(
      (actions, { options: { after = 0 } }) => {
        for (const { elsewhereMs, predictedMs, waitedMs } of actions) {
          expect(waitedMs).toBeGreaterThan(after)
          expect(elsewhereMs).toBeLessThanOrEqual(Math.max(waitedMs, predictedMs - waitedMs) / 2)
        }
      },
      { option: "after" }
    )
  },
  {
    id: "rescue-saturated",
    statement: "nothing is copied while more of the ready workers' places are taken than `saturation` says",
    check: inLives(
      (actions, { options: { saturation = 1 } }) => {
        // What one review copies itself is not looked at before the next one.
        const seen = new Set<number>()
        for (const { kind, review, usedShare } of actions) {
          if (kind === "hedge" && !seen.has(review)) expect(usedShare).toBeLessThanOrEqual(saturation)
          seen.add(review)
        }
      },
      { option: "saturation" }
    )
  },
  {
    id: "rescue-steal",
    statement:
      "who gets a moved request had no prompt pending and ends with less than the other had; that one keeps an unstarted request, and the move saves more than `guard`",
    check: inLives((actions, { options: { guard = 0 } }) => {
      for (const { addedMs, fromMs, kind, ownMs, toMs, unstarted } of actions) {
        if (kind !== "move") continue
        expect(toMs).toBe(0)
        expect(toMs + addedMs).toBeLessThan(fromMs)
        expect(unstarted).toBeGreaterThanOrEqual(2)
        expect(fromMs - ownMs).toBeGreaterThan(guard + Math.max(0, addedMs - ownMs))
      }
    })
  },
  {
    id: "rescue-preempt",
    statement:
      "where there is no shortest wait a request is requeued only while nobody has room and a more urgent one waits, and none that could be is left before a more urgent one",
    check: inLives((actions, { options: { after } }, { inversions }) => {
      const requeues = actions.filter(({ kind }) => kind === "requeue")
      if (after !== undefined || requeues.length === 0) return
      for (const { class: urgency, eligibleCount, urgent } of requeues) {
        expect(eligibleCount).toBe(0)
        expect(urgency).toBeGreaterThan(urgent)
      }
      // A request that the world refused to give back stays where it is.
      if (requeues.every(({ isDone }) => isDone)) expect(inversions).not.toContain(true)
    })
  },
  {
    id: "rescue-migrate",
    statement:
      "a migration goes from above `above` to at most that, and leaves a difference above 0 and below the one before",
    check: inLives((actions, { options: { above = 0 } }) => {
      for (const { arrivingShare, fromShare, kind, leavingShare, toShare } of actions) {
        if (kind !== "migrate") continue
        expect(fromShare).toBeGreaterThan(above)
        expect(toShare + arrivingShare).toBeLessThanOrEqual(above)
        const afterwards = fromShare - leavingShare - (toShare + arrivingShare)
        expect(afterwards).toBeGreaterThan(-1e-9)
        expect(afterwards).toBeLessThan(fromShare - toShare)
      }
    })
  },
  {
    id: "rescue-deterministic",
    statement: "the same life gives the same actions, whatever slots workers and requests have",
    check: (subject) =>
      fc.assert(
        fc.property(life(), (one) => {
          expect(lived(subject, one, true).actions).toEqual(lived(subject, one).actions)
        }),
        { numRuns: 60, endOnFailure: subject.isPlanted ?? false }
      )
  }
]
