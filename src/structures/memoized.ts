/** The same function, which remembers up to `max` of the values it made, and gives up first what it made first. */
export const memoized = <Key, Value>(max: number, make: (key: Key) => Value): ((key: Key) => Value) => {
  const made = new Map<Key, { readonly value: Value }>()
  return (key) => {
    const known = made.get(key)
    if (known !== undefined) return known.value
    const value = make(key)
    if (made.size === max) made.delete(made.keys().next().value!)
    made.set(key, { value })
    return value
  }
}
