import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Config } from "../domain/Config.ts"
import { isNodeCredential } from "../protocol/credentials.ts"
import { type CliFailure, misused } from "./cli/CliFailure.ts"

/** The secrets by which peers of a role are let in here. The key of one peer is none: nobody could prove it. */
export const secretsOf = (
  { auth }: Config,
  role: "client" | "worker" | "admin"
): Effect.Effect<ReadonlyArray<string>, CliFailure> => {
  const secrets = auth[`${role}s`].map(Redacted.value)
  return secrets.some(isNodeCredential)
    ? misused(`auth.${role}s holds the key of one peer: give the secret that keys are made of.`)
    : Effect.succeed(secrets)
}
