import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "fast-check"
import type { ActorRef } from "../../../src/actors/runtime/ActorRef.ts"
import { type ActorOptions, spawn } from "../../../src/actors/runtime/Cell.ts"
import { link } from "../../../src/actors/runtime/link.ts"
import { type Down, isNormal, Killed, type Process, Watchers } from "../../../src/actors/runtime/Process.ts"
import { processOfFiber } from "../../../src/actors/runtime/processOfFiber.ts"
import { manualTurn } from "./manualTurn.ts"

const setUp = () => {
  const turn = manualTurn()
  const actor = <M>(receive: ActorOptions<M>["receive"], options: Partial<ActorOptions<M>> = {}) =>
    spawn<M>({ id: "a", capacity: 1_000, dispatcher: turn.dispatcher, receive, ...options })
  return { ...turn, actor }
}

/** An effect that ends when told to. */
const gate = () => {
  let resume: (exit: Exit.Exit<void, string>) => void = () => {}
  const wait = Effect.callback<void, string>((r) => {
    resume = r
  })
  return { wait, open: (exit: Exit.Exit<void, string> = Exit.void) => resume(exit) }
}

const downsOf = (ref: Process): Array<Down> => {
  const downs: Array<Down> = []
  ref.watch((down) => downs.push(down))
  return downs
}

describe("tell", () => {
  test("answers accepted, full, dead", () => {
    const { actor, drain } = setUp()
    const ref = actor<number>(() => {}, { capacity: 2, controlCapacity: 1 })
    expect([ref.tell(1), ref.tell(2), ref.tell(3)]).toEqual(["accepted", "accepted", "full"])
    expect([ref.tellControl(1), ref.tellControl(2)]).toEqual(["accepted", "full"])
    drain()
    expect(ref.tell(4)).toBe("accepted")
    ref.stop()
    expect([ref.tell(5), ref.tellControl(5)]).toEqual(["dead", "dead"])
  })

  test("handles nothing in the caller's stack, and everything in the next turn", () => {
    const { actor, drain } = setUp()
    const seen: Array<number> = []
    const ref = actor<number>((n) => void seen.push(n))
    ref.tell(1)
    expect(seen).toEqual([])
    expect(drain()).toBe(1)
    expect(seen).toEqual([1])
  })

  test("a chain of messages from actor to actor takes one turn", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const last = actor<string>((m) => void seen.push(m))
    const middle = actor<string>((m) => void last.tell(`${m}b`))
    const first = actor<string>((m) => void middle.tell(`${m}a`))
    first.tell("")
    expect(drain()).toBe(1)
    expect(seen).toEqual(["ab"])
  })
})

describe("fairness", () => {
  test("an actor handles at most 256 messages before the others get their turn", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const busy = actor<number>(() => void seen.push("busy"))
    const other = actor<number>(() => void seen.push("other"))
    for (let n = 0; n < 1_000; n++) busy.tell(n)
    other.tell(0)
    drain()
    expect(seen.indexOf("other")).toBe(256)
    expect(seen.length).toBe(1_001)
  })

  test("after 5 ms the rest waits for the next turn, behind what the sockets flush", () => {
    const { actor, clock, step, drain, turn } = setUp()
    const seen: Array<string> = []
    const ref = actor<number>(() => {
      clock.nowMs += 0.5
      seen.push("message")
    })
    for (let n = 0; n < 100; n++) ref.tell(n)
    turn.flush({ run: () => seen.push("flush") })
    step()
    expect(seen.length).toBeLessThanOrEqual(17)
    expect(seen.at(-1)).toBe("flush")
    drain()
    expect(seen.length).toBe(101)
  })
})

