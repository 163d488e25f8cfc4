import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { ActorRef } from "../../../src/actors/runtime/ActorRef.ts"
import { ask } from "../../../src/actors/runtime/ask.ts"
import { spawn } from "../../../src/actors/runtime/Cell.ts"
import { DeadlineWheel } from "../../../src/actors/runtime/DeadlineWheel.ts"
import { link } from "../../../src/actors/runtime/link.ts"
import { type Down, isNormal, Killed, type Process, Watchers } from "../../../src/actors/runtime/Process.ts"
import { LinkLost, type RemoteLink, RemoteRef } from "../../../src/actors/runtime/RemoteRef.ts"
import type { Turn } from "../../../src/protocol/Turn.ts"
import { it } from "../../support/effectTest.ts"
import { manualTurn } from "./manualTurn.ts"

/** A link in memory: what one side says reaches the other in a later turn, in order, control before user. */
const memoryLink = <M>(target: ActorRef<M>, turn: Turn) => {
  const watchers = new Watchers()
  const { id, incarnation } = target
  const wire: Array<{ readonly urgent: boolean; readonly arrive: () => void }> = []
  let open = true
  const pass = (urgent: boolean, arrive: () => void) => {
    wire.push({ urgent, arrive })
    turn.soon({
      run: () => {
        const next = wire.findIndex((each) => each.urgent)
        const [first] = wire.splice(Math.max(0, next), 1)
        if (open) first!.arrive()
      }
    })
  }
  target.watch((down) => pass(false, () => watchers.announce(down)))
  const remote: RemoteLink<M> = {
    send: (message, lane) => {
      if (!open) return false
      if (lane === "user") pass(false, () => void target.tell(message))
      else pass(true, () => void target.tellControl(message))
      return true
    },
    end: (how) => pass(false, () => target[how]()),
    onDown: (listener) => void watchers.watch(({ exit }) => listener(exit))
  }
  const cut = () => {
    open = false
    watchers.announce({ id, incarnation, exit: Exit.fail(new LinkLost({ actor: id })) })
  }
  return { remote, cut }
}

type Message = string | ((answer: string) => void)

const place = (remote: boolean) => {
  const { dispatcher, drain, turn } = manualTurn()
  const seen: Array<string> = []
  const near = (id = "a"): ActorRef<Message> =>
    spawn<Message>({
      id,
      capacity: 10,
      dispatcher,
      receive: (message) => {
        if (typeof message === "function") return message("answer")
        seen.push(message)
        if (message === "crash") throw new Error("bug")
        if (message === "hang") return Effect.never
      }
    })
  const actor = (id = "a") => {
    const target = near(id)
    return remote ? new RemoteRef(target, memoryLink(target, turn).remote) : target
  }
  return { actor, near, drain, turn, seen }
}

const downsOf = (ref: Process): Array<Down> => {
  const downs: Array<Down> = []
  ref.watch((down) => downs.push(down))
  return downs
}

describe.each([
  ["local", false],
  ["over a link", true]
])("a reference, %s", (_, remote) => {
  test("keeps the order of what it is told; control comes first", () => {
    const { actor, drain, seen } = place(remote)
    const ref = actor()
    for (const message of ["1", "2", "3"]) expect(ref.tell(message)).toBe("accepted")
    expect(ref.tellControl("first")).toBe("accepted")
    drain()
    expect(seen).toEqual(["first", "1", "2", "3"])
  })

  test.each<[string, (ref: ActorRef<Message>) => unknown, Exit.Exit<void, unknown>]>([
    ["a stop", (ref) => ref.stop(), Exit.void],
    ["an interrupt", (ref) => ref.interrupt(), Exit.void],
    ["a kill", (ref) => ref.kill(), Exit.fail(new Killed({ id: "a" }))],
    ["a crash", (ref) => ref.tell("crash"), Exit.die(new Error("bug"))]
  ])("reports %s by one Down, also to those who come late, and is dead from then on", (_, end, exit) => {
    const { actor, drain } = place(remote)
    const ref = actor()
    const downs = downsOf(ref)
    const taken: Array<Down> = []
    ref.watch((down) => taken.push(down))()
    end(ref)
    drain()
    expect(downs).toEqual([{ id: "a", incarnation: ref.incarnation, exit }])
    expect(downsOf(ref)).toEqual(downs)
    expect(taken).toEqual([])
    expect([ref.tell("x"), ref.tellControl("x")]).toEqual(["dead", "dead"])
  })

  test("takes no message once it was asked to end", () => {
    const { actor, drain, seen } = place(remote)
    const ref = actor()
    ref.tell("hang")
    drain()
    ref.stop()
    expect(ref.tell("late")).toBe("dead")
    drain()
    expect(downsOf(ref)).toEqual([])
    ref.kill()
    drain()
    expect(downsOf(ref).length).toBe(1)
    expect(seen).toEqual(["hang"])
  })

  test("can be linked", () => {
    const { actor, drain } = place(remote)
    const [a, b] = [actor("a"), actor("b")]
    link(a, b)
    a.tell("crash")
    drain()
    expect(downsOf(b).map(({ exit }) => isNormal(exit))).toEqual([false])
  })

  it("can be asked", () =>
    Effect.gen(function* () {
      const { actor, drain } = place(remote)
      const wheel = yield* DeadlineWheel.make
      const ref = actor()
      const fiber = yield* Effect.forkChild(
        ask(ref, (reply: (answer: string) => void): Message => reply, 1_000, wheel),
        { startImmediately: true }
      )
      drain()
      expect(yield* Fiber.join(fiber)).toBe("answer")
    }))
})

describe("a lost link", () => {
  test("is a Down, once; the reborn reference is another incarnation", () => {
    const { drain, near, turn } = place(true)
    const target = near()
    const { cut, remote } = memoryLink(target, turn)
    const ref = new RemoteRef(target, remote)
    const downs = downsOf(ref)
    cut()
    expect(ref.tell("x")).toBe("dead")
    target.kill()
    drain()
    const lost = { id: "a", incarnation: target.incarnation, exit: Exit.fail(new LinkLost({ actor: "a" })) }
    expect(downs).toEqual([lost])
    const reborn = near()
    const again = new RemoteRef(reborn, memoryLink(reborn, turn).remote)
    expect(again.incarnation).not.toBe(ref.incarnation)
    expect([ref.tell("x"), again.tell("x")]).toEqual(["dead", "accepted"])
  })
})
