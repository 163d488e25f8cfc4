import { systemTimers } from "../../src/protocol/Timers.ts"
import type { Load, LoadResult } from "./generator.ts"
import type { WorkerReady } from "./worker.ts"

/** A running part of the bench. */
export interface Child {
  readonly pid: number
  readonly stop: () => Promise<void>
}
export interface Broker extends Child {
  /** `host:port` of its TCP listener. */
  readonly address: string
}
export interface Generator extends Child {
  /** Runs one load; one at a time. Throws when its result is not valid. */
  readonly run: (load: Load) => Promise<LoadResult>
}

const READY_MS = 15_000
const STOP_MS = 5_000
/** Everything that was started and not stopped, for a bench that ends early. */
const alive = new Set<Bun.Subprocess>()
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL")
})
process.on("SIGINT", () => process.exit(130))
process.on("SIGTERM", () => process.exit(143))

const adopt = (child: Bun.Subprocess, deathIsFatal: (why: string) => void): Child => {
  alive.add(child)
  void (async () => {
    const code = await child.exited
    alive.delete(child)
    deathIsFatal(`a process of the bench ended early, with code ${code}`)
  })()
  return {
    pid: child.pid,
    stop: async () => {
      child.kill()
      const giveUp = systemTimers.after(STOP_MS, () => child.kill("SIGKILL"))
      await child.exited
      giveUp()
    }
  }
}

/** The promise's outcome, or an error that names `what` when that takes too long. */
export const within = <A>(promise: Promise<A>, limitMs: number, what: string): Promise<A> => {
  const late = Promise.withResolvers<never>()
  const cancel = systemTimers.after(limitMs, () => late.reject(new Error(`${what} took over ${limitMs} ms`)))
  return Promise.race([promise, late.promise]).finally(cancel)
}

/** Starts a broker and reads its ready line, `{"ready":true,"tcp":"host:port",…}`, from its stdout. */
const startBroker = async (command: ReadonlyArray<string>): Promise<Broker> => {
  const child = Bun.spawn([...command], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
    // That it begins to drain is not worth a line in the midst of a bench.
    env: { PARALLAX_LOG_LEVEL: "warn", ...process.env }
  })
  const early = Promise.withResolvers<never>()
  const owned = adopt(child, (why) => early.reject(new Error(`${command.join(" ")}: ${why}`)))
  early.promise.catch(() => undefined)
  const line = Promise.withResolvers<string>()
  void (async () => {
    let text = ""
    const decoder = new TextDecoder()
    for await (const chunk of child.stdout) {
      text += decoder.decode(chunk, { stream: true })
      const end = text.indexOf("\n")
      if (end >= 0) line.resolve(text.slice(0, end))
    }
  })()
  const first = await within(Promise.race([line.promise, early.promise]), READY_MS, `start of ${command[0]}`)
  const { tcp } = JSON.parse(first) as { readonly tcp?: string }
  if (tcp === undefined) throw new Error(`no "tcp" in the ready line of ${command.join(" ")}: ${first}`)
  return { ...owned, address: tcp }
}

const main = Bun.fileURLToPath(import.meta.resolve("../../src/cluster/main.ts"))
/** Starts Parallax's balancer on free ports, or what `command` says in its place. */
export const startParallax = (command: string | undefined): Promise<Broker> =>
  startBroker(
    command?.split(" ") ?? [process.execPath, main, "balancer", "--port", "0", "--http-port", "0", "--json"]
  )

/** Starts the hand-written relay. */
export const startRelay = (...flags: ReadonlyArray<string>): Promise<Broker> =>
  startBroker([process.execPath, Bun.fileURLToPath(import.meta.resolve("./relay.ts")), ...flags])

/** A process of the bench that is told what to do over IPC. */
export interface Peer extends Child {
  /** Its next message, unasked. */
  readonly told: () => Promise<unknown>
  /** Sends a message and waits for the answer; one at a time. */
  readonly ask: (message: unknown) => Promise<unknown>
}

/** Starts the script at `url` with Bun. */
export const startPeer = (url: string, ...args: ReadonlyArray<string>): Peer => {
  let told = Promise.withResolvers<unknown>()
  const child = Bun.spawn([process.execPath, Bun.fileURLToPath(url), ...args], {
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    ipc: (message: unknown) => told.resolve(message)
  })
  told.promise.catch(() => undefined)
  return {
    ...adopt(child, (why) => told.reject(new Error(`${url}: ${why}`))),
    told: () => told.promise,
    ask: (message) => {
      told = Promise.withResolvers<unknown>()
      told.promise.catch(() => undefined)
      child.send(message)
      return told.promise
    }
  }
}

/** Starts the worker process, with its connections to every broker. The address is where it takes direct connections. */
export const startWorker = async (brokers: ReadonlyArray<string>): Promise<Broker> => {
  const { pid, stop, told } = startPeer(import.meta.resolve("./worker.ts"), ...brokers)
  const { direct } = (await within(told(), READY_MS, "registration of the bench workers")) as WorkerReady
  return { pid, stop, address: direct }
}

/** Starts the process of the clients. */
export const startGenerator = (): Generator => {
  const generator = startPeer(import.meta.resolve("./generator.ts"))
  return {
    pid: generator.pid,
    stop: generator.stop,
    run: async (load) => {
      const limitMs = load.warmMs + load.measureMs + 30_000
      const result = (await within(generator.ask(load), limitMs, "a load")) as LoadResult
      if (result.fault !== undefined) throw new Error(result.fault)
      return result
    }
  }
}
