import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { TestConsole } from "effect/testing"
import { commandLine } from "../../../src/cluster/cli/commandLine.ts"
import { root } from "../../support/repository.ts"

interface Ran {
  readonly exitCode: number | null
  readonly out: string
  readonly err: string
}

/** For a shell in which nobody reads standard input. */
export const noInput = (): Promise<Uint8Array<ArrayBuffer>> =>
  Promise.reject(new Error("standard input is not to be read"))

/** Runs a command as a process, with nothing in standard input unless something is given. */
export const spawn = (
  args: ReadonlyArray<string>,
  environment: Record<string, string> = {},
  input: Uint8Array<ArrayBuffer> | "ignore" = "ignore"
): Ran => {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, "src/cluster/main.ts", ...args], {
    cwd: root,
    env: { PATH: "", ...environment },
    stdin: input
  })
  return { exitCode, out: stdout.toString(), err: stderr.toString() }
}

/** Runs a command in this process, which is a tenth of the work. */
export const run = async (
  args: ReadonlyArray<string>,
  environment: Record<string, string> = {},
  input: () => Promise<Uint8Array<ArrayBuffer>> = noInput
): Promise<Ran> => {
  let out = ""
  let err = ""
  const shell = {
    environment,
    directory: root,
    input,
    out: async (text: string) => {
      out += text
      return true
    },
    err: (text: string) => void (err += text),
    errColumns: undefined
  }
  const command = Effect.gen(function* () {
    const exit = yield* Effect.result(commandLine(args, shell))
    for (const line of yield* TestConsole.errorLines) err += `${String(line)}\n`
    return exit
  })
  const result = await Effect.runPromise(Effect.provide(command, TestConsole.layer))
  if (Result.isSuccess(result)) return { exitCode: 0, out, err }
  const { message, exitCode } = result.failure
  return { exitCode, out, err: message === "" ? err : `${err}${message}\n` }
}
