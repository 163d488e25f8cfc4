import type { WorkerLoad } from "../domain/WorkerLoad.ts"

/** What a link tells the balancer about one request. The facts themselves lie in the `RequestTable`. */
export const News = {
  submitted: 0,
  /** The first token was relayed. */
  first: 1,
  /** DONE was relayed. */
  done: 2,
  /** The live attempt failed. */
  failed: 3,
  cancelled: 4,
  /** After a restart: the request exists. */
  announced: 5,
  /** Of two tied attempts one is over: the other goes on, and is the live one. */
  untied: 6,
  /** The prompt of a split request was read. */
  read: 7
} as const

const KIND_BITS = 3
const SLOT_BITS = 16
/** So many bits of the ticket fit into a small integer: news would have to wait for 4,096 uses of its slot to be mistaken. */
const TICKET_MASK = 0xfff

/** One piece of news as a small integer, so that telling it allocates nothing. `stream` is the request's stream id. */
export const news = (kind: number, stream: number): number =>
  (((stream >>> SLOT_BITS) & TICKET_MASK) << (SLOT_BITS + KIND_BITS)) |
  ((stream & 0xffff) << KIND_BITS) |
  kind
export const kindOf = (message: number): number => message & ((1 << KIND_BITS) - 1)
export const slotOf = (message: number): number => (message >>> KIND_BITS) & 0xffff
/** Whether news was told about this use of its slot. */
export const isAbout = (message: number, stream: number): boolean =>
  message >>> (SLOT_BITS + KIND_BITS) === ((stream >>> SLOT_BITS) & TICKET_MASK)

/** Rare news, and orders. */
export type BalancerOrder =
  | { readonly _tag: "Member"; readonly model: number; readonly worker: number; readonly ready: boolean }
  /** After a restart: all members were told. */
  | { readonly _tag: "Informed" }
  /** After a restart: all requests were told. */
  | { readonly _tag: "Announced" }
  | { readonly _tag: "Load"; readonly worker: number; readonly load: WorkerLoad }
  | { readonly _tag: "Tick" }
  /** All that was told before it happened at the same moment. */
  | { readonly _tag: "Settle" }
  | { readonly _tag: "Drain" }
  /** Ends what a drain has left. */
  | { readonly _tag: "GiveUp" }
  /** Fault injection: the handler throws. */
  | { readonly _tag: "Crash" }

export type BalancerMessage = number | BalancerOrder
