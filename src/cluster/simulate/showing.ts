import { systemTimers } from "../../protocol/Timers.ts"
import type { Job, Run } from "../../simulator/report/Study.ts"
import { percent } from "../../structures/percent.ts"
import type { Surroundings } from "../cli/Shell.ts"

/** Between two lines of progress where nobody watches a terminal. */
const LINE_MS = 5_000

/** Shows how far jobs are: on a terminal in one line, else now and then; and in the end, how fast they were. */
export class Showing {
  private readonly shell: Surroundings
  /** Undefined where nobody knows. */
  private readonly total: number | undefined
  private readonly startMs = systemTimers.nowMs()
  private saidMs = this.startMs
  private replays = 0
  private events = 0

  constructor(shell: Surroundings, total?: number) {
    this.shell = shell
    this.total = total
  }

  /** A job is done. */
  after({ contender, seed, speed }: Job, { events, figures }: Run): void {
    if (contender === undefined || figures === undefined) return
    this.replays++
    this.events += events
    const { err, errColumns } = this.shell
    const nowMs = systemTimers.nowMs()
    if (errColumns === undefined && nowMs - this.saidMs < LINE_MS) return
    this.saidMs = nowMs
    const far = this.total === undefined ? `${this.replays}` : `${this.replays}/${this.total}`
    const line = `${far} replays  ${contender.name}: ${percent(figures.goodput)} % at speed ${speed.toPrecision(3)}, seed ${seed}`
    err(errColumns === undefined ? `${line}\n` : `\r${line.slice(0, errColumns - 1).padEnd(errColumns - 1)}`)
  }

  /** All are done. */
  end(): void {
    const { err, errColumns } = this.shell
    const seconds = (systemTimers.nowMs() - this.startMs) / 1000
    if (errColumns !== undefined) err(`\r${" ".repeat(errColumns - 1)}\r`)
    err(
      `${this.replays} replays with ${shown(this.events)} events in ${seconds.toFixed(1)} s: ${shown(this.events / seconds)} events/s\n`
    )
  }
}

const shown = (count: number): string => Math.round(count).toLocaleString("en-US")
