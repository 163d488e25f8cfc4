import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { type FleetOptions, type FleetOrder, FleetState, type Sighting } from "../../src/actors/FleetState.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Fleet = Pick<FleetState, "wanted" | "startFailed" | "look" | "starting" | "coldStartMs">

interface Subject {
  readonly make: (options: FleetOptions) => Fleet
}

const LOOK_MS = 250
const RETRY_MS = 2_000
const DRAIN_MS = 10_000
const CONNECT_MS = 5_000
const RECONNECT_MS = 3_000
/** From the start of a process until it is connected, and from then until it is ready. */
const BOOT_MS = 500
const WARM_MS = 250

type Mishap = "crash" | "exit" | "drain" | "suspect" | "finish" | "hang"
/** Something that happens to a process of that index, if there is one, or to the fleet. */
type Event =
  | { readonly do: Mishap; readonly index: number }
  | { readonly do: "want"; readonly count: number }
  | { readonly do: "breakStarts" | "mendStarts" | "crashAutoscaler" | "nothing" }

interface Process {
  state: Sighting["state"]
  incarnation: number
  /** It connects no more. */
  hangs: boolean
  sinceMs: number
  /** Requests of a draining process that are not finished. */
  busy: boolean
}

const times = { drainMs: DRAIN_MS, retryMs: RETRY_MS, connectMs: CONNECT_MS, reconnectMs: RECONNECT_MS }

/** Processes as they behave, beside the fleet that looks after them. */
class World {
  readonly processes = new Map<number, Process>()
  readonly options: FleetOptions
  fleet: Fleet
  nowMs = 0
  wanted: number
  starts = 0
  private startsFail = false
  private readonly subject: Subject

  constructor(subject: Subject, { least, most }: { readonly least: number; readonly most: number }) {
    this.subject = subject
    this.options = { least, most, ...times }
    this.wanted = least
    this.fleet = subject.make(this.options)
  }

  get staying(): number {
    return [...this.processes.values()].filter(({ state }) => state !== "draining").length
  }

  happen(event: Event): void {
    switch (event.do) {
      case "want":
        this.wanted = Math.min(Math.max(event.count, this.options.least), this.options.most)
        this.fleet.wanted = this.wanted
        return
      case "breakStarts":
      case "mendStarts":
        this.startsFail = event.do === "breakStarts"
        return
      case "crashAutoscaler":
        this.fleet = this.subject.make(this.options)
        // The policy of a new one says at the end of a period how many are wanted.
        this.fleet.wanted = this.wanted
        return
      case "nothing":
        return
      default:
        this.befall(event.do, event.index)
    }
  }

  /** One look, and what follows from its orders. Returns them. */
  look(): ReadonlyArray<FleetOrder> {
    this.nowMs += LOOK_MS
    for (const process of this.processes.values()) {
      const forMs = this.nowMs - process.sinceMs
      if (process.hangs) continue
      if (process.state === "absent" && forMs >= BOOT_MS) this.enter(process, "starting")
      else if (process.state === "starting" && forMs >= WARM_MS) this.enter(process, "ready")
    }
    const seen = [...this.processes].map(([index, { incarnation, state }]) => ({
      index,
      process: incarnation,
      state
    }))
    const orders = this.fleet.look(seen, (candidates) => candidates[0]!, this.nowMs)
    for (const order of orders) this.obey(order)
    return orders
  }

  private obey({ _tag, index }: FleetOrder): void {
    if (_tag === "Start") {
      expect(this.processes.has(index)).toBe(false)
      expect(index).toBeLessThan(this.options.most)
      this.starts++
      if (this.startsFail) this.fleet.startFailed(this.nowMs)
      else {
        const incarnation = this.starts
        const process = {
          state: "absent",
          sinceMs: this.nowMs,
          incarnation,
          hangs: false,
          busy: false
        } as const
        this.processes.set(index, { ...process })
      }
    } else if (_tag === "Drain") this.befall("drain", index)
    else {
      const process = this.processes.get(index)!
      // Nobody's request is cut off before its deadline.
      if (process.busy) expect(this.nowMs - process.sinceMs).toBeGreaterThan(DRAIN_MS)
      this.processes.delete(index)
    }
  }

