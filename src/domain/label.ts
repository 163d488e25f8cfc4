/** How a model or a tenant may be called. */
export const labelPattern = /^[\x21-\x7e]{1,128}$/
/** The same, to be read after "must be". */
export const LABEL_RULE = "1 to 128 visible ASCII characters"
