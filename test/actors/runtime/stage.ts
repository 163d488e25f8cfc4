import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ChildSpec } from "../../../src/actors/runtime/ChildSpec.ts"
import {
  isNormal,
  Killed,
  nextIncarnation,
  type Process,
  Watchers
} from "../../../src/actors/runtime/Process.ts"
import { assert } from "../../../src/structures/assert.ts"
import type { SupervisionEvent } from "../../../src/actors/runtime/Supervisor.ts"

/** How a child on the stage may end by itself. */
export const ends = {
  normal: Exit.void,
  shutdown: Exit.interrupt(),
  failure: Exit.fail("no"),
  defect: Exit.die(new Error("bug")),
  killed: Exit.fail(new Killed({ id: "x" }))
} as const
export type End = keyof typeof ends

/** Children whose every move is in the hands of the test, and a log of what was done to them. */
export class Stage {
  readonly log: Array<string> = []
  readonly live = new Map<string, { readonly process: Process; readonly end: (how: End) => void }>()
  /** Starts that are to fail from now on, by child; counted down. */
  readonly failing = new Map<string, number>()
  /** Children whose next start is interrupted from within. */
  readonly interrupting = new Set<string>()

  /** A child that ends as soon as it is interrupted or killed, unless it `ignores` that. */
  child(
    id: string,
    spec: Omit<ChildSpec, "id" | "start"> & { readonly ignores?: "interrupt" | "everything" } = {}
  ): ChildSpec {
    const { ignores, ...rest } = spec
    return {
      ...rest,
      id,
      start: Effect.gen({ self: this }, function* () {
        yield* Effect.addFinalizer(() => Effect.sync(() => this.log.push(`~${id}`)))
        const failing = this.failing.get(id) ?? 0
        if (failing > 0) {
          this.failing.set(id, failing - 1)
          this.log.push(`!${id}`)
          return yield* Effect.fail("no start")
        }
        if (this.interrupting.delete(id)) {
          this.log.push(`!${id}`)
          return yield* Effect.interrupt
        }
        this.log.push(`+${id}`)
        return this.enter(id, ignores)
      })
    }
  }

  /** Ends a child by its own doing. */
  end(id: string, how: End = "defect"): void {
    this.live.get(id)!.end(how)
  }

  /** What happened since the last call. `+a` started, `!a` failed to start, `-a` asked to end, `xa` killed, `~a` scope closed. */
  take(): string {
    return this.log.splice(0).join(" ")
  }

  private enter(id: string, ignores: "interrupt" | "everything" | undefined): Process {
    const watchers = new Watchers()
    const incarnation = nextIncarnation()
    const isLive = () => this.live.get(id)?.process === process
    const end = (how: End) => {
      if (isLive()) this.live.delete(id)
      watchers.announce({ id, incarnation, exit: ends[how] })
    }
    const process: Process = {
      id,
      interrupt: () => {
        if (!isLive()) return
        this.log.push(`-${id}`)
        if (ignores === undefined) end("shutdown")
      },
      kill: () => {
        if (!isLive()) return
        this.log.push(`x${id}`)
        if (ignores !== "everything") end("killed")
      },
      watch: (onDown) => watchers.watch(onDown)
    }
    assert(!this.live.has(id), "two incarnations never live at the same time")
    this.live.set(id, { process, end })
    return process
  }
}

/** An event as a word. */
export const nameOf = ({ _tag, child, exit }: SupervisionEvent): string => {
  if (exit === undefined) return `${_tag} ${child}`
  if (isNormal(exit)) return `${_tag} ${child} normally`
  return `${_tag} ${child}: ${Exit.isFailure(exit) ? Cause.pretty(exit.cause).split("\n")[0] : ""}`
}
