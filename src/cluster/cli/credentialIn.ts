import type { Surroundings } from "./Shell.ts"

/** The first credential of a role that the environment holds: unlike a command line, it is not public. */
export const credentialIn = (
  { environment }: Pick<Surroundings, "environment">,
  role: "CLIENTS" | "ADMINS"
): string | undefined => environment[`PARALLAX_AUTH_${role}`]?.split(",")[0]
