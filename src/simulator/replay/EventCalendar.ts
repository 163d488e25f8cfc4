import { assert } from "../../structures/assert.ts"
import { bytes, grow, ints } from "../../structures/grow.ts"

const DAYS_MIN = 256
/** The length of a day is looked at after so many events, and set to two of them where it is not between one and four. */
const REVIEW = 1024
const DAY_EVENTS = 2
const DAY_EVENTS_MIN = 1
const DAY_EVENTS_MAX = 4

/**
 * Events in order of time, and of events at the same time in the order they were added. An event is a kind and two integers; what they
 * mean is the caller's. Times are finite.
 *
 * A calendar queue. Time is cut into days, and each day of the year has a ring of its events, in order, those of later years behind. Days
 * are so long that a few events fall on each, and a year has as many days as there is room for events: so adding and taking one costs the
 * same however many there are, where times lie evenly, and at worst O(events). Columns grow by doubling; nothing is allocated but then,
 * and when the length of a day changes.
 *
 * Source: R. Brown, Calendar queues, Communications of the ACM 31(10), 1988.
 */
export class EventCalendar {
  size = 0
  /** When the first event is due; infinite where there is none. */
  nextMs = Number.POSITIVE_INFINITY
  /** What time it is: when the event was due that `take` gave last, or later, where that was said since. */
  timeMs = 0
  /** Of the event that `take` gave last. */
  kind = 0
  a = 0
  b = 0
  private first = 0
  /** Days of a year, and places for events: a power of two. */
  private days = 0
  private daysPerMs = 1
  /** Events taken since the length of a day was looked at, and when that was. */
  private taken = 0
  private reviewedMs = 0
  /** From `size` on: the free places. */
  private places = new Int32Array(0)
  /** By place. */
  private kinds = new Uint8Array(0)
  private as = new Int32Array(0)
  private bs = new Int32Array(0)
  /** By place, and behind all places by day: the time, before all times for a day, and who stands before and behind in the ring. */
  private times = new Float64Array(0)
  private before = new Int32Array(0)
  private behind = new Int32Array(0)

  /** Time goes on, and not beyond the first event. */
  pass(timeMs: number): void {
    assert(timeMs >= this.timeMs, "time goes on")
    this.timeMs = timeMs
  }

  /** Adds an event that is due this long after the present. */
  after(delayMs: number, kind: number, a = 0, b = 0): void {
    this.add(this.timeMs + delayMs, kind, a, b)
  }

  add(timeMs: number, kind: number, a = 0, b = 0): void {
    if (this.size === this.days) this.arrange(Math.max(DAYS_MIN, 2 * this.days), this.daysPerMs)
    const place = this.places[this.size++]!
    this.kinds[place] = kind
    this.as[place] = a
    this.bs[place] = b
    this.times[place] = timeMs
    this.enter(place, timeMs)
    if (timeMs < this.nextMs) {
      this.nextMs = timeMs
      this.first = place
    }
  }

  /** Takes the first event out; its parts are in the fields from then on. False when there is none. */
  take(): boolean {
    if (this.size === 0) return false
    const { before, behind, first } = this
    this.timeMs = this.nextMs
    this.kind = this.kinds[first]!
    this.a = this.as[first]!
    this.b = this.bs[first]!
    behind[before[first]!] = behind[first]!
    before[behind[first]!] = before[first]!
    this.places[--this.size] = first
    if (++this.taken === REVIEW) this.review()
    this.find()
    return true
  }

  /** When the first event is due that is of none of these kinds, each a bit; infinite where there is none. O(events). */
  nextBut(kinds: number): number {
    const { behind, days, times } = this
    let nextMs = Number.POSITIVE_INFINITY
    for (let day = days; day < 2 * days; day++)
      for (let place = behind[day]!; place < days; place = behind[place]!)
        if (((kinds >> this.kinds[place]!) & 1) === 0 && times[place]! < nextMs) nextMs = times[place]!
    return nextMs
  }

  /** Puts an event that was added last into the ring of its day: of equal times the others come first. */
  private enter(place: number, timeMs: number): void {
    const { before, behind, days, times } = this
    let at = before[days + (Math.floor(timeMs * this.daysPerMs) & (days - 1))]!
    while (times[at]! > timeMs) at = before[at]!
    const next = behind[at]!
    behind[at] = place
    before[place] = at
    behind[place] = next
    before[next] = place
  }

  /** Finds the first event: none is earlier than the last one that was taken. */
  private find(): void {
    this.nextMs = Number.POSITIVE_INFINITY
    if (this.size === 0) return
    const { behind, days, daysPerMs, times } = this
    const today = Math.floor(this.timeMs * daysPerMs)
    for (let i = 0; i < days; i++) {
      const place = behind[days + ((today + i) & (days - 1))]!
      if (place >= days || times[place]! * daysPerMs >= today + i + 1) continue
      this.first = place
      this.nextMs = times[place]!
      return
    }
    // Nothing within a year.
    for (let day = days; day < 2 * days; day++) {
      const place = behind[day]!
      if (place >= days || times[place]! >= this.nextMs) continue
      this.first = place
      this.nextMs = times[place]!
    }
  }

  private review(): void {
    const elapsedMs = this.timeMs - this.reviewedMs
    const dayEvents = REVIEW / (elapsedMs * this.daysPerMs)
    if (elapsedMs > 0 && (dayEvents < DAY_EVENTS_MIN || dayEvents > DAY_EVENTS_MAX))
      this.arrange(this.days, REVIEW / (elapsedMs * DAY_EVENTS))
    this.taken = 0
    this.reviewedMs = this.timeMs
  }

  /** Enters all events into a new year. */
  private arrange(days: number, daysPerMs: number): void {
    const { behind, days: placed, times } = this
    this.days = days
    this.daysPerMs = daysPerMs
    if (days > placed) {
      this.places = numbers(days)
      this.kinds = grow(this.kinds, days - 1, bytes)
      this.as = grow(this.as, days - 1, ints)
      this.bs = grow(this.bs, days - 1, ints)
    }
    this.times = new Float64Array(2 * days).fill(Number.NEGATIVE_INFINITY)
    this.times.set(times.subarray(0, placed))
    this.before = numbers(2 * days)
    this.behind = numbers(2 * days)
    for (let day = placed; day < 2 * placed; day++)
      for (let place = behind[day]!; place < placed; place = behind[place]!) this.enter(place, times[place]!)
  }
}

const numbers = (count: number): Int32Array<ArrayBuffer> => Int32Array.from({ length: count }, (_, i) => i)
