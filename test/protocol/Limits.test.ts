import { expect, test } from "bun:test"
import {
  defaultLimits as of,
  FIRST_CREDIT,
  FIRST_CREDIT_BYTES,
  helloLimits,
  replyLimits
} from "../../src/protocol/Limits.ts"
import { sources } from "../support/repository.ts"

const kibibytes = (bytes: number): string => `${bytes / 1024} KiB`
const mebibytes = (bytes: number): string => `${bytes / 1024 / 1024} MiB`
const seconds = (ms: number): string => `${ms / 1000} s`
const grouped = (count: number): string => count.toLocaleString("en").replaceAll(",", " ")

const page = sources("docs", /^docs\/protocol\.md$/)[0]!.text
const said = new Map(
  [...page.matchAll(/^\| (.+?) +\| (.+?) +\|$/gm)].map((match) => [match[1]!, match[2]!] as const)
)

test.each([
  [
    "first frame of who dials: bytes, values, depth",
    [kibibytes(of.greetingFrameBytes), helloLimits.nodes, helloLimits.depth].join(", ")
  ],
  [
    "every other frame: bytes, values, depth",
    [`${mebibytes(of.frameBytes)} (\`frameBytes\` of WELCOME)`, grouped(of.nodes), of.depth].join(", ")
  ],
  [
    "the answer to an operator: bytes, values, depth",
    [mebibytes(of.frameBytes), grouped(replyLimits.nodes), replyLimits.depth].join(", ")
  ],
  [
    "values that a peer has the balancer scan",
    `${of.nodesPerSecond / 1_000_000} million a second, and as many at once`
  ],
  ["from connection to HELLO", seconds(of.greetingMs)],
  ["from the first to the last byte of a frame", seconds(of.frameMs)],
  ["control lane, data lane (what a peer has not read)", `${mebibytes(of.outboxBytes)} each`],
  ["connections of one address before their HELLO", `${of.strangers}, besides those of the last second`],
  ["what a client has not read for longer than a second", kibibytes(of.behindBytes)]
])("docs/protocol.md says of %s: %s", (what, limit) => {
  expect(said.get(what)).toBe(limit)
})

test.each([
  `Who hears nothing for ${seconds(of.pingMs)}, or up to a quarter less, sends PING; who hears nothing for ${seconds(of.silenceMs)}`,
  `when no byte moves for ${seconds(of.goodbyeMs)}, or after ${seconds(of.unreadMs)} in all`,
  `or leaves bytes unread for ${seconds(of.unreadMs)}, is cut off`,
  `a credit of ${FIRST_CREDIT} tokens, and of ${kibibytes(FIRST_CREDIT_BYTES)} of TOKEN frames`
])("docs/protocol.md says: %s", (sentence) => {
  expect(page.replaceAll("\n", " ")).toContain(sentence)
})
