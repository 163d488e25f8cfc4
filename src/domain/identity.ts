/** How a peer may call itself. */
export const identityPattern = /^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$/
/** The same, to be read after "must be". */
export const IDENTITY_RULE = "1 to 128 letters, digits and . _ : @ / -, beginning with a letter or digit"