describe("a handler that returns an effect", () => {
  test("suspends its own mailbox until the effect ends, and nobody else's", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const { wait, open } = gate()
    const slow = actor<string>((m) => {
      seen.push(m)
      return m === "wait" ? wait : undefined
    })
    const other = actor<string>((m) => void seen.push(m))
    for (const message of ["wait", "next"]) slow.tell(message)
    other.tell("other")
    drain()
    slow.tellControl("control")
    drain()
    expect(seen).toEqual(["wait", "other"])
    open()
    drain()
    expect(seen).toEqual(["wait", "other", "control", "next"])
  })

  test("one that ends at once costs no turn", () => {
    const { actor, drain } = setUp()
    let seen = 0
    const ref = actor<number>(() => Effect.sync(() => void seen++))
    for (let n = 0; n < 10; n++) ref.tell(n)
    expect(drain()).toBe(1)
    expect(seen).toBe(10)
  })
})

const bug = new Error("bug")

describe("ends", () => {
  test.each<[string, ActorOptions<string>["receive"], Exit.Exit<void, string>]>([
    [
      "throws",
      () => {
        throw bug
      },
      Exit.die(bug)
    ],
    ["returns an effect that dies", () => Effect.die(bug), Exit.die(bug)],
    ["returns an effect that fails", () => Effect.fail("no"), Exit.fail("no")],
    [
      "returns an effect that fails later",
      () => Effect.andThen(Effect.yieldNow, Effect.fail("no")),
      Exit.fail("no")
    ]
  ])("a handler that %s is a crash", async (_, receive, exit) => {
    const { actor, drain } = setUp()
    const ref = actor<string>(receive)
    const downs = downsOf(ref)
    ref.tell("x")
    ref.tell("never handled")
    drain()
    await Effect.runPromise(Effect.repeat(Effect.yieldNow, { times: 3 }))
    expect(downs).toEqual([{ id: "a", incarnation: ref.incarnation, exit }])
    expect(isNormal(downs[0]!.exit)).toBe(false)
    expect(ref.tell("y")).toBe("dead")
  })

  test("stop finishes the message in hand, drops the rest, and is a normal end", () => {
    const { actor, drain } = setUp()
    const { wait, open } = gate()
    const seen: Array<string> = []
    const ref = actor<string>((m) => {
      seen.push(m)
      return Effect.andThen(
        wait,
        Effect.sync(() => void seen.push(`${m} done`))
      )
    })
    const downs = downsOf(ref)
    ref.tell("one")
    ref.tell("two")
    drain()
    ref.stop()
    drain()
    expect(downs).toEqual([])
    open()
    drain()
    expect(seen).toEqual(["one", "one done"])
    expect(downs.map(({ exit }) => exit)).toEqual([Exit.void])
  })

  test("a crash in the last message of a stopped actor is a crash", () => {
    const { actor, drain } = setUp()
    const { wait, open } = gate()
    const ref = actor<string>(() => wait)
    const downs = downsOf(ref)
    ref.tell("one")
    drain()
    ref.stop()
    open(Exit.fail("no"))
    expect(downs.map(({ exit }) => exit)).toEqual([Exit.fail("no")])
  })

  test("kill interrupts the message in hand and is no normal end", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const ref = actor<string>(() =>
      Effect.onInterrupt(Effect.never, () => Effect.sync(() => void seen.push("interrupted")))
    )
    const downs = downsOf(ref)
    ref.tell("one")
    drain()
    ref.kill()
    drain()
    expect(seen).toEqual(["interrupted"])
    expect(downs.map(({ exit }) => exit)).toEqual([Exit.fail(new Killed({ id: "a" }))])
    expect(isNormal(downs[0]!.exit)).toBe(false)
  })

  test("a killed actor is down only when its uninterruptible effect has ended", () => {
    const { actor, drain } = setUp()
    const { wait, open } = gate()
    const ref = actor<string>(() => Effect.uninterruptible(wait))
    const downs = downsOf(ref)
    ref.tell("one")
    drain()
    ref.kill()
    drain()
    expect(downs.length).toBe(0)
    expect(ref.tell("two")).toBe("dead")
    open()
    drain()
    expect(downs.map(({ exit }) => exit)).toEqual([Exit.fail(new Killed({ id: "a" }))])
  })

  test.each(["stop", "kill"] as const)(
    "an actor may %s itself; its message in hand is not cut short",
    (how) => {
      const { actor, drain } = setUp()
      const seen: Array<string> = []
      const ref: ActorRef<string> = actor<string>((m, { self }) => {
        self[how]()
        expect(self.tell("again")).toBe("dead")
        seen.push(m)
      })
      const downs = downsOf(ref)
      ref.tell("one")
      ref.tell("two")
      drain()
      expect(seen).toEqual(["one"])
      expect(downs.length).toBe(1)
    }
  )

  test("an actor that kills itself is down as killed, also when its effect is interrupted in the same call", () => {
    const { actor, drain } = setUp()
    const ref = actor<string>((_, { self }) =>
      Effect.andThen(
        Effect.sync(() => self.kill()),
        Effect.interrupt
      )
    )
    const downs = downsOf(ref)
    ref.tell("go")
    drain()
    expect(downs.map(({ exit }) => exit)).toEqual([Exit.fail(new Killed({ id: "a" }))])
  })

  test("an actor that kills itself runs no effect it returns, and cuts short the one it runs", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const before = actor<string>((m, { self }) => {
      self.kill()
      return Effect.sync(() => void seen.push(m))
    })
    const during = actor<string>((_, { self }) =>
      Effect.andThen(
        Effect.sync(() => self.kill()),
        Effect.never
      )
    )
    for (const ref of [before, during]) {
      ref.tell("one")
      drain()
      expect(downsOf(ref).length).toBe(1)
    }
    expect(seen).toEqual([])
  })

  test("`stopped` is called once, with how it ended, before anyone hears of it; if it throws, that is a crash", () => {
    const { actor, drain } = setUp()
    const log: Array<string> = []
    const note = (exit: Exit.Exit<unknown, unknown>) => log.push(Exit.isSuccess(exit) ? "normal" : "crash")
    const ref = actor<string>(() => {}, {
      stopped: (exit) => {
        note(exit)
        throw bug
      }
    })
    ref.watch(({ exit }) => note(exit))
    ref.stop()
    drain()
    ref.kill()
    drain()
    expect(log).toEqual(["normal", "crash"])
  })
})

