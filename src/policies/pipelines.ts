/** One policy for each decision point, by name, with its options at their defaults. */
export interface PolicyNames {
  readonly admission: string
  readonly ordering: string
  readonly placement: string
}

/** The named pipelines that a config can start from. */
export const pipelines = {
  /** For a few equal workers and requests of similar length: nothing to tune. */
  simple: { admission: "queue-bounds", ordering: "arrival", placement: "power-of-two" }
} as const satisfies Record<string, PolicyNames>
