/** Something to be done in this turn. An object, so that asking for it allocates nothing. */
export interface Task {
  readonly run: () => void
}

/** While each look at the sockets brings so many chunks another one follows, until a turn has so many. */
const CHUNKS_PER_LOOK = 2
const CHUNKS_PER_TURN = 64

/**
 * The rhythm of a process: whatever socket callbacks bring in during one turn is handled by the actors once, at the end of that turn, and
 * what they wrote leaves the sockets right after. A turn is one of the event loop, or several while the sockets bring more than one
 * chunk in each: larger turns take fewer writes, here and at the peers. One `setImmediate` for each turn of the event loop in which
 * something happened.
 *
 * Flushing once a turn, and not once a callback, is worth 3–14 × in throughput (few large writes in place of many small ones). Tasks
 * run in the order they were asked for; one asked for by a `soon` task waits for the next turn, so that sockets are read in between.
 * A task that throws stops no other: its error is thrown again on its own, as an uncaught one.
 */
export class Turn {
  private work: Array<Task> = []
  private later: Array<Task> = []
  private flushes: Array<Task> = []
  private asked = false
  /** Chunks that sockets brought in this turn, and those of them that had come by the last look. */
  private chunks = 0
  private seen = 0
  private readonly defer: (run: () => void) => void

  /** `defer` runs a function after the current callbacks; tests and the fault simulator bring their own. */
  constructor(defer: (run: () => void) => void = setImmediate) {
    this.defer = defer
  }

  /** Runs `task` at the end of this turn, before any flush. The caller sees to it that it asks once. */
  soon(task: Task): void {
    this.work.push(task)
    this.ask()
  }

  /** Runs `task` at the very end of this turn. The caller sees to it that it asks once. */
  flush(task: Task): void {
    this.flushes.push(task)
    this.ask()
  }

  /** A socket has brought a chunk. */
  heard(): void {
    this.chunks++
  }

  private ask(): void {
    if (this.asked) return
    this.asked = true
    this.defer(this.end)
  }

  private readonly end = (): void => {
    const { chunks, seen, work } = this
    if (chunks >= seen + CHUNKS_PER_LOOK && chunks < CHUNKS_PER_TURN) {
      this.seen = chunks
      return this.defer(this.end)
    }
    this.chunks = this.seen = 0
    this.work = this.later
    this.later = work
    this.runAll(work)
    this.runAll(this.flushes)
    this.asked = false
    if (this.work.length > 0) this.ask()
  }

  private runAll(tasks: Array<Task>): void {
    // By index: a flush may add another one.
    for (let i = 0; i < tasks.length; i++) {
      try {
        tasks[i]!.run()
      } catch (error) {
        this.defer(() => {
          throw error
        })
      }
    }
    tasks.length = 0
  }
}
