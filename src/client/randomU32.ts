/** A source of uniform 32-bit numbers. Clients take one, so that tests can bring a seeded one. */
export type RandomU32 = () => number

/** Draws many numbers at a time: the system call costs more than the numbers. */
const pool = new Uint32Array(256)
let used = pool.length

/** The machine's cryptographic generator: ids made from it do not collide, whoever else makes some. Cost: about 5 ns. */
export const randomU32: RandomU32 = () => {
  if (used === pool.length) {
    crypto.getRandomValues(pool)
    used = 0
  }
  return pool[used++]!
}
