import fc from "fast-check"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { keysOf } from "../../src/domain/config/assign.ts"
import { everyOption, type OptionPlace } from "../../src/domain/config/everyOption.ts"
import { chosen } from "../../src/policies/pipelines.ts"
import { makeSchema } from "../../src/domain/config/schema.ts"

export const schema = makeSchema(catalogue)

/** Lists that may be empty, or hold policies of one's choice: their entries stand only where a file or a preset puts them. */
export const isListed = (path: string): boolean => /^(tenants|pipeline\.(admission|rescue))(\[|$)/.test(path)

/** Options that can be set by themselves: of the policies' options only those of the default pipeline. */
const inForce = (option: OptionPlace): boolean =>
  !isListed(option.path) &&
  (option.only === undefined ||
    option.only === 'kind "simulated"' ||
    Object.entries(Object.values(catalogue.pipelines)[0]!).some(
      ([point, named]) =>
        option.path.startsWith(`pipeline.${point}.`) &&
        [named]
          .flat()
          .some(
            (each) =>
              typeof each !== "number" &&
              each !== undefined &&
              option.only === `policy "${chosen(each).policy}"`
          )
    ))

/** Every such option that the default configuration has, at the first entry of lists. */
export const options = [...everyOption(schema)]
  .filter(inForce)
  .map(({ path, leaf }) => ({ path: path.replaceAll("[]", "[0]"), leaf }))

/** Options that decide which others there are. */
export const isTag = (path: string): boolean => /\.(kind|policy)$/.test(path)

/** The file `{ a: { b: [{ c: value }] } }` for the path `a.b[0].c`. */
export const fileWith = (path: string, value: unknown): unknown =>
  keysOf(path).reduceRight<unknown>((inner, key) => (/^\d+$/.test(key) ? [inner] : { [key]: inner }), value)

/** Values that an option accepts, as a file would hold them. */
export const accepted = ({ leaf }: (typeof options)[number]): fc.Arbitrary<unknown> => {
  const any = {
    integer: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 2_000_000 })),
    number: fc.double({ min: 0, max: 2000, noNaN: true }),
    boolean: fc.boolean(),
    text: fc.stringMatching(/^[a-z][a-z0-9.-]{0,20}$/),
    choice: fc.constantFrom(leaf.fallback),
    duration: fc
      .tuple(fc.integer({ min: 1, max: 5000 }), fc.constantFrom("millis", "seconds", "minutes", "hours"))
      .map(([count, unit]) => `${count} ${unit}`),
    secrets: fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9_-]{16,40}$/), { maxLength: 3 })
  }[leaf.kind]
  return fc
    .oneof(fc.constant(leaf.fallback), any)
    .filter((value) => value === undefined || leaf.decode(value) !== undefined)
}
