import { readdirSync, readFileSync } from "node:fs"

/** What a process has used since it started. Differences of two readings are what counts. */
export interface Usage {
  /** CPU time of all its threads, in microseconds, exact to the scheduler's tick. */
  readonly cpuUs: number
  /** The same in user and kernel mode, in clock ticks: coarse, good for a share. */
  readonly userTicks: number
  readonly systemTicks: number
}

/** Reads `/proc`. The CPU time of threads that have ended is not in `cpuUs`; Bun's threads live as long as the process. */
export const usageOf = (pid: number): Usage => {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0])
  }
  // The process name, in parentheses, may hold blanks.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return { cpuUs: nanoseconds / 1000, userTicks: Number(fields[11]), systemTicks: Number(fields[12]) }
}

/** Resident memory, in bytes. */
export const residentBytesOf = (pid: number): number =>
  1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1])
