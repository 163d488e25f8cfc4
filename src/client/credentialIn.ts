/** The credential that options hold, if any. Throws a `RangeError` for what is no text. */
export const credentialIn = ({
  credential
}: {
  readonly credential?: string | undefined
}): string | undefined => {
  if (credential === undefined || typeof credential === "string") return credential
  throw new RangeError("credential must be text")
}
