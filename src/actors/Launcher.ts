import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { messageOf } from "../structures/messageOf.ts"
import { nextIncarnation, type Process, Watchers } from "./runtime/Process.ts"

/** A worker process that could not be started. */
export class LaunchFailed extends Schema.TaggedError<LaunchFailed>()("LaunchFailed", {
  worker: Schema.String,
  message: Schema.String
}) {}

/** A worker process that ended by itself with a failure, or was killed. */
export class WorkerExited extends Schema.TaggedError<WorkerExited>()("WorkerExited", {
  worker: Schema.String,
  code: Schema.NullOr(Schema.Int),
  signal: Schema.NullOr(Schema.String)
}) {
  override get message(): string {
    return this.signal === null ? `it left with exit code ${this.code}` : `it was ended by ${this.signal}`
  }
}

/** How one worker process is started. */
export interface WorkerCommand {
  readonly name: string
  readonly command: ReadonlyArray<string>
  /** Added to the environment: where secrets travel, since command lines are public. */
  readonly env: Readonly<Record<string, string>>
}

/** Starts worker processes; they end with the scope they were started in. */
export interface Launcher {
  readonly launch: (worker: WorkerCommand) => Effect.Effect<Process, LaunchFailed, Scope.Scope>
}

/**
 * Workers as child processes of this one. Asked to end they get SIGTERM, and drain; killed they get SIGKILL, as they do when this process
 * exits, for one that was stopped would stay. Their standard input is a pipe from us: when we are gone, however we went, they read its end and
 * leave.
 */
export const processLauncher: Launcher = {
  launch: (worker) =>
    Effect.acquireRelease(
      Effect.try({
        try: () => start(worker),
        catch: (error) =>
          new LaunchFailed({
            worker: worker.name,
            message: messageOf(error)
          })
      }),
      (process) => Effect.sync(process.kill)
    )
}

/** How to kill those that have not ended. */
const living = new Set<() => void>()
const killAll = (): void => {
  for (const kill of living) kill()
}

const start = (worker: WorkerCommand): Process & { readonly kill: () => void } => {
  const watchers = new Watchers()
  const incarnation = nextIncarnation()
  const kill = (): void => child.kill("SIGKILL")
  const child = Bun.spawn([...worker.command], {
    stdin: "pipe",
    stdout: "ignore",
    stderr: "inherit",
    env: { ...process.env, ...worker.env },
    onExit: ({ signalCode }, code) => {
      living.delete(kill)
      if (living.size === 0) process.off("exit", killAll)
      const exit =
        code === 0
          ? Exit.void
          : Exit.fail(
              new WorkerExited({
                worker: worker.name,
                code,
                signal: signalCode === null ? null : String(signalCode)
              })
            )
      watchers.announce({ id: worker.name, incarnation, exit })
    }
  })
  if (living.size === 0) process.on("exit", killAll)
  living.add(kill)
  return {
    id: worker.name,
    interrupt: () => child.kill("SIGTERM"),
    kill,
    watch: (onDown) => watchers.watch(onDown)
  }
}
