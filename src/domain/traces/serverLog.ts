import type { NumberedText } from "./lines.ts"
import { momentOf } from "./moment.ts"

/** Prompt tokens of a block: those of one in vLLM's own prefix cache. */
export const LOG_BLOCK = 16

/** What every version writes of a request that came. */
export const LOG_MARK = "Received request "

/** What the log says of one request. What it does not say is undefined. */
export interface LoggedRequest {
  /** The first line that tells of it. */
  readonly number: number
  /** A date and a time. */
  readonly time: string
  readonly promptTokens: number | undefined
  readonly outputTokens: number | undefined
  /** Of the full blocks of the prompt. */
  readonly blocks: ReadonlyArray<number>
}

/**
 * The requests in the log of `vllm serve`, in order of arrival. Lines that do not tell of a request are passed over. Times are whole seconds,
 * and requests spread evenly in each, unless who kept the log put finer ones in front. The years are made up, with a 29 February where there
 * is one.
 *
 * Memory: the token ids of all prompts, but for what they share. Source: vllm-project/vllm, RequestLogger, from 0.10.2 on.
 */
export const requestsIn = (lines: Iterable<NumberedText>): ReadonlyArray<LoggedRequest> => {
  const logged: Array<Logged> = []
  const latest = new Map<string, Logged>()
  const blocks = new Blocks()
  /** New years since the start, and until the first 29 February. */
  let years = 0
  let yearsToLeap: number | undefined
  let lastMonth = 0
  for (const { number, text } of lines) {
    const [, before = "", month, day, clock, said = ""] = LINE.exec(text) ?? []
    const moment = MOMENT.exec(before)?.[0]
    const message = moment === undefined ? said : said.replaceAll(DOCKER_MOMENTS, "")
    const [, kind, id = "", detail] = MESSAGE.exec(message) ?? []
    if (kind === undefined) continue
    if (kind === "Generated response") {
      latest.get(id)?.hear(message, detail)
      continue
    }
    let request = latest.get(id)
    // Some versions write two lines. Clients may give ids of their own, and one twice.
    if (request === undefined || request.kinds.has(kind)) {
      if (Number(month) + MONTHS_BACK < lastMonth) years++
      lastMonth = Number(month)
      if (month === "02" && day === "29") yearsToLeap ??= years
      request = new Logged(
        number,
        moment ?? `${month}-${day} ${clock}`,
        moment === undefined ? years : undefined
      )
      latest.set(id, request)
      logged.push(request)
    }
    request.kinds.add(kind)
    // Of two lines the first has them: the other has parameters, in which clients write texts as well.
    const ids = request.promptTokens === undefined ? idsIn(message, "prompt_token_ids", LIST) : undefined
    if (ids === undefined) continue
    request.promptTokens = ids.length
    request.blocks = blocks.of(ids)
  }
  const firstYear = yearsToLeap === undefined ? PLAIN_YEAR : LEAP_YEAR - yearsToLeap
  for (const request of logged) request.date(firstYear)
  logged.sort((a, b) => a.atMs - b.atMs)
  spread(logged)
  return logged
}

/** The log names no year: one that has a 29 February, and one before two others without. */
const LEAP_YEAR = 2024
const PLAIN_YEAR = 2021
/** Months that the date goes back by only where a year begins. */
const MONTHS_BACK = 6

/** What others put in front; vLLM's level, date, time, and place in its code, perhaps in colours; and what it says. */
const LINE = /^(.{0,256}?)(?:INFO|DEBUG)\S* \S*?(\d\d)-(\d\d) (\d\d:\d\d:\d\d)\S* [^\s\]]+\]\S* (.+)$/

/** What a line tells, the id of the request, and whether that is all. */
const MESSAGE =
  /^(Received request|Request|Generated response) (\S+?)(?: \(streaming (delta|complete)\))?(?: (?:prompt )?details)?: /

/** The time that `docker logs --timestamps` puts in front of a line, as `kubectl logs` does. */
const MOMENT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/

