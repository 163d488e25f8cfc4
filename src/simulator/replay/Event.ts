/** What happens in a replay, each with what its two integers are. A worker is given by the serial of its process. */
export const Event = {
  /** An attempt reaches its worker; the request's number. */
  assigned: 0,
  /** A worker hears that an attempt is called off. */
  cancelled: 1,
  /** It is time to look at the steps of a worker; the number of that. */
  step: 2,
  /** The balancer hears of a first token, of the end of an attempt, or of a prompt too long: attempt, and the request's number. */
  first: 3,
  done: 4,
  refused: 5,
  /** A worker says how it is, and the balancer hears it. */
  beat: 6,
  heard: 7,
  /** The balancer looks at the time; whether it was woken for that. */
  tick: 8,
  settle: 9,
  /** The balancer hears what a worker's cache holds. */
  cache: 10,
  /** The balancer hears that a prompt was read: attempt, and the request's number. */
  read: 11,
  /** A KV cache may have arrived at a worker. */
  arrived: 12,
  /** A client that has thought sends the request of this number. */
  asked: 13,
  /** The process of a worker has started; the balancer has a connection to it; it hears that it is to leave; its connection has ended. */
  dialled: 14,
  joined: 15,
  drained: 16,
  parted: 17,
  /** A crash, by its place in the list. */
  crashed: 18,
  /** A slow-down begins or ends: the worker's slot. */
  slowed: 19,
  /** The balancer looks who is silent, and how many workers there should be. */
  check: 20,
  look: 21,
  /** The balancer hears that steps of a worker have ended; how many in all. */
  stepped: 22
} as const

/** Between two looks of the balancer at the time. */
export const TICK_MS = 20