describe("watch", () => {
  test("tells exactly one Down for each watch, also to those who come late, and none once taken back", () => {
    const { actor, drain } = setUp()
    const ref = actor<string>(() => {})
    const downs: Array<Down> = []
    const listener = (down: Down) => downs.push(down)
    ref.watch(listener)
    ref.watch(listener)
    ref.watch(listener)()
    ref.stop()
    expect(downs.length).toBe(0)
    drain()
    expect(downs.length).toBe(2)
    ref.watch(listener)
    expect(downs.length).toBe(3)
    ref.kill()
    drain()
    expect(downs.length).toBe(3)
  })

  test("a watch taken back by an earlier one is not told", () => {
    const { actor, drain } = setUp()
    const ref = actor<string>(() => {})
    let told = 0
    ref.watch(() => second())
    const second = ref.watch(() => told++)
    ref.stop()
    drain()
    expect(told).toBe(0)
  })

  test("one that throws keeps nobody else from hearing, and no other actor from running", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const ref = actor<string>(() => {})
    const other = actor<string>((m) => void seen.push(m))
    ref.watch(() => {
      throw bug
    })
    ref.watch(() => seen.push("down"))
    ref.stop()
    other.tell("first")
    expect(drain).toThrow(bug)
    other.tell("second")
    drain()
    expect(seen).toEqual(["down", "first", "second"])
  })

  test("each incarnation has a number of its own", () => {
    const { actor } = setUp()
    expect(actor<string>(() => {}).incarnation).not.toBe(actor<string>(() => {}).incarnation)
  })

  test("the first word about an end is the last", () => {
    const watchers = new Watchers()
    const [first, second] = [1, 2].map((incarnation): Down => ({ id: "a", incarnation, exit: Exit.void }))
    watchers.announce(first!)
    watchers.announce(second!)
    const downs: Array<Down> = []
    watchers.watch((down) => downs.push(down))
    expect(downs).toEqual([first!])
  })
})

