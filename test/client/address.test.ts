import { expect, test } from "bun:test"
import { formatAddress, parseAddress } from "../../src/client/address.ts"

test.each([
  ["127.0.0.1:7420", { host: "127.0.0.1", port: 7420 }],
  ["balancer.local:1", { host: "balancer.local", port: 1 }],
  ["[::1]:65535", { host: "::1", port: 65_535 }]
])("%s", (text, address) => {
  expect(parseAddress(text)).toEqual(address)
  expect(formatAddress(address)).toBe(text)
})

test.each([
  "",
  "localhost",
  ":7420",
  "host:",
  "host:0",
  "host:65536",
  "host:http",
  "http://host:1",
  "::1:7420",
  "a@b:1",
  "a b:1",
  "[]:1",
  "a\0b:1"
])("%p is no address", (text) => {
  expect(() => parseAddress(text)).toThrow("expected host:port")
})

test.each([
  { host: "", port: 7420 },
  { host: "a b", port: 7420 },
  { host: "a\0b", port: 7420 },
  { host: "[::1]", port: 7420 },
  { host: "a", port: 0 },
  { host: "a", port: 65_536 },
  { host: "a", port: 1.5 },
  { host: "a", port: Number.NaN }
])("%o is no address", (address) => {
  expect(() => parseAddress(address)).toThrow("expected host:port")
})