  private befall(what: Mishap, index: number): void {
    const process = this.processes.get(index)
    if (process === undefined) return
    if (what === "exit") this.processes.delete(index)
    else if (what === "crash" || what === "hang") {
      this.enter(process, "absent")
      process.busy = false
      process.hangs = what === "hang"
      if (what === "crash") process.incarnation = ++this.starts
    } else if (what === "suspect" && process.state === "ready") this.enter(process, "suspect")
    else if (what === "finish") {
      if (process.state === "draining") this.processes.delete(index)
      else if (process.state === "suspect") this.enter(process, "ready")
    } else if (what === "drain" && process.state !== "absent" && process.state !== "draining") {
      process.busy = process.state === "ready"
      this.enter(process, "draining")
    }
  }

  private enter(process: Process, state: Sighting["state"]): void {
    process.state = state
    process.sinceMs = this.nowMs
  }
}

const index = fc.nat(9)
const event: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ do: fc.constantFrom("crash", "exit", "drain", "suspect", "hang", "finish", "finish"), index }),
  fc.record({ do: fc.constant("want"), count: fc.nat(12) }),
  fc.record({ do: fc.constantFrom("breakStarts", "mendStarts", "mendStarts", "crashAutoscaler", "nothing") })
)
const bounds = fc
  .tuple(fc.nat(4), fc.integer({ min: 1, max: 6 }))
  .map(([least, extra]) => ({ least, most: least + extra }))
const life = fc.record({ bounds, events: fc.array(event, { maxLength: 60, size: "max" }) })

const laws = [
  {
    id: "fleet-bounded",
    check: (subject: Subject) =>
      holds(
        fc.property(life, ({ bounds, events }) => {
          const world = new World(subject, bounds)
          for (const each of events) {
            world.happen(each)
            world.look()
            expect(world.processes.size).toBeLessThanOrEqual(bounds.most)
          }
        })
      )
  },
  {
    id: "fleet-keeps-enough",
    check: (subject: Subject) =>
      holds(
        fc.property(life, ({ bounds, events }) => {
          const world = new World(subject, bounds)
          for (const each of events) {
            world.happen(each)
            const before = world.staying
            const orders = world.look()
            if (orders.some(({ _tag }) => _tag === "Drain"))
              expect(world.staying).toBeGreaterThanOrEqual(Math.min(before, world.wanted))
          }
        })
      )
  },
  {
    id: "fleet-converges",
    check: (subject: Subject) =>
      holds(
        fc.property(life, ({ bounds, events }) => {
          const world = new World(subject, bounds)
          for (const each of events) {
            world.happen(each)
            world.look()
          }
          world.happen({ do: "mendStarts" })
          for (let i = 0; i < bounds.most; i++) world.happen({ do: "finish", index: i })
          // Time for a process that drains or hangs for ever to be given up, and for new ones to be ready.
          const looks = (DRAIN_MS + RETRY_MS + 2 * (BOOT_MS + WARM_MS)) / LOOK_MS + 8
          for (let i = 0; i < looks; i++) world.look()
          expect([...world.processes.values()].map(({ state }) => state)).toEqual(
            Array.from({ length: world.wanted }, () => "ready")
          )
          expect(world.look()).toEqual([])
        })
      )
  },
  {
    id: "fleet-retries",
    check: ({ make }: Subject) =>
      holds(
        fc.property(fc.integer({ min: 1, max: 40 }), (looks) => {
          const world = new World({ make }, { least: 1, most: 2 })
          world.happen({ do: "breakStarts" })
          for (let i = 0; i < looks; i++) world.look()
          expect(world.starts).toBe(Math.ceil((looks * LOOK_MS) / RETRY_MS))
        })
      )
  }
]