describe("a fiber as a process", () => {
  test.each<["interrupt" | "kill", boolean]>([
    ["interrupt", true],
    ["kill", false]
  ])("%s: its end is normal: %p", (how, normal) => {
    const process = processOfFiber("fiber", Effect.runFork(Effect.never))
    const downs = downsOf(process)
    process[how]?.()
    expect(downs.map(({ exit }) => isNormal(exit))).toEqual([normal])
    expect(downsOf(process)).toEqual(downs)
    process.kill?.()
    expect(downsOf(process)).toEqual(downs)
  })

  test("a watch taken back by an earlier one is not told", () => {
    const process = processOfFiber("fiber", Effect.runFork(Effect.never))
    let told = 0
    process.watch(() => second())
    const second = process.watch(() => told++)
    process.interrupt()
    expect(told).toBe(0)
  })

  test("a watch that throws keeps nobody else from hearing", () => {
    const process = processOfFiber("fiber", Effect.runFork(Effect.never))
    process.watch(() => {
      throw bug
    })
    const downs = downsOf(process)
    expect(process.interrupt).toThrow(bug)
    expect(downs).toHaveLength(1)
  })
})

describe("monitor", () => {
  test("its Down comes before everything else and into a full mailbox", () => {
    const { actor, drain } = setUp()
    const seen: Array<string> = []
    const target = actor<string>(() => {})
    const watcher = actor<string>(
      (m, context) => {
        seen.push(m)
        if (m === "watch") context.monitor(target, ({ id }) => `down ${id}`)
      },
      { capacity: 1, controlCapacity: 1 }
    )
    watcher.tell("watch")
    drain()
    target.kill()
    target.watch(() => {
      expect(watcher.tell("user")).toBe("accepted")
      expect(watcher.tellControl("control")).toBe("accepted")
      expect(watcher.tell("refused")).toBe("full")
    })
    drain()
    expect(seen).toEqual(["watch", "down a", "control", "user"])
  })

  test("tells at once of the already dead, nothing after it was taken back, and ends with its actor", () => {
    const { actor, drain } = setUp()
    const process = controlled()
    const dead = controlled()
    dead.end()
    const seen: Array<string> = []
    const watcher = actor<string>((m, context) => {
      seen.push(m)
      if (m !== "watch") return
      context.monitor(dead, () => "dead")
      context.monitor(process, () => "taken back")()
      context.monitor(process, () => "late")
    })
    watcher.tell("watch")
    drain()
    expect(seen).toEqual(["watch", "dead"])
    expect(process.watching()).toBe(1)
    watcher.stop()
    drain()
    expect(process.watching()).toBe(0)
  })
})

describe("link", () => {
  test.each<[string, (ref: ActorRef<string>) => void, boolean]>([
    ["a crash", (ref) => ref.tell("crash"), true],
    ["a kill", (ref) => ref.kill(), true],
    ["a normal end", (ref) => ref.stop(), false]
  ])("%s of one takes the other along: %#", (_, end, both) => {
    for (const [first, second] of [
      [0, 1],
      [1, 0]
    ] as const) {
      const { actor, drain } = setUp()
      const pair = [0, 1].map(() =>
        actor<string>(() => {
          throw bug
        })
      )
      link(pair[0]!, pair[1]!)
      end(pair[first]!)
      drain()
      expect(downsOf(pair[first]!).length).toBe(1)
      expect(downsOf(pair[second]!).length).toBe(both ? 1 : 0)
    }
  })

  test("the end of one leaves no watch on the other", () => {
    const [a, b] = [controlled(), controlled()]
    link(a, b)
    a.end()
    expect([a.watching(), b.watching()]).toEqual([0, 0])
  })

  test("dissolved, it does nothing; made with something that crashed, it kills", () => {
    const { actor, drain } = setUp()
    const [a, b, c] = [actor<string>(() => {}), actor<string>(() => {}), actor<string>(() => {})]
    link(a, b)()
    a.kill()
    drain()
    expect(downsOf(b).length).toBe(0)
    link(a, c)
    drain()
    expect(downsOf(c).length).toBe(1)
  })
})

type Step =
  | { readonly do: "user" | "control"; readonly message: "plain" | "crash" | "wait" }
  | { readonly do: "system" | "turn" | "open" | "stop" | "kill" }