/** Docker cuts lines into parts of 16 KiB, and has the time in front of each. Source: moby/moby, write_log_stream.go. */
const DOCKER_MOMENTS = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z /g

/** What stands for the answer's text where the server does not keep that. */
const COMPLETE =
  /: output: '<streaming_complete: (\d+) tokens>', (?:output_token_ids: None, )?finish_reason: /

class Logged implements LoggedRequest {
  readonly number: number
  time: string
  /** The same: fractions of a second may be of any length, and clocks are set back and forth. 0 where it is none. */
  atMs = 0
  /** New years between the first request and this one, where the log does not name the year. */
  private readonly years: number | undefined
  /** The lines that told of it before its answer. */
  readonly kinds = new Set<string>()
  promptTokens: number | undefined
  outputTokens: number | undefined
  blocks: ReadonlyArray<number> = []

  constructor(number: number, time: string, years: number | undefined) {
    this.number = number
    this.time = time
    this.years = years
  }

  /** Says in which year it came, where the log does not. */
  date(firstYear: number): void {
    if (this.years !== undefined) this.time = `${firstYear + this.years}-${this.time}`
    this.atMs = momentOf(this.time) || 0
  }

  /** Adds what was produced: a whole answer, one of several that were asked for, or a part of one. */
  hear(message: string, detail: string | undefined): void {
    // Behind the answer's text, which may look like anything, and before the reason; or in a line without either.
    const end = message.lastIndexOf(", finish_reason: ")
    const ids =
      end === -1
        ? idsIn(message, "output_token_ids", LIST)
        : idsIn(message.slice(0, end), "output_token_ids", WHOLE_LIST)
    if (ids !== undefined) this.outputTokens = (this.outputTokens ?? 0) + ids.length
    const all = detail === "complete" ? COMPLETE.exec(message)?.[1] : undefined
    if (all !== undefined) this.outputTokens ??= Number(all)
  }
}

/** The token ids behind a name, each as text. Texts that clients wrote come before it. */
const idsIn = (message: string, name: string, pattern: RegExp): ReadonlyArray<string> | undefined => {
  const start = message.lastIndexOf(`${name}: `)
  const list = start === -1 ? undefined : pattern.exec(message.slice(start + name.length + 2))?.[1]
  return list === undefined ? undefined : (list.match(/\d+/g) ?? [])
}

/** As Python writes a list, a tuple or an array. */
const LIST = /^(?:array\('\w', )?[[(]([\d, ]*)[\])]/
const WHOLE_LIST = new RegExp(`${LIST.source}{1,2}$`)

/** Numbers for blocks of prompts: equal ones for equal tokens behind equal blocks. */
class Blocks {
  private readonly numbers = new Map<string, number>()

  of(ids: ReadonlyArray<string>): ReadonlyArray<number> {
    const blocks: Array<number> = []
    for (let end = LOG_BLOCK; end <= ids.length; end += LOG_BLOCK) {
      const key = `${blocks.at(-1)}:${ids.slice(end - LOG_BLOCK, end).join()}`
      const number = this.numbers.get(key) ?? this.numbers.size
      this.numbers.set(key, number)
      blocks.push(number)
    }
    return blocks
  }
}

/** Spreads those that came in one second evenly in it, where nothing finer is known. */
const spread = (logged: ReadonlyArray<Logged>): void => {
  const seconds = Map.groupBy(
    logged.filter(({ time }) => WHOLE.test(time)),
    ({ time }) => time
  )
  for (const [time, those] of seconds) {
    const [, second, zone = ""] = WHOLE.exec(time)!
    for (const [i, request] of those.entries())
      request.time = `${second}.${String(Math.floor((1e6 * i) / those.length)).padStart(6, "0")}${zone}`
  }
}

const WHOLE = /^(.{10}[ T]\d\d:\d\d:\d\d)(Z|[+-]\d\d:\d\d)?$/