const asItIs: Subject = { make: (options) => new FleetState(options) }

describe("the worker processes of a model", () => {
  keepsAll(laws, asItIs)

  const sights = (...states: ReadonlyArray<Sighting["state"]>): ReadonlyArray<Sighting> =>
    states.map((state, index) => ({ index, state, process: index }))
  const fleetOf = (wanted: number, most = 8): FleetState => {
    const fleet = new FleetState({ least: 1, most, ...times })
    fleet.wanted = wanted
    return fleet
  }
  const last = (among: ReadonlyArray<number>): number => among.at(-1)!

  test("those that hold nothing go first, then those the choice falls on", () => {
    const fleet = fleetOf(1)
    expect(fleet.look(sights("ready", "absent", "ready", "starting"), (among) => among[1]!, 0)).toEqual([
      { _tag: "Stop", index: 1 },
      { _tag: "Drain", index: 2 },
      { _tag: "Drain", index: 3 }
    ])
    expect(fleet.starting(sights("ready", "absent", "draining", "draining"))).toBe(0)
  })

  test("one that drains is given up when no request of it can live any more", () => {
    const fleet = fleetOf(1)
    fleet.look(sights("ready", "ready"), last, 0)
    expect(fleet.look(sights("ready", "draining"), last, DRAIN_MS)).toEqual([])
    expect(fleet.look(sights("ready", "draining"), last, DRAIN_MS + 1)).toEqual([{ _tag: "Stop", index: 1 }])
  })

  /** Looks at one process, number 0. */
  const lonely = () => {
    const fleet = new FleetState({ least: 1, most: 2, ...times })
    return (nowMs: number, state?: Sighting["state"], process: unknown = "first") =>
      fleet.look(state === undefined ? [] : [{ index: 0, state, process }], () => 0, nowMs)
  }

  test("one that has lost its connection and does not come back is given up, and another one started", () => {
    const look = lonely()
    look(0, "ready")
    expect(look(2_000, "absent")).toEqual([])
    // It was back for a moment.
    look(2_500, "ready")
    expect(look(2_750, "absent")).toEqual([])
    expect(look(2_750 + RECONNECT_MS, "absent")).toEqual([])
    const gone = 3_000 + RECONNECT_MS
    expect(look(gone, "absent")).toEqual([{ _tag: "GiveUp", index: 0, afterMs: RECONNECT_MS }])
    expect(look(gone + 250)).toEqual([{ _tag: "Start", index: 0 }])
  })

  test("nobody is given up for what passed while we stood still", () => {
    const look = lonely()
    look(0, "ready")
    // The worker gave us up meanwhile, and is about to dial.
    const thawed = 10 * RECONNECT_MS
    expect(look(thawed, "absent")).toEqual([])
    expect(look(thawed + RECONNECT_MS, "absent")).toEqual([])
    expect(look(thawed + RECONNECT_MS + 250, "absent")).toHaveLength(1)
  })

  test("one that does not connect is given up, and another one started; that has as long again", () => {
    const look = lonely()
    expect(look(0, "absent")).toEqual([])
    expect(look(CONNECT_MS, "absent")).toEqual([])
    expect(look(CONNECT_MS + 250, "absent")).toEqual([{ _tag: "GiveUp", index: 0, afterMs: CONNECT_MS }])
    expect(look(CONNECT_MS + 500)).toEqual([{ _tag: "Start", index: 0 }])
    expect(look(CONNECT_MS + 750, "absent", "second")).toEqual([])
    expect(look(2 * CONNECT_MS + 750, "absent", "second")).toEqual([])
  })

  test("one that crashed has as long to connect as at first", () => {
    const look = lonely()
    look(0, "ready")
    expect(look(250, "absent", "second")).toEqual([])
    expect(look(250 + CONNECT_MS, "absent", "second")).toEqual([])
    expect(look(500 + CONNECT_MS, "absent", "second")).toHaveLength(1)
  })

  test("one that waits to be started again is left to do so", () => {
    const fleet = new FleetState({ least: 1, most: 2, ...times })
    const waiting = [{ index: 0, state: "absent", process: undefined } as const]
    fleet.look(sights("ready"), last, 0)
    expect(fleet.look(waiting, last, 250)).toEqual([])
    expect(fleet.look(waiting, last, 100_000)).toEqual([])
  })

  test("one that was started again while it drained is told again", () => {
    const fleet = fleetOf(1)
    fleet.look(sights("ready", "ready"), last, 0)
    fleet.look(sights("ready", "draining"), last, 250)
    expect(fleet.look(sights("ready", "starting"), last, 500)).toEqual([{ _tag: "Drain", index: 1 }])
  })

  test("one that somebody else drains is replaced at once where there is a number left, and not drained in its stead", () => {
    expect(fleetOf(2).look(sights("ready", "draining"), last, 0)).toEqual([{ _tag: "Start", index: 2 }])
    expect(fleetOf(2, 2).look(sights("ready", "draining"), last, 0)).toEqual([])
  })

  test("a new one takes over those there are", () => {
    const fleet = new FleetState({ least: 1, most: 8, ...times })
    expect(fleet.look(sights("ready", "draining", "ready", "absent"), last, 0)).toEqual([])
  })

  test("measures how long workers take to start, the latest with half the weight", () => {
    const fleet = fleetOf(1)
    expect(fleet.coldStartMs).toBeNaN()
    fleet.look([], last, 0)
    fleet.look(sights("absent"), last, 1000)
    fleet.look(sights("starting"), last, 2000)
    fleet.look(sights("ready"), last, 3000)
    expect(fleet.coldStartMs).toBe(3000)
    fleet.wanted = 2
    fleet.look(sights("ready"), last, 4000)
    fleet.look(sights("ready", "ready"), last, 5000)
    expect(fleet.coldStartMs).toBe(2000)
  })
})

