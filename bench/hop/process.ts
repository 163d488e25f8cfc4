import { readdirSync, readFileSync } from "node:fs"

/** What a process used for a while. */
export interface Usage {
  /** CPU time of all its threads, in microseconds, exact to the scheduler's tick; without what a thread used before it ended. */
  readonly cpuUs: number
  /** The same in user and kernel mode, in clock ticks: coarse, good for a share. */
  readonly userTicks: number
  readonly systemTicks: number
}

/** What a process has used since it started, by `/proc`. */
export interface Reading {
  /** By thread. The compiler's threads end when there is nothing to do, so a sum may fall. */
  readonly nanoseconds: ReadonlyMap<string, number>
  readonly userTicks: number
  readonly systemTicks: number
}

export const readUsage = (pid: number): Reading => {
  const nanoseconds = new Map<string, number>()
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const schedstat = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8")
    nanoseconds.set(thread, Number(schedstat.split(" ")[0]))
  }
  // The process name, in parentheses, may hold blanks.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return { nanoseconds, userTicks: Number(fields[11]), systemTicks: Number(fields[12]) }
}

export const usedBetween = (before: Reading, after: Reading): Usage => {
  let sum = 0
  for (const [thread, nanoseconds] of after.nanoseconds)
    sum += nanoseconds - (before.nanoseconds.get(thread) ?? 0)
  return {
    cpuUs: sum / 1000,
    userTicks: after.userTicks - before.userTicks,
    systemTicks: after.systemTicks - before.systemTicks
  }
}

/** Resident memory, in bytes. */
export const residentBytesOf = (pid: number): number =>
  1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1])
