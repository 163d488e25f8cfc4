/** What tests did: properties that held, in so many runs in all; or a planted defect, and the runs after which its law found it, where those count. */
export type LawRecord =
  | { readonly properties: number; readonly runs: number }
  | { readonly defect: string; readonly law: string; readonly runs: number | null }

/** Who wants to know: nobody, unless `bun run laws` has started the tests. */
export const lawRecord: { tell: (what: LawRecord) => void } = { tell: () => undefined }