describe("planted defects of it", () => {
  const planted = (change: (fleet: FleetState, options: FleetOptions) => Partial<Fleet>): Subject => ({
    make: (options) => {
      const fleet = new FleetState(options)
      return Object.assign(Object.create(fleet) as FleetState, change(fleet, options))
    }
  })
  const defects: ReadonlyArray<Planted<Subject>> = [
    [
      "does not count those on their way out among the processes",
      "fleet-bounded",
      {
        make: (options) => {
          const fleet = new FleetState({ ...options, most: options.most + 2 })
          return fleet
        }
      }
    ],
    [
      "drains one more while it starts one",
      "fleet-keeps-enough",
      planted((fleet) => ({
        look: (seen, choose, nowMs) => {
          const orders = fleet.look(seen, choose, nowMs)
          const ready = seen.find(({ state }) => state === "ready")
          return orders.length > 0 && ready !== undefined
            ? [...orders, { _tag: "Drain", index: ready.index }]
            : orders
        }
      }))
    ],
    [
      "orders a drain once, and believes in it",
      "fleet-converges",
      planted((fleet) => {
        const told = new Set<number>()
        return {
          look: (seen, choose, nowMs) =>
            fleet.look(seen, choose, nowMs).filter(({ _tag, index }) => {
              if (_tag !== "Drain") return true
              if (told.has(index)) return false
              told.add(index)
              return true
            })
        }
      })
    ],
    [
      "never gives up one that drains",
      "fleet-converges",
      planted((fleet) => ({
        look: (seen, choose, nowMs) => fleet.look(seen, choose, nowMs).filter(({ _tag }) => _tag !== "Stop")
      }))
    ],
    [
      "waits without end for one that hangs",
      "fleet-converges",
      planted((fleet) => ({
        look: (seen, choose, nowMs) => fleet.look(seen, choose, nowMs).filter(({ _tag }) => _tag !== "GiveUp")
      }))
    ],
    ["tries to start at every look", "fleet-retries", planted(() => ({ startFailed: () => {} }))]
  ]
  findsAll(laws, defects)
})