const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("user" as const, "control" as const),
      message: fc.oneof(
        { weight: 12, arbitrary: fc.constant("plain" as const) },
        { weight: 1, arbitrary: fc.constantFrom("crash" as const, "wait" as const) }
      )
    })
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom("system" as const, "turn" as const, "open" as const) })
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("stop" as const, "kill" as const) }) }
)

const exits = {
  none: Exit.interrupt(),
  stop: Exit.void,
  kill: Exit.fail(new Killed({ id: "a" })),
  crash: Exit.die(bug)
}

/** The same actor as plain arrays. */
class Model {
  handled: Array<string> = []
  system: Array<string> = []
  control: Array<string> = []
  user: Array<string> = []
  ended = false
  /** How it ends, or would end. */
  exit: keyof typeof exits = "none"
  waiting = false

  offer(lane: Array<string>, capacity: number, message: string) {
    if (this.exit !== "none") return "dead"
    if (lane.length >= capacity) return "full"
    lane.push(message)
    return "accepted"
  }

  end(how: "stop" | "kill") {
    if (this.ended || (how === "stop" && this.exit !== "none")) return
    this.exit = how
    if (how === "kill" && this.waiting) this.ended = true
  }

  turn() {
    while (!this.ended && !this.waiting) {
      const lane = [this.system, this.control, this.user].find(({ length }) => length > 0)
      if (this.exit !== "none") this.ended = true
      else if (lane === undefined) return
      else {
        const message = lane.shift()!
        this.handled.push(message)
        if (message.startsWith("crash")) {
          this.exit = "crash"
          this.ended = true
        }
        if (message.startsWith("wait")) this.waiting = true
      }
    }
  }
}

describe("an actor", () => {
  test("handles what it accepted, in order, system before control before user, up to its end, and is down once", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps: ReadonlyArray<Step>) => {
        const { actor, drain } = setUp()
        const handled: Array<string> = []
        const model = new Model()
        const { wait, open } = gate()
        const monitored = steps.map(controlled)
        const ref = actor<string>(
          (message, context) => {
            if (message === "begin") {
              for (const [index, process] of monitored.entries())
                context.monitor(process, () => `system ${index}`)
              return undefined
            }
            handled.push(message)
            if (message.startsWith("crash")) throw bug
            return message.startsWith("wait") ? wait : undefined
          },
          { capacity: 6, controlCapacity: 3 }
        )
        const downs = downsOf(ref)
        ref.tell("begin")
        drain()
        for (const [index, each] of steps.entries()) {
          if (each.do === "user") {
            const message = `${each.message} ${index}`
            expect(ref.tell(message)).toBe(model.offer(model.user, 6, message))
          } else if (each.do === "control") {
            const message = `${each.message} ${index}`
            expect(ref.tellControl(message)).toBe(model.offer(model.control, 3, message))
          } else if (each.do === "system") {
            monitored[index]!.end()
            model.offer(model.system, Infinity, `system ${index}`)
          } else if (each.do === "turn") {
            drain()
            model.turn()
          } else if (each.do === "open") {
            open()
            model.waiting = false
          } else {
            ref[each.do]()
            model.end(each.do)
          }
          expect(handled).toEqual(model.handled)
        }
        ref.kill()
        drain()
        expect(handled).toEqual(model.handled)
        expect(downs.length).toBe(1)
        expect(downs.map(({ exit }) => exit)).toEqual([exits[model.ended ? model.exit : "kill"]])
      }),
      { numRuns: 500 }
    )
  })
})

/** A process that ends when told to. */
function controlled() {
  const watchers = new Watchers()
  let watching = 0
  return {
    id: "controlled",
    interrupt: () => {},
    watch: (onDown: (down: Down) => void) => {
      watching++
      const unwatch = watchers.watch(onDown)
      return () => {
        watching--
        unwatch()
      }
    },
    watching: () => watching,
    end: () => watchers.announce({ id: "controlled", incarnation: 0, exit: Exit.void })
  }
}
