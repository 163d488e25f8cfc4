import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { Killed, nextIncarnation, type Process, Watchers } from "./Process.ts"

/**
 * A fiber as a process. `interrupt` and `kill` both interrupt it, which it may delay or refuse; the one that was killed is down as
 * `Killed`, whatever it made of that.
 */
export const processOfFiber = (id: string, fiber: Fiber.Fiber<unknown, unknown>): Process => {
  const incarnation = nextIncarnation()
  // A fiber goes on to call observers that were taken back meanwhile, and not those behind one that throws.
  const watchers = new Watchers()
  let killed = false
  fiber.addObserver((exit) =>
    watchers.announce({ id, incarnation, exit: killed ? Exit.fail(new Killed({ id })) : exit })
  )
  return {
    id,
    interrupt: () => fiber.interruptUnsafe(),
    kill: () => {
      killed = true
      fiber.interruptUnsafe()
    },
    watch: (onDown) => watchers.watch(onDown)
  }
}
