import { readFileSync } from "node:fs"
import { systemTimers } from "../../src/protocol/Timers.ts"
import { elapse } from "./elapse.ts"
import { root } from "./repository.ts"

/** The line a cluster prints when it is ready. */
export interface Ready {
  readonly ready: true
  readonly tcp: string
  readonly http: string
  readonly workers: number
  readonly pid: number
}

/** Waits, for at most 30 s, until `look` gives something; it is asked every 20 ms. */
export const eventually = async <A>(
  what: string,
  look: () => A | undefined | Promise<A | undefined>
): Promise<A> => {
  const untilMs = systemTimers.nowMs() + 30_000
  while (systemTimers.nowMs() < untilMs) {
    const found = await look()
    if (found !== undefined) return found
    await elapse(20)
  }
  throw new Error(`${what} did not come about within 30 s`)
}

/** A cluster as a user starts it, in processes of its own, on free ports. */
export class ClusterProcess {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">
  readonly ready: Ready
  readonly errors: Promise<string>

  private constructor(
    child: Bun.Subprocess<"ignore", "pipe", "pipe">,
    ready: Ready,
    errors: Promise<string>
  ) {
    this.child = child
    this.ready = ready
    this.errors = errors
  }

  static async start(
    args: ReadonlyArray<string> = [],
    env: Readonly<Record<string, string>> = {}
  ): Promise<ClusterProcess> {
    const child = Bun.spawn(
      [
        process.execPath,
        "src/cluster/main.ts",
        "cluster",
        "--port",
        "0",
        "--http-port",
        "0",
        "--json",
        ...args
      ],
      { cwd: root, stdin: "ignore", stdout: "pipe", stderr: "pipe", env: { ...process.env, ...env } }
    )
    const errors = new Response(child.stderr).text()
    const line = await firstLine(child.stdout)
    if (line === undefined) throw new Error(`the cluster did not start: ${await errors}`)
    return new ClusterProcess(child, JSON.parse(line) as Ready, errors)
  }

  /** Process ids of the workers, in the order in which they were started. */
  workerPids(): ReadonlyArray<number> {
    const { pid } = this.child
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number)
  }

  /** Stops it as Ctrl-C does; resolves with the exit code. */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<number> {
    if (this.child.exitCode === null) this.child.kill(signal)
    return this.child.exited
  }

  /** Of a test that failed before it stopped the cluster. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL")
  }
}

const firstLine = async (stream: ReadableStream<Uint8Array>): Promise<string | undefined> => {
  const decoder = new TextDecoder()
  let text = ""
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true })
    const end = text.indexOf("\n")
    if (end >= 0) return text.slice(0, end)
  }
  return undefined
}
