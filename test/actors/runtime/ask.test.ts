import { expect } from "bun:test"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import type { ActorRef } from "../../../src/actors/runtime/ActorRef.ts"
import { ask, AskTimeout, MailboxFull, Terminated } from "../../../src/actors/runtime/ask.ts"
import { spawn } from "../../../src/actors/runtime/Cell.ts"
import { DeadlineWheel } from "../../../src/actors/runtime/DeadlineWheel.ts"
import { manualTurn } from "./manualTurn.ts"
import { it } from "../../support/effectTest.ts"

interface Question {
  readonly answer: "now" | "twice" | "never" | "crash"
  readonly reply: (answer: number) => void
}

const setUp = Effect.gen(function* () {
  const wheel = yield* DeadlineWheel.make
  const { dispatcher, drain } = manualTurn()
  const held: Array<Question> = []
  const ref = spawn<Question>({
    id: "a",
    capacity: 4,
    dispatcher,
    receive: (question) => {
      if (question.answer === "crash") throw new Error("bug")
      if (question.answer === "never") held.push(question)
      else question.reply(1)
      if (question.answer === "twice") question.reply(2)
    }
  })
  const asking = (answer: Question["answer"], timeoutMs = 100) =>
    Effect.forkChild(
      ask(ref, (reply: (answer: number) => void): Question => ({ answer, reply }), timeoutMs, wheel),
      { startImmediately: true }
    )
  return { ref, asking, drain, held }
})

it("succeeds with the first reply", () =>
  Effect.gen(function* () {
    const { asking, drain } = yield* setUp
    const fibers = [yield* asking("now"), yield* asking("twice")]
    drain()
    expect(yield* Fiber.joinAll(fibers)).toEqual([1, 1])
  }))

it("fails with AskTimeout at its deadline; the late reply does nothing", () =>
  Effect.gen(function* () {
    const { asking, drain, held } = yield* setUp
    const fiber = yield* asking("never", 100)
    drain()
    yield* TestClock.adjust(99)
    expect(fiber.pollUnsafe()).toBe(undefined)
    yield* TestClock.adjust(11)
    expect(fiber.pollUnsafe()).toEqual(Exit.fail(new AskTimeout({ actor: "a", timeoutMs: 100 })))
    held[0]!.reply(3)
    expect(fiber.pollUnsafe()).toEqual(Exit.fail(new AskTimeout({ actor: "a", timeoutMs: 100 })))
  }))

it("fails with MailboxFull at once", () =>
  Effect.gen(function* () {
    const { asking } = yield* setUp
    const fibers = yield* Effect.forEach([1, 2, 3, 4, 5], () => asking("now"))
    expect(fibers.map((fiber) => fiber.pollUnsafe())).toEqual([
      ...Array.from({ length: 4 }, () => undefined),
      Exit.fail(new MailboxFull({ actor: "a" }))
    ])
  }))

it("fails with Terminated when the actor is dead, and when it dies with the question in hand or in its mailbox", () =>
  Effect.gen(function* () {
    const { asking, drain } = yield* setUp
    const fibers = [yield* asking("never"), yield* asking("crash"), yield* asking("now")]
    drain()
    fibers.push(yield* asking("now"))
    const terminated = Exit.fail(new Terminated({ actor: "a" }))
    expect(fibers.map((fiber) => fiber.pollUnsafe())).toEqual(fibers.map(() => terminated))
  }))

it("takes its watch back, whether answered, timed out or interrupted", () =>
  Effect.gen(function* () {
    const wheel = yield* DeadlineWheel.make
    let watching = 0
    const questions: Array<Question> = []
    const ref: ActorRef<Question> = {
      id: "a",
      incarnation: 1,
      tell: (question) => (questions.push(question), "accepted"),
      tellControl: () => "dead",
      stop: () => {},
      interrupt: () => {},
      kill: () => {},
      watch: () => {
        watching++
        return () => watching--
      }
    }
    const asked = ask(
      ref,
      (reply: (answer: number) => void): Question => ({ answer: "never", reply }),
      100,
      wheel
    )
    const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(asked, { startImmediately: true }))
    expect(watching).toBe(3)
    questions[0]!.reply(1)
    expect(watching).toBe(2)
    yield* Fiber.interrupt(fibers[1]!)
    expect(watching).toBe(1)
    yield* TestClock.adjust(200)
    expect(watching).toBe(0)
  }))
