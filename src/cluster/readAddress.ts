import * as Effect from "effect/Effect"
import { type Address, parseAddress } from "../client/address.ts"
import { type CliFailure, misused } from "./cli/CliFailure.ts"

/** The address that `--address` gives. */
export const readAddress = (address: string): Effect.Effect<Address, CliFailure> =>
  Effect.try({
    try: () => parseAddress(address),
    catch: (error) => misused(`--address: ${(error as Error).message}.`)
  })
