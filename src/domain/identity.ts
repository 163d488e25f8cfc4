/** How a peer may call itself: 1 to 128 letters, digits and `. _ : @ / -`, the first a letter or digit. */
export const identityPattern = /^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$/
